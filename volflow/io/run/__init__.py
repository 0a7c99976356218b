"""Files of a run: ledger, lock, records."""
