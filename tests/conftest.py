"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# The same examples every time, and no deadline: machines that run tests are shared.
settings.register_profile("volflow", max_examples=40, deadline=None, derandomize=True)
settings.load_profile("volflow")
