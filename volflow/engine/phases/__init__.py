"""Phases: how one block of each kind of phase reads, computes and writes."""
