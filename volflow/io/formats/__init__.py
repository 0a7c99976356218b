"""Volume formats; tensorstore is imported here and in `io` only."""
