"""How far the voxels of an MNet see, followed through its mesh from the answer to the image."""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[int, int]
"""First and last voxel along one axis, both included."""
Place = tuple[int, int]
"""Row and level of a node, from 1."""


class Sight:
    """What of the input, along one axis, the parts of the mesh depend on.

    `halvings` of z, None along y and x, which every node pools alike.
    """

    def __init__(self, levels: int, halvings: int | None, skips: bool) -> None:
        self.levels, self.halvings, self.skips = levels, halvings, skips
        self.found: dict[tuple[str, Place, Span], Span] = {}

    def of_answer(self, span: Span) -> Span:
        """What the voxels of the answer from the span's first to its last depend on."""
        return self._through("decoded", (1, 1), span, solid=True)

    def _through(self, part: str, at: Place, span: Span, solid: bool) -> Span:
        """By what a node of the encoder or decoder makes, through its 2D or 3D convolutions."""
        reach = 2 if solid or self.halvings is None else 0
        span = span[0] - reach, span[1] + reach
        key = part, at, span
        if key not in self.found:
            self.found[key] = self._met(*key)
        return self.found[key]

    def _met(self, part: str, at: Place, span: Span) -> Span:
        """By what meets in a node."""
        row, level = at
        if part == "encoded":
            spans = [span] if level == 1 else []
            if row < level:
                spans.append(self._through(part, (row, level - 1), self._fine(span, None), False))
            if row > 1:
                fine = self._fine(span, row - 1)
                spans.append(self._through(part, (row - 1, level - 1), fine, True))
            return _hull(spans)
        spans = []
        if self.skips:  # 3D convolutions see whatever 2D ones see
            spans.append(self._through("encoded", at, span, True))
        deeper = "encoded" if level + 1 == self.levels else part
        spans.append(self._through(deeper, (row, level + 1), self._coarse(span, None), False))
        spans.append(self._through(deeper, (row + 1, level + 1), self._coarse(span, row), True))
        return _hull(spans)

    def _pooled(self, row: int | None) -> bool:
        return self.halvings is None or (row is not None and row <= self.halvings)

    def _fine(self, span: Span, row: int | None) -> Span:
        return (2 * span[0], 2 * span[1] + 1) if self._pooled(row) else span

    def _coarse(self, span: Span, row: int | None) -> Span:
        # Between the two nearest: half a fine voxel beside the middle of the coarse one.
        return ((span[0] - 1) // 2, (span[1] - 1) // 2 + 1) if self._pooled(row) else span


def _hull(spans: Sequence[Span]) -> Span:
    return min(a for a, _ in spans), max(b for _, b in spans)
