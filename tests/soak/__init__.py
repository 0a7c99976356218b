"""Runs that are harmed in every way we know, and what may be wrong with them afterwards."""
