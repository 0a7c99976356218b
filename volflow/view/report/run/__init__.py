"""The report of a run: overview picture, page and summary."""
