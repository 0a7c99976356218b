"""What a stage is: typed parameters, what it reads and writes, and one pure function.

    Stage       map: each block alone
    Reduction   up a pyramid of grids, and down again where it is asked to
    Grouping    rows of all blocks brought together by key
    Pass        one sweep of a step over one grid; the engine runs nothing else

Still to come, as one more `kind` of pass: *chain*.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict

from volflow.core.geometry import Block, BlockGrid, Box, Triple, zyx
from volflow.errors import PlanError

Record: TypeAlias = dict[str, np.ndarray]
"""Named columns of one block."""

PhaseKind = Literal["map", "leaf", "join", "split", "finish", "rows", "gather", "group"]

HaloRegion: TypeAlias = Literal["box", "faces", "before", "after", "nothing"]

GATHERED: Triple = (8, 8, 8)  # blocks whose rows are gathered in one place before they part by key


@dataclass(frozen=True, slots=True)
class Layer:
    """A volume as a stage declares it.

    `dtype` empty and `channels` None mean *any* (for what a stage reads). `channels` 0 is an array
    without a channel axis. `blockwise` says that the bytes depend on the cut into blocks, so that
    whatever reads the layer is laid on the same blocks. Of an input of kind `skeletons` a block is
    given a record of the nodes in its read box (`Nodes.near` in `io/skeletons/placed_nodes.py`).
    `around` says of an input how much of the halo is read: the `box`, the `faces` of the block
    (edges and corners stay 0), those faces alone that lie `before` or `after` it along their axis,
    or `nothing`, and the array is over the write box. Of 27 chunks, 7, 4 or 1.
    """

    dtype: str = ""
    channels: int | None = None
    kind: Literal["", "image", "affinity", "segmentation", "skeletons"] = ""
    blockwise: bool = False
    halo_region: HaloRegion = "box"


@dataclass(frozen=True, slots=True)
class Columns:
    """A table per block, as a stage declares it: a dtype for each column's name."""

    dtypes: tuple[tuple[str, str], ...]


class NodeOutput(NamedTuple):
    """What a node of a reduction makes: `passed` to its parent, `kept` for the way down."""

    passed: Record
    kept: Record


class PreviousRound(NamedTuple):
    """A leaf's own part of the round before: what it kept, and what its parent handed down.

    `received` is None where the leaf was its own root. `beside` holds, by offset, the same of the
    blocks that the stage asked for (`Reduction.beside`).
    """

    kept: Record
    received: Record | None
    neighbour_records: Mapping[Triple, PreviousRound] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Phase:
    """One sweep of a step over one grid of blocks.

    `name` is its part of the ledger's path. `below` is the children's grid of a join or split;
    `root` marks the top of a tree. `zoom` is the number of input voxels per output voxel and
    `scales` the scale read and the scale written. With `zoom` a block stands for many more voxels
    than it has, so it is made in parts of about the shape `part`, `run` being called for each.
    """

    name: str
    kind: PhaseKind
    grid: BlockGrid
    round: str = ""
    level: int = 0
    below: BlockGrid | None = None
    root: bool = False
    previous: str = ""
    zoom: Triple = (1, 1, 1)
    scales: tuple[int, int] = (0, 0)
    part: Triple | None = None

    def part_of(self, chunk: Triple) -> Triple:
        """The shape of the parts, made of whole chunks of what is read; no part, no shape."""
        if self.part is None:
            raise ValueError(f"pass '{self.name}' is not made in parts")
        found = []
        for side, length, factor in zip(self.part, chunk, self.zoom, strict=True):
            unit = -(-length // factor)
            found.append(max(side // unit, 1) * unit)
        return zyx(found)


class Stage(BaseModel):
    """One kind of work on a block; its fields are its parameters.

    A subclass gives `outputs` and `run`. The keyword-only arguments of `run` are its inputs; one
    with a default is optional. An argument named `mask` is given the boolean mask over the read
    box (None where the pipeline has none); a stage without it has its outputs zeroed outside the
    mask. `version` is raised when the same input gives other bytes than before.
    `anchored` says that what a block does depends on the bounds it lies in (tiles, open faces): a
    trial of a few blocks then tells them those of the whole volume.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ClassVar[int] = 1
    pool: ClassVar[str] = "cpu"
    wants: ClassVar[dict[str, Layer]] = {}
    anchored: ClassVar[bool] = False

    @property
    def halo(self) -> Triple:
        """Voxels read beyond the write box on each side."""
        return (0, 0, 0)

    def halo_on(self, bounds: Box, shape: Triple) -> Triple:
        """The halo of blocks of a shape laid over bounds; for stages whose halo depends on them."""
        return self.halo

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        """What the stage writes, by name."""
        return {}

    @classmethod
    def entry(cls) -> Any:
        """The function whose keyword-only arguments are the stage's inputs."""
        return cls.run

    @classmethod
    def inputs(cls) -> dict[str, bool]:
        """The names of what the stage reads, and whether it must be there."""
        return dict(_inputs(cls.entry()))

    @classmethod
    def takes_mask(cls) -> bool:
        """Whether the stage is given the mask itself."""
        return "mask" in _signature(cls.entry()).parameters

    def memory(self, shape: Triple) -> int:
        """Bytes at the peak of one block whose read box has this shape, arrays read included."""
        return 32 * int(np.prod(shape))

    def effort(self, grid: BlockGrid, bounds: Box) -> float:
        """What the time of all blocks of a grid within bounds grows with; here voxels written."""
        return float(grid.bounds.size)

    def check(self, grid: BlockGrid) -> list[str]:
        """What is wrong with these parameters on this grid, one sentence each."""
        return []

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        """What is wrong with these parameters for what is read, one sentence each.

        `inputs` holds those that are wired, None for a table or what is not known; `resolution`
        is in nanometres.
        """
        return []

    def check_tables(self, tables: Mapping[str, Columns]) -> list[str]:
        """What is wrong with these parameters for the tables that are read, one sentence each.

        `tables` holds those inputs that are tables, by the input's name.
        """
        return []

    def identity(self) -> dict[str, Any]:
        """What the output depends on beside the inputs, as JSON; a file counts by its content."""
        return self.model_dump(mode="json")

    def reads(self, phase: Phase) -> frozenset[str]:
        """The inputs that a pass reads; the others are given to it as None."""
        return frozenset(self.inputs())

    def phases(self, grid: BlockGrid) -> tuple[Phase, ...]:
        """The sweeps over the blocks that make up the step."""
        return (Phase("map", "map", grid),)

    def unmet(self, result: Mapping[str, Any]) -> list[str]:
        """What the user requires of the step's result and it does not give, one sentence each."""
        return []

    def run(self, block: Block, **inputs: np.ndarray) -> dict[str, np.ndarray | Record]:
        """The outputs of one block, over its write box or its read box."""
        raise TypeError(f"{type(self).__name__} has no run()")


@lru_cache(maxsize=256)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """A function's signature; asked for each block, and costly to find."""
    return inspect.signature(function)


@lru_cache(maxsize=256)
def _inputs(function: Callable[..., Any]) -> dict[str, bool]:
    """The keyword-only arguments of a function but `mask`, and whether each must be given."""
    return {
        parameter.name: parameter.default is inspect.Parameter.empty
        for parameter in _signature(function).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.name != "mask"
    }


class Reduction(Stage):
    """Rounds up a pyramid of grids, from the blocks to one node; down again if `descends`.

    In a round each block makes a record (`leaf`), each node joins its children's (`join`), and
    on the way down each node hands every child a record (`split`). A leaf of the next round is
    given what it kept and what it was handed. At the end each block makes the step's outputs
    (`finish`), or the roots of the last round make its result (`result`).
    """

    @property
    def rounds(self) -> tuple[str, ...]:
        """The names of the rounds, in order."""
        return ("total",)

    @property
    def descends(self) -> bool:
        """Whether each round goes down the pyramid again."""
        return False

    @classmethod
    def entry(cls) -> Any:
        return cls.leaf

    def node_memory(self, shape: Triple) -> int:
        """Bytes at the peak of a node whose box has this shape."""
        return self.memory(shape)

    def phase_memory(self, phase: Phase, shape: Triple) -> int:
        """Bytes at the peak of the largest node of a join or split, whose box has this shape."""
        return self.node_memory(shape)

    def node_effort(self, phase: Phase, shape: Triple, open_share: float) -> float:
        """What the time of a node of a pass grows with, as the part of one of its children.

        Parameters
        ----------
        sweep : Pass
            A join, or a split.
        shape : (int, int, int)
            Of the child, in voxels.
        open : float
            The share of the child's surface, 0 to 1, that other blocks lie behind.
        """
        return float(self.node_memory(shape)) * (open_share if self.anchored else 1.0)

    def tree(self, round_name: str, grid: BlockGrid) -> tuple[BlockGrid, ...]:
        """The grids of a round, the blocks first, two blocks of each axis to a parent."""
        return pyramid(grid)

    def phases(self, grid: BlockGrid) -> tuple[Phase, ...]:
        return tuple(self._phases(grid))

    def _phases(self, grid: BlockGrid) -> Iterator[Phase]:
        previous = ""
        kind: PhaseKind
        below: BlockGrid | None
        for name in self.rounds:
            grids = self.tree(name, grid)
            top = len(grids) - 1
            for level, here in enumerate(grids):
                root = level == top
                if level:
                    kind, below, laid = "join", grids[level - 1], here
                else:
                    kind, below, laid = "leaf", None, grid
                yield Phase(f"{name}.up.{level}", kind, laid, name, level, below, root, previous)
            if self.descends:
                for level in range(top, 0, -1):
                    here, below, root = grids[level], grids[level - 1], level == top
                    yield Phase(f"{name}.down.{level}", "split", here, name, level, below, root)
            previous = name
        if self.outputs:
            yield Phase("finish", "finish", grid, previous=previous)

    def leaf(
        self, block: Block, round_name: str, previous: PreviousRound | None, **inputs: np.ndarray
    ) -> NodeOutput:
        """The record of one block; `previous` is None in the first round."""
        raise TypeError(f"{type(self).__name__} has no leaf()")

    def neighbour_records(self, block: Block, round_name: str) -> Sequence[Triple]:
        """The blocks whose part of the round before a leaf is given beside its own.

        Each is told by how many blocks it lies further along z, y, x, such as (-1, 0, 0). One that
        a part of the volume, done by itself as a trial is, does not have is left out.
        """
        return ()

    def base_round(self, round_name: str) -> str:
        """The round before it whose kept columns a block is given too, "" for none.

        For a round that changes few columns: what it keeps itself comes first.
        """
        return ""

    def join(self, block: Block, round_name: str, children: Sequence[Record]) -> NodeOutput:
        """The record of a node from those its children passed, in row-major order."""
        raise TypeError(f"{type(self).__name__} has no join()")

    def split(
        self, block: Block, round_name: str, kept: Record, received: Record | None
    ) -> Sequence[Record]:
        """What a node hands to each of its children; `received` is None at a root."""
        raise TypeError(f"{type(self).__name__} has no split()")

    def finish(self, block: Block, previous: PreviousRound) -> dict[str, np.ndarray | Record]:
        """The step's outputs of one block."""
        raise TypeError(f"{type(self).__name__} has no finish()")

    def result(self, roots: Sequence[Record]) -> dict[str, Any]:
        """The step's result as JSON, from what the roots of the last round passed."""
        return {}


class Group(NamedTuple):
    """What one partition of a grouping makes of its rows.

    `found` is kept for the result; `rows` go on to the next round and are empty in the last one.
    """

    found: Record
    rows: Record


class Grouping(Stage):
    """Rows from every block, brought together by key, in one or more rounds.

    Each block makes rows (`rows`: columns of equal length); rows of blocks that lie together are
    gathered and combined (`combine`), then parted by a hash of the columns that `key` names. A
    partition holds all rows of its keys and of no others: `group` makes of them what is found,
    and rows for the next round, parted anew. At the end `result` sees what all partitions found.

        blocks      [0][1][2][3]     rows
        gather      [  0-3  ][ ... ] combined, parted by the first round's key
        group       <p0> <p1> <p2>   everything about a key in one place; parted by the next key
        group       <p0> <p1> <p2>
    """

    @property
    def rounds(self) -> tuple[str, ...]:
        """The names of the rounds, in order."""
        return ("total",)

    @classmethod
    def entry(cls) -> Any:
        return cls.rows

    def key(self, round_name: str) -> tuple[str, ...]:
        """The columns, integers, of equal values in which the rows of a round belong together."""
        raise TypeError(f"{type(self).__name__} has no key()")

    def partitions(self, bounds: Box) -> int:
        """How many partitions each round has; a function of the volume, never of its blocks."""
        return 1

    def group_memory(self, bounds: Box) -> int:
        """Bytes at the peak of one partition."""
        return self.memory(bounds.shape) // self.partitions(bounds)

    def node_memory(self, shape: Triple) -> int:
        """Bytes at the peak of gathering the rows of a box of this shape."""
        return self.memory(shape)

    def phases(self, grid: BlockGrid) -> tuple[Phase, ...]:
        first, *later = self.rounds
        blocks = BlockGrid(grid.bounds, grid.shape)
        gathered = blocks.parent_grid(GATHERED)
        parts = BlockGrid(Box((0, 0, 0), (self.partitions(grid.bounds), 1, 1)), (1, 1, 1))
        found = [
            Phase("rows", "rows", grid, first),
            Phase("gather", "gather", gathered, first, below=blocks),
            Phase(f"{first}.group", "group", parts, first, below=gathered, root=not later),
        ]
        for number, name in enumerate(later, 1):
            last = number == len(later)
            found.append(Phase(f"{name}.group", "group", parts, name, number, parts, last))
        return tuple(found)

    def rows(self, block: Block, **inputs: np.ndarray) -> Record:
        """The rows of one block; the record of a block without any has empty columns or none."""
        raise TypeError(f"{type(self).__name__} has no rows()")

    def combine(self, round_name: str, rows: Record) -> Record:
        """Rows of several blocks or partitions as fewer, in an order that is theirs alone."""
        return rows

    def group(self, round_name: str, rows: Record) -> Group:
        """What a partition makes of its rows, which are combined; they may have no columns."""
        raise TypeError(f"{type(self).__name__} has no group()")

    def result(self, found: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        """The step's result as JSON, from what the partitions of each round found."""
        return {}

    def table(self, found: Mapping[str, Sequence[Record]]) -> Record:
        """A table that the run leaves as `results/STEP.csv`, columns by name; none if empty."""
        return {}


def pyramid(grid: BlockGrid, factor: Triple = (2, 2, 2)) -> tuple[BlockGrid, ...]:
    """The grid without its halo and the grids above it, up to a single block."""
    grids = [BlockGrid(grid.bounds, grid.shape)]
    while len(grids[-1]) > 1:
        counts = grids[-1].counts
        step = zyx([f if n > 1 else 1 for f, n in zip(factor, counts, strict=True)])
        grids.append(grids[-1].parent_grid(step))
    return tuple(grids)


def registered_name(stage: type[Stage]) -> str:
    """The name of an installed stage, or the `module:Class` of one of the user's own.

    It stands for the stage in digests, so a stage may move to another module.
    """
    path = f"{stage.__module__}:{stage.__qualname__}"
    return next((name for name, at in installed_stages().items() if at == path), path)


@lru_cache(maxsize=1)
def installed_stages() -> Mapping[str, str]:
    """Names of the installed stages and the `module:Class` each stands for."""
    points = entry_points(group="volflow.stages")
    return MappingProxyType({point.name: point.value for point in points})


def find_stage(name: str) -> type[Stage]:
    """The stage of that name, or at that `module:Class`.

    Raises
    ------
    PlanError
        If there is none; names that look alike are offered.
    """
    known = installed_stages()
    path = known.get(name, name)
    module_name, _, class_name = path.partition(":")
    if not class_name:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise PlanError(
            f"there is no stage '{name}'{hint} "
            f"(installed: {', '.join(sorted(known))}; your own: module:Class)"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise PlanError(
            f"stage '{name}': module '{module_name}' does not import: {error}"
        ) from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Stage)):
        raise PlanError(f"stage '{name}': '{module_name}' has no Stage called '{class_name}'")
    return found
