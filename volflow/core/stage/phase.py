"""One pass of a step over one grid of blocks."""

from __future__ import annotations

from dataclasses import dataclass

from volflow.core.geometry import BlockGrid, Box, Triple, zyx


@dataclass(frozen=True, slots=True)
class Phase:
    """One pass of a step over one grid of blocks.

    Attributes
    ----------
    name : str
        The phase's part of the ledger's path.
    kind : str
        How a block is run: `map`; `leaf`, `join`, `split` and `finish` of a reduction; `rows`,
        `gather` and `group` of a grouping; `chain`. `engine/phases` has one class per kind.
    grid : BlockGrid
    round_name : str
    level : int
        Level of the pyramid, or number of the round of a grouping.
    below : BlockGrid, optional
        Grid of the children of a join or split, or of the senders to a gather or group.
    root : bool
        Whether this is the top of a pyramid, or the last round of a grouping.
    previous : str
        Name of the previous round.
    zoom : (int, int, int)
        Input voxels per output voxel.
    scales : (int, int)
        The scale that is read and the scale that is written.
    part : (int, int, int), optional
        Approximate shape of the parts in which a block is computed, `run` being called for each.
        With a zoom a block covers many more input voxels than it writes.
    fine_bounds : Box, optional
        Of rows at a coarser scale: the bounds in input voxels.
    senders : tuple of Phase
        Of a gather: the phases whose rows it collects, the finest scale first.
    """

    name: str
    kind: str
    grid: BlockGrid
    round_name: str = ""
    level: int = 0
    below: BlockGrid | None = None
    root: bool = False
    previous: str = ""
    zoom: Triple = (1, 1, 1)
    scales: tuple[int, int] = (0, 0)
    part: Triple | None = None
    fine_bounds: Box | None = None
    senders: tuple[Phase, ...] = ()

    def part_of(self, chunk: Triple) -> Triple:
        """The shape of the parts, a multiple of the input's chunk on each axis.

        Raises
        ------
        ValueError
            If the phase does not compute its blocks in parts.
        """
        if self.part is None:
            raise ValueError(f"phase '{self.name}' does not compute its blocks in parts")
        unit = -(-zyx(chunk) // self.zoom)
        return (zyx(self.part) // unit).maximum(1) * unit
