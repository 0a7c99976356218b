"""Progress of a run: events, observers, watchdog, status and history."""
