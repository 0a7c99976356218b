"""Training files: read and checked."""
