"""The header of a checkpoint, read without torch.

A checkpoint is a safetensors file whose metadata contain, under `volflow`, the header described
here. Planning reads halo, channels and voxel size from it in a millisecond, and nothing in the
file can run code.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from volflow.checkpoints.heads import Head
from volflow.checkpoints.safetensors_file import read_metadata
from volflow.core.geometry import Triple
from volflow.errors import StorageError

Kind = TypeVar("Kind", bound=BaseModel)

KEY = "volflow"  # of the header in the metadata of a safetensors file

Count = Annotated[int, Field(ge=1)]
Sides = tuple[Count, Count, Count]
Reach = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
Nanometres = tuple[
    Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
]
Fraction = Annotated[float, Field(ge=0, le=1)]
Padding = Literal["reflect", "symmetric"]
"""Padding beyond the faces of a volume `a b c`: reflect `c b | a b c | b a`, symmetric
`b a | a b c | c b` (the words are numpy's)."""


FORMER_NETWORKS = {
    "volflow.models.resunet3d:ResUNet3D": "resunet3d",
    "volflow.models.mnet:MNet": "mnet",
}
"""Names of networks in older checkpoints, with their registered names."""


def _registered_network(name: object) -> object:
    return FORMER_NETWORKS.get(name, name) if isinstance(name, str) else name


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Normalisation(_Part):
    """The linear map from stored intensities to the network's input; see `predict.intensity`."""

    kind: Literal["percentiles", "fixed"] = "percentiles"
    """`percentiles`: `low` and `high` are fractions of the volume's voxels, 0 to 1, whose
    intensities are measured once per volume; `fixed`: they are intensities."""
    low: float = 0.01
    """Percentile or intensity that is mapped to `onto[0]`."""
    high: float = 0.99
    """Percentile or intensity that is mapped to `onto[1]`."""
    onto: tuple[float, float] = (-1.0, 1.0)
    """Inputs of the network to which `low` and `high` are mapped linearly."""
    clip: tuple[float, float] | None = (-2.0, 2.0)
    """Range to which the inputs are clipped; null: not clipped."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Normalisation:
        if not self.low < self.high:
            raise ValueError(f"low must be below high; got {self.low} and {self.high}")
        if self.kind == "percentiles" and not (self.low >= 0 and self.high <= 1):
            raise ValueError(f"percentiles must be in 0 to 1; got {self.low} and {self.high}")
        if not self.onto[0] < self.onto[1]:
            raise ValueError(f"onto must ascend; got {self.onto}")
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError(f"clip must ascend; got {self.clip}")
        return self


class Header(_Part):
    """Everything that must be known of a network to apply it to a volume."""

    format: Literal["volflow-network-1"] = "volflow-network-1"
    """Version of this header."""
    network: Annotated[
        str, Field(pattern=r"^(\w+|[\w.]+:\w+)$"), BeforeValidator(_registered_network)
    ]
    """Registered name of the network (`resunet3d`, `mnet`), or `module:Class` of the user's own
    `torch.nn.Module`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the network's class."""
    in_channels: Count = 1
    """Channels of the input image."""
    out_channels: Count
    """Channels of the output."""
    offsets: tuple[Triple, ...] = ()
    """For affinities: channel c joins voxel v with v + offsets[c], z y x. Empty: not affinities, or
    the offsets are those of `heads`."""
    heads: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], Head] = Field(
        default_factory=dict
    )
    """Heads by name, in the order of their channels; empty: a single head, see `named`."""
    voxel_size_nm: Nanometres
    """Voxel size z y x of the training volumes, nanometres."""
    receptive_field: Reach
    """Maximum distance z y x at which a voxel influences an output, voxels."""
    halo: Reach
    """Voxels z y x at each face of a tile that are read but whose outputs are discarded. Where the
    halo is smaller than the receptive field, an output depends slightly on the grid of tiles,
    which is anchored to the volume, and never on blocks."""
    total_stride: Sides
    """The network's stride z y x: tiles start at multiples of it and have multiples of it as
    sides."""
    input_tile: Sides
    """Shape of an input tile z y x, voxels: output_tile + 2 halo."""
    output_tile: Sides
    """Shape z y x of the part of a tile whose outputs are used, voxels."""
    batch: Count = 1
    """Tiles per batch; a smaller last batch is padded."""
    padding: Padding = "reflect"
    """Padding beyond the faces of the volume."""
    normalisation: Normalisation = Normalisation()
    """Normalisation of intensities."""
    sigmoid: bool = True
    """Whether the network returns logits, to which a sigmoid is applied; `heads` have their own."""
    card: str = ""
    """File name of the model card, next to the checkpoint: data, licence, training."""
    weights_sha256: str = ""
    """SHA-256 of the tensors as stored; filled in when the checkpoint is written."""

    @model_validator(mode="after")
    def _fits_together(self) -> Header:
        if self.heads and (self.offsets or not self.sigmoid):
            raise ValueError(
                "where there are heads, each has its own offsets and sigmoid; expected neither here"
            )
        channels = sum(head.channels for head in self.heads.values())
        if self.heads and channels != self.out_channels:
            raise ValueError(
                f"heads have {channels} channels in all; expected out_channels, {self.out_channels}"
            )
        if self.offsets and len(self.offsets) != self.out_channels:
            raise ValueError(
                f"{self.out_channels} output channels need as many offsets; got {len(self.offsets)}"
            )
        for axis, name in enumerate("zyx"):
            tile, output, halo = self.input_tile[axis], self.output_tile[axis], self.halo[axis]
            stride = self.total_stride[axis]
            if tile != output + 2 * halo:
                raise ValueError(
                    f"input_tile must be output_tile + 2 halo; along {name} got {tile}, {output}, "
                    f"{halo}"
                )
            if tile % stride or output % stride or halo % stride:
                raise ValueError(
                    f"tiles and halo must be multiples of total_stride {stride} along {name}; "
                    f"got {tile}, {output}, {halo}"
                )
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Older headers lack these keys: a checkpoint without them keeps its bytes and its digest.
        content: dict[str, Any] = dump(self)
        if not self.heads:
            content.pop("heads", None)
        if self.padding == "reflect":
            content.pop("padding", None)
        return content

    @property
    def registered(self) -> bool:
        """Whether the network is one of volflow's own."""
        return ":" not in self.network

    @property
    def named(self) -> dict[str, tuple[Head, range]]:
        """Every head by name, with its channels.

        A network without heads has a single one: `affinity` if it has offsets, else `output`.
        """
        heads = self.heads or {
            "affinity" if self.offsets else "output": Head(
                channels=self.out_channels, offsets=self.offsets, sigmoid=self.sigmoid
            )
        }
        first, named = 0, {}
        for name, head in heads.items():
            named[name] = head, range(first, first + head.channels)
            first += head.channels
        return named

    @property
    def pairs(self) -> tuple[Triple, ...]:
        """The offset of each channel; (0, 0, 0) for channels that are not affinities."""
        return tuple(o for h in self._heads() for o in h.offsets or ((0, 0, 0),) * h.channels)

    @property
    def odd(self) -> tuple[str, ...]:
        """The axes in which each channel is odd, see `Head`."""
        return tuple(axes for h in self._heads() for axes in h.odd or ("",) * h.channels)

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """The values of each channel that are stored as 0 and as 255."""
        return tuple(h.range for h in self._heads() for _ in range(h.channels))

    @property
    def logits(self) -> tuple[bool, ...]:
        """For each channel, whether the network returns logits."""
        return tuple(h.sigmoid for h in self._heads() for _ in range(h.channels))

    def _heads(self) -> list[Head]:
        return [head for head, _ in self.named.values()]


def read_header(path: str | os.PathLike[str]) -> Header:
    """The header of a checkpoint; tensors are not read, but their places are checked.

    Raises
    ------
    StorageError
        If there is no such file, it is cut off, or it is not a checkpoint of volflow.
    """
    text = read_metadata(path).get(KEY)
    if text is None:
        raise StorageError(
            f"checkpoint {path}: a safetensors file without a volflow header; declare its network, "
            "offsets, tiles and normalisation in the pipeline"
        )
    return validated(path, text, Header)


def validated(path: str | os.PathLike[str], text: str, kind: type[Kind]) -> Kind:
    """The header of a checkpoint from its JSON text.

    Raises
    ------
    StorageError
        With all problems of the header.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'header'}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise StorageError(f"checkpoint {path}: invalid header: {problems}") from error
