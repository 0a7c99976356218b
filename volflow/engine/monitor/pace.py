"""Speed of a step, and the time it needs for the blocks that are left."""

from __future__ import annotations

import time
from collections import deque

from volflow.engine.result import StepResult

WINDOW = 120.0  # seconds over which the speed is measured


class Pace:
    """Blocks per second over the last two minutes.

    Right after a resume nothing is measured yet. Then the cost of the blocks of earlier sessions
    takes the place of measurements; it fades out within the window, so that neither the speed nor
    the time left jumps.

    Parameters
    ----------
    result : StepResult
        Of the step, as it starts.
    """

    def __init__(self, result: StepResult) -> None:
        self.workers = 1
        self._already, self._seconds_before = result.already, result.seconds_before
        self._started = time.monotonic()
        self._counts: deque[tuple[float, int]] = deque([(self._started, 0)])
        self._tried = 0

    def restart_clock(self) -> None:
        """Start to measure now, if no block is finished yet: a wait for workers does not count."""
        if len(self._counts) == 1:
            self._started = time.monotonic()
            self._counts[0] = self._started, 0

    def finished(self, blocks: int) -> None:
        """Record that blocks were done, or failed."""
        self._counts.append((time.monotonic(), blocks))

    def update(self, result: StepResult) -> None:
        """Record the blocks that were done, or failed, since the last call."""
        tried = result.done - result.already + len(result.failures)
        if tried > self._tried:
            self.finished(tried - self._tried)
            self._tried = tried

    @property
    def elapsed(self) -> float:
        """Seconds since the step started."""
        return time.monotonic() - self._started

    def blocks_per_second(self) -> float:
        """Present speed; 0 if unknown."""
        now = time.monotonic()
        while len(self._counts) > 2 and self._counts[0][0] < now - WINDOW:
            self._counts.popleft()
        counts = list(self._counts)
        blocks = float(sum(count for _, count in counts[1:]))
        seconds = now - counts[0][0]
        if self._already and self._seconds_before > 0:
            weight = max(0.0, 1 - (now - self._started) / WINDOW)
            per_block = self._seconds_before / self._already / max(1, self.workers)
            earlier = weight * min(self._already, WINDOW / per_block)
            blocks, seconds = blocks + earlier, seconds + earlier * per_block
        return blocks / max(seconds, 1e-3) if blocks else 0.0

    def seconds_left(self, blocks: int) -> float | None:
        """Seconds for so many blocks at the present speed; None if unknown."""
        speed = self.blocks_per_second()
        return blocks / speed if speed > 0 else None

    def voxels_per_second(self, result: StepResult) -> float:
        """Present speed in voxels of the volume; 0 if unknown."""
        return self.blocks_per_second() * result.extent / max(1, result.total)
