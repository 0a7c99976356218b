"""Blocks predicted on a GPU as a whole: integers up, integers down."""
