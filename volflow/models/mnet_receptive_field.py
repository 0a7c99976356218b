"""How far the voxels of an MNet see, followed through its mesh from the answer to the image."""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[int, int]
"""First and last voxel along one axis, both included."""
Place = tuple[int, int]
"""Row and level of a node, from 1."""


BLOCK = 2  # voxels that the two convolutions of a block reach to each side


class ReceptiveField:
    """What of the input, along one axis, the parts of the mesh depend on.

    `halvings` of z, None along y and x, which every node pools alike. Along z 2D convolutions reach
    nowhere, but beside every way through them there is one through 3D convolutions: it is enough
    to follow the mesh as if all of them reached as far.
    """

    def __init__(self, levels: int, halvings: int | None, skips: bool) -> None:
        self.levels, self.halvings, self.skips = levels, halvings, skips
        self.found: dict[tuple[str, Place, Span], Span] = {}

    def of_answer(self, span: Span) -> Span:
        """What the voxels of the answer from the span's first to its last depend on."""
        return self._through("decoded", (1, 1), span)

    def _through(self, part: str, at: Place, span: Span) -> Span:
        """What the answer of a node of the encoder or decoder depends on."""
        key = part, at, (span[0] - BLOCK, span[1] + BLOCK)
        if key not in self.found:
            self.found[key] = self._met(*key)
        return self.found[key]

    def _met(self, part: str, at: Place, span: Span) -> Span:
        """What that depends on which meets in a node."""
        row, level = at
        spans = []
        if part == "encoded":
            if level == 1:
                return span
            if row < level:
                spans.append(self._through(part, (row, level - 1), self._fine(span, None)))
            if row > 1:
                spans.append(self._through(part, (row - 1, level - 1), self._fine(span, row - 1)))
            return _hull(spans)
        if self.skips:
            spans.append(self._through("encoded", at, span))
        deeper = "encoded" if level + 1 == self.levels else part
        spans.append(self._through(deeper, (row, level + 1), self._coarse(span, None)))
        spans.append(self._through(deeper, (row + 1, level + 1), self._coarse(span, row)))
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
