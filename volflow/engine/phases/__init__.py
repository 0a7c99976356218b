"""Kinds of phases and sources: how a block is read, computed and written, and what it costs.

A kind of phase is one class in one file, listed by its stored name in `registry.py`; no code
outside this package distinguishes kinds.
"""
