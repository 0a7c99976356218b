"""The receptive field of an MNet, traced through its mesh from the output to the image."""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[int, int]
"""First and last voxel along one axis, both included."""
Place = tuple[int, int]
"""Row and level of a node, from 1."""

BLOCK = 2  # receptive field of the two convolutions of a block to each side, voxels


class ReceptiveField:
    """The span of the input, along one axis, that parts of the mesh depend on.

    `halvings` is the number of poolings of z, None along y and x, which every node pools. 2D
    convolutions do not extend along z, but every path through them has a parallel one through 3D
    convolutions: the mesh can be traced as if all convolutions were 3D.
    """

    def __init__(self, levels: int, halvings: int | None, skips: bool) -> None:
        self.levels, self.halvings, self.skips = levels, halvings, skips
        self.spans: dict[tuple[str, Place, Span], Span] = {}

    def of_output(self, span: Span) -> Span:
        """The span of the input that a span of the output depends on."""
        return self._through("decoded", (1, 1), span)

    def _through(self, part: str, at: Place, span: Span) -> Span:
        """The span of the input that a span of a node's output depends on."""
        key = part, at, (span[0] - BLOCK, span[1] + BLOCK)
        if key not in self.spans:
            self.spans[key] = self._of_input(*key)
        return self.spans[key]

    def _of_input(self, part: str, at: Place, span: Span) -> Span:
        """The span of the image that a span of a node's input depends on."""
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
        # Interpolated between the two nearest: a fine voxel is off the centre of the coarse one.
        return ((span[0] - 1) // 2, (span[1] - 1) // 2 + 1) if self._pooled(row) else span


def _hull(spans: Sequence[Span]) -> Span:
    return min(a for a, _ in spans), max(b for _, b in spans)
