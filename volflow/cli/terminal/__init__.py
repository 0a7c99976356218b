"""Options shared by verbs, formatting and progress on a terminal."""
