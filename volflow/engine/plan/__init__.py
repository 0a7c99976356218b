"""Planning: inputs opened, steps checked, digests and jobs computed before anything starts."""
