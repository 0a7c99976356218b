"""The `predict` stage: a trained network applied to an image, tile by tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from volflow.checkpoints.find import DeclaredNetwork, FoundNetwork, find_network
from volflow.checkpoints.header import Header, Sides
from volflow.core.geometry import Block, BlockGrid, Box, Triple, zyx
from volflow.core.stage import Layer, Record, Stage
from volflow.core.stage.units import ByPlanes
from volflow.predict.flips import (
    Channel,
    average_over_flips,
    neighbour_channels,
    shift_channels,
)
from volflow.predict.intensity import check_integers, intensities_at, normalise
from volflow.predict.network_checks import (
    check_channels,
    check_compiler,
    check_em,
    check_scaling,
    check_stride,
    check_voxels,
)
from volflow.predict.outputs import to_uint8
from volflow.predict.reused_memory import reused_memory
from volflow.predict.tiling import Tiling, fitted_tile, predict_tiles

if TYPE_CHECKING:
    from volflow.models.inference import Inference

Span = Annotated[int, Field(ge=0)]
Tolerance = Annotated[float, Field(ge=0)]
Pick = tuple[int, Triple]
"""A channel of the network, and the shift of its output in voxels."""

BASE = 200 << 20  # bytes that torch and a network add to a process before the first tile
PER_TILE_VOXEL = 1000  # bytes; measured: 500 at a first width of 16 in float32, 270 in bfloat16
IN_PLACE: Triple = (0, 0, 0)


class Predict(Stage):
    """Output of a trained network for `em`, such as affinities: `round(255 p)`.

    The network is applied in tiles that are anchored to the bounds, so the result does not depend
    on the blocks. Networks whose training normalised images by quantiles need the quantiles of the
    volume from the stage `intensity`, or `range`.

    Inputs
    ------
    em : uint8 or uint16, (Z, Y, X) or (C, Z, Y, X)
        The image.
    intensity : table, optional
        Quantiles of the image, from the stage `intensity`.

    Outputs
    -------
    affinity : uint8, (3, Z, Y, X)
        By default, or one volume for each of `heads` and `write`: uint8, (C, Z, Y, X), or
        (Z, Y, X) for one channel. Affinities join a voxel with the one before it along each axis.
    """

    pool: ClassVar[str] = "gpu"
    anchored: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {"em": Layer(kind="image")}

    model: Annotated[str, ByPlanes()]
    """Name of a bundled network, path of a checkpoint, or `module:Class` of your own network; or
    two names or paths, `VOLUMES or SECTION`: the second is used where the bounds are a
    single section."""
    weights: str | None = None
    """For your own network only: path of a safetensors file with its `state_dict()`."""
    network: DeclaredNetwork | None = None
    """For your own network only: the properties that a volflow checkpoint stores itself, such as
    offsets, voxel_size_nm, input_tile and halo."""
    heads: tuple[str, ...] = ()
    """Names of the network's heads to write, each to the volume of its name. A head with the three
    affinities to the voxel before along z, y and x is written as these three. Default: the head
    `affinity` if `write` is empty."""
    write: dict[str, tuple[Span, ...]] = Field(default_factory=dict)
    """Further volumes to write: for each name, the network's channels, counted from 0."""
    flips: Annotated[str, Field(pattern=r"^z?y?x?$")] = ""
    """Axes (of `zyx`) along which the image is flipped; the outputs are averaged. Each axis doubles
    the time."""
    overlap: tuple[Span, Span, Span] = (0, 0, 0)
    """Overlap z y x, in voxels, of the kept output of neighbouring tiles, which is blended."""
    input_tile: Sides | None = None
    """Shape z y x, in voxels, of the network's input; default: as stored in the checkpoint."""
    range: tuple[float, float] | None = None
    """The intensities [LOW, HIGH] that are mapped to the ends of the network's input range;
    default: quantiles of the volume, or the fixed values of the training."""
    voxel_tolerance: Tolerance | tuple[Tolerance, Tolerance, Tolerance] = 0.2
    """Largest relative difference between the voxel size and that of the training, for all axes or
    for each of z y x; 0.2 is 20 %."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs; auto: cuda if available."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Floating-point format; auto: bf16 where it is faster on the device. With workers on several
    kinds of devices, choose fp32 or bf16."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Number of threads per worker, at least 1; more than 1 helps if memory allows fewer workers
    than there are cores."""
    compile: bool = False
    """Whether torch compiles the network, once in each worker; this changes the output bytes."""

    _found: FoundNetwork = PrivateAttr()

    @model_validator(mode="after")
    def _find(self) -> Predict:
        self._found = find_network(self.model, self.weights, self.network)
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range: expected [LOW, HIGH] with LOW below HIGH; got {self.range}")
        return self

    @property
    def header(self) -> Header:
        """The header of the network's checkpoint."""
        return self._found.header

    @property
    def picks(self) -> dict[str, tuple[Pick, ...]]:
        """The channels of each volume to write; empty if undeclared and without affinities."""
        picks: dict[str, tuple[Pick, ...]] = {}
        for name in self.heads if self.heads or self.write else ("affinity",):
            if name not in self.header.named:  # reported by `check`
                continue
            head, channels = self.header.named[name]
            neighbours = neighbour_channels(head.offsets)
            if neighbours:
                picks[name] = tuple((channels[c], shift) for c, shift in neighbours)
            elif name in self.heads:
                picks[name] = tuple((c, IN_PLACE) for c in channels)
        written = {name: tuple((c, IN_PLACE) for c in cs) for name, cs in self.write.items()}
        return picks | written

    @property
    def outputs(self) -> dict[str, Layer]:  # type: ignore[override]  # no tables
        layers, pairs = {}, self.header.pairs
        for name, picks in self.picks.items():
            joins = all(any(pairs[c]) for c, _ in picks if c < len(pairs))
            kind: Literal["affinity", "image"] = "affinity" if joins else "image"
            layers[name] = Layer("uint8", len(picks) if len(picks) > 1 else 0, kind)
        return layers

    def tiling(self, bounds: Box) -> Tiling:
        """The tiles of a volume, shortened where the volume is smaller."""
        halo, unit = self.header.halo, self.header.total_stride
        tile = fitted_tile(self.input_tile or self.header.input_tile, halo, unit, bounds)
        widths = zyx(tile) - zyx(halo) * 2
        sides = zip(widths, self.overlap, bounds.shape, strict=True)
        stride = [width if n <= width else width - overlap for width, overlap, n in sides]
        return Tiling(bounds, tile, halo, zyx(stride), self.header.padding)

    def halo_on(self, bounds: Box, shape: Triple) -> Triple:
        try:
            return self.tiling(bounds).halo(shape)
        except ValueError:  # reported by `check`
            return IN_PLACE

    def effort(self, grid: BlockGrid, bounds: Box) -> float:
        """Number of tiles that all blocks compute; a tile shared by blocks counts for each."""
        tiling = self.tiling(bounds)
        tiles = 1.0
        for axis, count in enumerate(grid.counts):
            row = [grid[zyx([number * (a == axis) for a in range(3)])] for number in range(count)]
            reached = [{tile[axis] for tile in tiling.tiles_over(block.write)} for block in row]
            tiles *= sum(map(len, reached))
        return tiles

    def memory(self, shape: Triple) -> int:
        tile = int(np.prod(self.input_tile or self.header.input_tile))
        written = sum(len(picks) for picks in self.picks.values())
        per_voxel = 2 + 4 + 4 + 6 * written  # read, normalised, weights; predicted, as uint8
        return BASE + PER_TILE_VOXEL * tile + per_voxel * int(np.prod(shape))

    def identity(self) -> dict[str, Any]:
        excluded = {"model", "weights", "network", "voxel_tolerance"}
        if not self.heads:
            excluded.add("heads")
        if not self.compile:  # the digest of runs from before this parameter existed stays valid
            excluded.add("compile")
        dumped = self.model_dump(mode="json", exclude=excluded)
        return {**dumped, "network": self._found.content}

    # --- before the first block ------------------------------------------------------------------

    def check(self, grid: BlockGrid) -> list[str]:
        problems = check_channels(self.model, self.header, self.heads, self.write, self.flips)
        if self.input_tile is not None:
            problems += check_stride("input_tile", self.input_tile, self.header)
        problems += check_stride("overlap", self.overlap, self.header)
        try:
            self.tiling(grid.bounds)
        except ValueError as error:
            problems.append(f"{'input_tile' if self.input_tile else 'overlap'}: {error}")
        if self._found.foreign:
            from volflow.models.inference import network_problem

            defect = network_problem(self.header, self._found.path)
            problems += [f"model: {defect}"] if defect else []
        return problems + (check_compiler() if self.compile else [])

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        return [
            *check_em(self.header, inputs.get("em")),
            *check_voxels(
                self.model, self.header, resolution, self.voxel_tolerance, inputs.get("em")
            ),
            *check_scaling(self.model, self.header, self.range is not None, inputs),
        ]

    # --- a block ---------------------------------------------------------------------------------

    def run(  # type: ignore[override]  # the inputs by name
        self, block: Block, *, em: np.ndarray, intensity: Record | None = None
    ) -> dict[str, np.ndarray]:
        picks = [pick for picks in self.picks.values() for pick in picks]
        loaded = _inference(
            self.header.model_dump_json(),
            self._found.path,
            foreign=self._found.foreign,
            channels=tuple(channel for channel, _ in picks),
            device=self.device,
            precision=self.precision,
            threads=self.threads,
            compiled=self.compile,
        )
        channels = [
            Channel(self.header.pairs[c], self.header.odd[c], self.header.ranges[c], shift)
            for c, shift in picks
        ]
        compute = self._on_device if loaded.whole_blocks else self._in_tiles
        with reused_memory() if loaded.device.type == "cpu" else nullcontext():
            integers = compute(block, em, self._ends(intensity), loaded, channels)
        written, first = {}, 0
        for name, named in self.picks.items():
            part = integers[first : first + len(named)]
            written[name] = part if len(named) > 1 else part[0]
            first += len(named)
        return written

    def _in_tiles(
        self,
        block: Block,
        em: np.ndarray,
        ends: tuple[float, float],
        loaded: Inference,
        channels: Sequence[Channel],
    ) -> np.ndarray:
        """The integers of all channels; only the network runs on the device, tile by tile."""
        pairs, odd = [each.offset for each in channels], [each.odd for each in channels]
        ranges = [each.range for each in channels]
        mean = average_over_flips(loaded, self.flips, pairs, odd, [sum(ends) for ends in ranges])
        network = shift_channels(mean, [each.shift for each in channels])
        predicted = predict_tiles(
            self._scaled(em, ends),
            block.read,
            block.write,
            self.tiling(block.bounds),
            network,
            channels=len(channels),
            batch=loaded.tiles_per_batch,
        )
        if not np.isfinite(predicted).all():
            raise ValueError(f"{self._subject}: the output has values that are not finite")
        return to_uint8(predicted, ranges)

    def _on_device(
        self,
        block: Block,
        em: np.ndarray,
        ends: tuple[float, float],
        loaded: Inference,
        channels: Sequence[Channel],
    ) -> np.ndarray:
        """The integers of all channels, computed on the device from the image's integers."""
        from volflow.models.gpu.block import predict_block

        check_integers(em)
        return predict_block(
            em,
            block.read,
            block.write,
            self.tiling(block.bounds),
            loaded,
            channels,
            table=self._scaled(np.arange(np.iinfo(em.dtype).max + 1).astype(em.dtype), ends),
            flips=self.flips,
            subject=self._subject,
        )

    @property
    def _subject(self) -> str:
        return f"network '{self.model}'"

    def _scaled(self, image: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
        """Intensities as the network takes them."""
        scaled = self.header.normalisation
        return normalise(image, *ends, scaled.onto, scaled.clip)

    def _ends(self, intensity: Record | None) -> tuple[float, float]:
        """The intensities that are mapped to the ends of the network's range."""
        scaled = self.header.normalisation
        if self.range is not None:
            return self.range
        if scaled.kind == "fixed":
            return scaled.low, scaled.high
        assert intensity is not None
        return intensities_at(intensity, scaled.low, scaled.high)


@lru_cache(maxsize=1)
def _inference(
    header: str,
    path: str | None,
    *,
    foreign: bool,
    channels: tuple[int, ...],
    device: Literal["auto", "cpu", "cuda"],
    precision: Literal["auto", "fp32", "bf16"],
    threads: int,
    compiled: bool,
) -> Inference:
    """The network, loaded once per process; torch is first imported here."""
    from volflow.models.inference import Inference, loaded

    declared = Header.model_validate_json(header)
    network = loaded(declared, path, foreign)
    return Inference(
        network,
        declared,
        channels,
        device=device,
        precision=precision,
        threads=threads,
        compiled=compiled,
    )
