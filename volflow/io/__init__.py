"""Volumes, records and markers on any store; the only place that knows tensorstore."""
