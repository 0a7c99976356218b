"""The `predict` stage: a trained network laid over an image, tile by tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from volflow.checkpoints.find import DeclaredNetwork, FoundNetwork, find_network
from volflow.checkpoints.header import Header, Sides
from volflow.core.geometry import Block, BlockGrid, Box, Triple, zyx
from volflow.core.stage import Layer, Record, Stage
from volflow.predict.flips import averaged, moving, nearest
from volflow.predict.intensity import normalise
from volflow.predict.network_checks import (
    check_channels,
    check_compiler,
    check_em,
    check_scaling,
    check_stride,
    check_voxels,
)
from volflow.predict.tiling import Tiling, fitted, tiled
from volflow.stages.intensity import ends

if TYPE_CHECKING:
    from volflow.models.inference import Inference

Span = Annotated[int, Field(ge=0)]
Pick = tuple[int, Triple]
"""A channel of the network, and how far its output is moved."""

BASE = 200 << 20  # bytes that torch and a network add to a process before the first tile
PER_TILE_VOXEL = 1000  # bytes; measured: 500 at a first width of 16 in float32, 270 in bfloat16
IN_PLACE: Triple = (0, 0, 0)


class Predict(Stage):
    """What a trained network sees in `em`, affinities or other things: `round(255 p)`.

    The network is shown tiles that are anchored to the bounds, so the result does not depend on
    the blocks. A network trained so has its image scaled by quantiles of the volume, which the
    step `intensity` finds.
    """

    pool: ClassVar[str] = "gpu"
    anchored: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {"em": Layer(kind="image")}

    model: str
    """Name of a shipped network, path of a checkpoint, or `module:Class` of one of your own."""
    weights: str | None = None
    """Of a network of your own: a safetensors file of its `state_dict()`."""
    network: DeclaredNetwork | None = None
    """Of a network of your own: what a checkpoint of ours says itself."""
    heads: tuple[str, ...] = ()
    """Heads of the network to write, each as the volume of its name; of one with the three
    affinities that join a voxel with the one before it along z, y and x, these. Default: the
    head `affinity`, if `write` names nothing."""
    write: dict[str, tuple[Span, ...]] = Field(default_factory=dict)
    """Further volumes to write, and their channels of the network."""
    flips: Annotated[str, Field(pattern=r"^z?y?x?$")] = ""
    """Axes along which the image is flipped to average over; each doubles the time."""
    overlap: tuple[Span, Span, Span] = (0, 0, 0)
    """Voxels by which what neighbouring tiles keep overlaps, to be blended."""
    input_tile: Sides | None = None
    """Voxels that the network is shown at once; default: as it was saved with."""
    range: tuple[float, float] | None = None
    """Intensities that are taken for the ends of the network's range, instead of quantiles."""
    voxel_tolerance: Annotated[float, Field(ge=0)] = 0.2
    """How far the voxel size may be from that of the training, as a fraction of it, per axis."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the device gains by it; workers of several kinds need fp32 or bf16."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Threads of one worker; more are of use where memory allows fewer workers than cores."""
    compile: bool = False
    """Have torch compile the network, once in each worker; the bytes become others."""

    _found: FoundNetwork = PrivateAttr()

    @model_validator(mode="after")
    def _find(self) -> Predict:
        self._found = find_network(self.model, self.weights, self.network)
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range: its first number must be below its second; got {self.range}")
        return self

    @property
    def header(self) -> Header:
        """What the network says of itself."""
        return self._found.header

    @property
    def picks(self) -> dict[str, tuple[Pick, ...]]:
        """What is written, by volume; empty if that is not told and there are no affinities."""
        found: dict[str, tuple[Pick, ...]] = {}
        for name in self.heads if self.heads or self.write else ("affinity",):
            if name not in self.header.named:  # told by `check`
                continue
            head, channels = self.header.named[name]
            three = nearest(head.offsets)
            if three:
                found[name] = tuple((channels[c], move) for c, move in three)
            elif name in self.heads:
                found[name] = tuple((c, IN_PLACE) for c in channels)
        written = {name: tuple((c, IN_PLACE) for c in cs) for name, cs in self.write.items()}
        return found | written

    @property
    def outputs(self) -> dict[str, Layer]:  # type: ignore[override]  # no tables
        found, pairs = {}, self.header.pairs
        for name, picks in self.picks.items():
            joins = all(any(pairs[c]) for c, _ in picks if c < len(pairs))
            kind: Literal["affinity", "image"] = "affinity" if joins else "image"
            found[name] = Layer("uint8", len(picks) if len(picks) > 1 else 0, kind)
        return found

    def tiling(self, bounds: Box) -> Tiling:
        """The tiles over a volume; no larger than the volume asks for."""
        halo, unit = self.header.halo, self.header.total_stride
        tile = fitted(self.input_tile or self.header.input_tile, halo, unit, bounds)
        kept = [t - 2 * h for t, h in zip(tile, halo, strict=True)]
        sides = zip(kept, self.overlap, bounds.shape, strict=True)
        stride = [k if n <= k else k - overlap for k, overlap, n in sides]
        return Tiling(bounds, tile, halo, zyx(stride), self.header.padding)

    def halo_on(self, bounds: Box, shape: Triple) -> Triple:
        try:
            return self.tiling(bounds).halo(shape)
        except ValueError:  # told by `check`
            return IN_PLACE

    def effort(self, grid: BlockGrid, bounds: Box) -> float:
        """Tiles that all blocks compute; blocks that share a tile compute it once each."""
        tiling = self.tiling(bounds)
        found = 1.0
        for axis, count in enumerate(grid.counts):
            row = [grid[zyx([place * (a == axis) for a in range(3)])] for place in range(count)]
            reached = [{tile[axis] for tile in tiling.reaching(block.write)} for block in row]
            found *= sum(map(len, reached))
        return found

    def memory(self, shape: Triple) -> int:
        tile = int(np.prod(self.input_tile or self.header.input_tile))
        made = sum(len(picks) for picks in self.picks.values())
        per_voxel = 2 + 4 + 4 + 6 * made  # read, normalised, weights; made, rounded
        return BASE + PER_TILE_VOXEL * tile + per_voxel * int(np.prod(shape))

    def identity(self) -> dict[str, Any]:
        left = {"model", "weights", "network", "voxel_tolerance"}
        said = self.model_dump(mode="json", exclude=left if self.heads else {*left, "heads"})
        if not self.compile:  # as before there was the choice, so that what is done stays done
            del said["compile"]
        return {**said, "network": self._found.content}

    # --- before the first block ------------------------------------------------------------------

    def check(self, grid: BlockGrid) -> list[str]:
        wrong = check_channels(self.model, self.header, self.heads, self.write, self.flips)
        if self.input_tile is not None:
            wrong += check_stride("input_tile", self.input_tile, self.header)
        wrong += check_stride("overlap", self.overlap, self.header)
        try:
            self.tiling(grid.bounds)
        except ValueError as error:
            wrong.append(f"{'input_tile' if self.input_tile else 'overlap'}: {error}")
        if self._found.foreign:
            from volflow.models.inference import network_problem

            told = network_problem(self.header, self._found.path)
            wrong += [f"model: {told}"] if told else []
        return wrong + (check_compiler() if self.compile else [])

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        return [
            *check_em(self.header, inputs.get("em")),
            *check_voxels(self.model, self.header, resolution, self.voxel_tolerance),
            *check_scaling(self.model, self.header, self.range is not None, inputs),
        ]

    # --- a block ---------------------------------------------------------------------------------

    def run(  # type: ignore[override]  # the inputs by name
        self, block: Block, *, em: np.ndarray, intensity: Record | None = None
    ) -> dict[str, np.ndarray]:
        scaled = self.header.normalisation
        image = normalise(em, *self._ends(intensity), scaled.onto, scaled.clip)
        picks = [pick for picks in self.picks.values() for pick in picks]
        channels = tuple(channel for channel, _ in picks)
        pairs = [self.header.pairs[c] for c in channels]
        odd = [self.header.odd[c] for c in channels]
        ranges = [self.header.ranges[c] for c in channels]
        loaded = _inference(
            self.header.model_dump_json(),
            self._found.path,
            self._found.foreign,
            channels,
            self.device,
            self.precision,
            self.threads,
            self.compile,
        )
        mean = averaged(loaded, self.flips, pairs, odd, [sum(ends) for ends in ranges])
        network = moving(mean, [move for _, move in picks])
        tiling, count, batch = self.tiling(block.bounds), len(picks), loaded.tiles_per_batch
        made = tiled(image, block.read, block.write, tiling, network, count, batch)
        if not np.isfinite(made).all():
            raise ValueError(f"network '{self.model}' made numbers that are not finite")
        found = iter(rounded(made, ranges))
        return {
            name: np.stack([next(found) for _ in picks]) if len(picks) > 1 else next(found)
            for name, picks in self.picks.items()
        }

    def _ends(self, intensity: Record | None) -> tuple[float, float]:
        """The intensities that are mapped to the ends of the network's range."""
        scaled = self.header.normalisation
        if self.range is not None:
            return self.range
        if scaled.kind == "fixed":
            return scaled.low, scaled.high
        assert intensity is not None
        return ends(intensity, scaled.low, scaled.high)


def rounded(probabilities: np.ndarray, ranges: Sequence[tuple[float, float]] = ()) -> np.ndarray:
    """`round(255 p)` of probabilities, uint8; in place of the given array.

    Of a channel with a range of its own, p is the place between the range's ends.
    """
    for channel, (low, high) in enumerate(ranges):
        if (low, high) != (0, 1):
            probabilities[channel] -= low
            probabilities[channel] /= high - low
    np.clip(probabilities, 0, 1, out=probabilities)
    probabilities *= 255
    found: np.ndarray = np.rint(probabilities, out=probabilities).astype("uint8")
    return found


@lru_cache(maxsize=1)
def _inference(
    header: str,
    path: str | None,
    foreign: bool,
    channels: tuple[int, ...],
    device: Literal["auto", "cpu", "cuda"],
    precision: Literal["auto", "fp32", "bf16"],
    threads: int,
    compiled: bool,
) -> Inference:
    """The network, loaded once per process; torch is first imported here."""
    from volflow.models.inference import Inference, loaded

    told = Header.model_validate_json(header)
    network = loaded(told, path, foreign)
    return Inference(network, told, channels, device, precision, threads, compiled)
