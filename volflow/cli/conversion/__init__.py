"""The parts of `convert`."""
