"""The parts of `volflow score`."""
