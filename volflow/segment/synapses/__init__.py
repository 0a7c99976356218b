"""Synapses: evidence per block, then pairing of partners."""
