"""Progress of a run: observers, event log, watchdog, status, history and summary."""
