"""The report of a scoring: page, tables and plots."""
