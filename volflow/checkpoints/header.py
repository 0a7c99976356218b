"""What a checkpoint says of itself, read without torch.

A checkpoint is a safetensors file. Its first eight bytes give the length of a JSON object that
names every tensor with its place in the file; under `__metadata__` that object holds, as text,
the header described here:

    | length N | JSON of N bytes: tensors, __metadata__.volflow = header | tensors |

So planning learns halo, channels and voxel size in a millisecond, and nothing in the file can
run code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

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
from volflow.core.geometry import Triple
from volflow.errors import StorageError

KEY = "volflow"  # of the metadata of a safetensors file
LONGEST_JSON = 100_000_000  # bytes; safetensors' own limit
DTYPE_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2,
    "U16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip

Count = Annotated[int, Field(ge=1)]
Sides = tuple[Count, Count, Count]
Reach = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
Nanometres = tuple[
    Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
]
Fraction = Annotated[float, Field(ge=0, le=1)]
Padding = Literal["reflect", "symmetric"]
"""What stands beyond the faces of a volume `a b c`: reflect `c b | a b c | b a`, symmetric
`b a | a b c | c b` (the words are numpy's)."""


FORMER_NETWORKS = {
    "volflow.models.resunet3d:ResUNet3D": "resunet3d",
    "volflow.models.mnet:MNet": "mnet",
}
"""Networks as checkpoints named them before networks had names of their own."""


def _registered_network(name: object) -> object:
    return FORMER_NETWORKS.get(name, name) if isinstance(name, str) else name


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Normalisation(_Part):
    """How stored intensities become what the network sees; see `segment.intensity`."""

    kind: Literal["percentiles", "fixed"] = "percentiles"
    """percentiles: `low` and `high` are fractions of the volume's voxels, whose intensities are
    found once per volume; fixed: they are intensities themselves."""
    low: float = 0.01
    """What becomes `onto[0]`."""
    high: float = 0.99
    """What becomes `onto[1]`."""
    onto: tuple[float, float] = (-1.0, 1.0)
    """Where `low` and `high` are mapped, linearly."""
    clip: tuple[float, float] | None = (-2.0, 2.0)
    """Where mapped values are cut off; None: nowhere."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Normalisation:
        if not self.low < self.high:
            raise ValueError(f"low must be below high; got {self.low} and {self.high}")
        if self.kind == "percentiles" and not (self.low >= 0 and self.high <= 1):
            raise ValueError(f"percentiles lie in 0 to 1; got {self.low} and {self.high}")
        if not self.onto[0] < self.onto[1]:
            raise ValueError(f"onto must ascend; got {self.onto}")
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError(f"clip must ascend; got {self.clip}")
        return self


class Header(_Part):
    """Everything that must be known of a network to lay it over a volume."""

    format: Literal["volflow-network-1"] = "volflow-network-1"
    """Version of this header."""
    network: Annotated[
        str, Field(pattern=r"^(\w+|[\w.]+:\w+)$"), BeforeValidator(_registered_network)
    ]
    """Registered name of the network (`resunet3d`, `mnet`), or `module:Class` of the user's own
    `torch.nn.Module`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments the class is made with."""
    in_channels: Count = 1
    """Channels of the image it takes."""
    out_channels: Count
    """Channels it returns."""
    offsets: tuple[Triple, ...] = ()
    """Affinities: channel c joins voxel v with v + offsets[c], z y x. Empty: not affinities, or
    `heads` say it."""
    heads: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], Head] = Field(
        default_factory=dict
    )
    """What the channels are, by name, in their order; empty: one head, see `head`."""
    voxel_size_nm: Nanometres
    """Of the volumes it was trained on, z y x."""
    receptive_field: Reach
    """How far an output voxel sees, at most, z y x."""
    halo: Reach
    """Voxels on each side of a tile that are read but whose outputs are not kept; where it is
    smaller than the receptive field an output depends, slightly, on the grid of tiles (which is
    anchored to the volume), and never on blocks."""
    total_stride: Sides
    """Input tiles are multiples of it, and tiles start at multiples of it."""
    input_tile: Sides
    """Voxels given to the network at once, z y x: output_tile + 2 halo."""
    output_tile: Sides
    """Voxels of the answer that are kept."""
    batch: Count = 1
    """Tiles given at once; a smaller last batch is padded."""
    padding: Padding = "reflect"
    """What it is shown beyond the faces of the volume."""
    normalisation: Normalisation = Normalisation()
    """How intensities become input."""
    sigmoid: bool = True
    """The network returns logits; probabilities are their sigmoid. `heads` say it each."""
    card: str = ""
    """File name of the model card beside the checkpoint: data, licence, how it was trained."""
    weights_sha256: str = ""
    """Of the tensors as stored; filled in when the checkpoint is written."""

    @model_validator(mode="after")
    def _fits_together(self) -> Header:
        if self.heads and (self.offsets or not self.sigmoid):
            raise ValueError(
                "offsets and sigmoid are said by each of the heads where there are some"
            )
        if self.heads and sum(head.channels for head in self.heads.values()) != self.out_channels:
            raise ValueError(
                f"heads have {sum(head.channels for head in self.heads.values())} channels in all; "
                f"out_channels says {self.out_channels}"
            )
        if self.offsets and len(self.offsets) != self.out_channels:
            raise ValueError(
                f"{self.out_channels} output channels need as many offsets; got {len(self.offsets)}"
            )
        for axis, name in enumerate("zyx"):
            tile, kept, halo = self.input_tile[axis], self.output_tile[axis], self.halo[axis]
            stride = self.total_stride[axis]
            if tile != kept + 2 * halo:
                raise ValueError(
                    f"input_tile must be output_tile + 2 halo; along {name} got {tile}, {kept}, "
                    f"{halo}"
                )
            if tile % stride or kept % stride or halo % stride:
                raise ValueError(
                    f"tiles and halo must be multiples of total_stride {stride} along {name}; "
                    f"got {tile}, {kept}, {halo}"
                )
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As before there was the choice, so that such a checkpoint keeps its bytes and its digest.
        found: dict[str, Any] = dump(self)
        if not self.heads:
            found.pop("heads", None)
        if self.padding == "reflect":
            found.pop("padding", None)
        return found

    @property
    def registered(self) -> bool:
        """Whether the network is one of volflow's own."""
        return ":" not in self.network

    @property
    def named(self) -> dict[str, tuple[Head, range]]:
        """Every head with the channels that are its own.

        A network that names none has one: `affinity` if it says offsets, else `output`.
        """
        heads = self.heads or {
            "affinity" if self.offsets else "output": Head(
                channels=self.out_channels, offsets=self.offsets, sigmoid=self.sigmoid
            )
        }
        found, first = {}, 0
        for name, head in heads.items():
            found[name] = head, range(first, first + head.channels)
            first += head.channels
        return found

    @property
    def pairs(self) -> tuple[Triple, ...]:
        """The offset of every channel, (0, 0, 0) of one that is no affinity."""
        return tuple(o for h in self._heads() for o in h.offsets or ((0, 0, 0),) * h.channels)

    @property
    def odd(self) -> tuple[str, ...]:
        """Of every channel the axes in which it is odd, see `Head`."""
        return tuple(axes for h in self._heads() for axes in h.odd or ("",) * h.channels)

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """What of every channel is stored as 0 and as 255."""
        return tuple(h.range for h in self._heads() for _ in range(h.channels))

    @property
    def logits(self) -> tuple[bool, ...]:
        """Whether the network returns logits of every channel."""
        return tuple(h.sigmoid for h in self._heads() for _ in range(h.channels))

    def _heads(self) -> list[Head]:
        return [head for head, _ in self.named.values()]


def read_header(path: str | os.PathLike[str]) -> Header:
    """The header of a checkpoint; tensors are not read, but it is checked that they are there.

    Raises
    ------
    StorageError
        If there is no such file, it is not whole, or it is not a checkpoint of volflow.
    """
    entries = read_entries(path)
    metadata = entries.get("__metadata__")
    text = metadata.get(KEY) if isinstance(metadata, Mapping) else None
    if not isinstance(text, str):
        raise StorageError(
            f"checkpoint {path}: a safetensors file without a volflow header; declare its network, "
            "offsets, tiles and normalisation in the pipeline"
        )
    try:
        return Header.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, found['loc'])) or 'header'}: {found['msg']}"
            for found in error.errors(include_url=False)
        )
        raise StorageError(f"checkpoint {path}: its header is wrong: {problems}") from error


def read_entries(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON at the head of a safetensors file: its tensors and metadata, places checked.

    Raises
    ------
    StorageError
        If there is no such file, it is cut off, or it is no safetensors file.
    """
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 10 or length > min(LONGEST_JSON, size - 8):
                raise StorageError(f"checkpoint {path}: cut off, or not a safetensors file")
            entries = json.loads(file.read(length))
    except OSError as error:
        raise StorageError(f"checkpoint {path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise StorageError(f"checkpoint {path}: not a safetensors file: {error}") from error
    if not isinstance(entries, dict):
        raise StorageError(f"checkpoint {path}: not a safetensors file")
    ends = [_end(path, name, at) for name, at in entries.items() if name != "__metadata__"]
    wanted = 8 + length + max(ends, default=0)
    if wanted != size:
        raise StorageError(
            f"checkpoint {path}: {size} bytes where its header promises {wanted}"
            + ("; it was cut off" if size < wanted else "")
        )
    return entries


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the tensors of a safetensors file, as stored, as hexadecimal text."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _end(path: str | os.PathLike[str], name: str, entry: object) -> int:
    try:
        assert isinstance(entry, Mapping)
        start, stop = entry["data_offsets"]
        count = DTYPE_BYTES[entry["dtype"]]
        for side in entry["shape"]:
            count *= int(side)
        assert 0 <= start <= stop
        assert stop - start == count
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise StorageError(f"checkpoint {path}: tensor '{name}' is described wrongly") from error
    return int(stop)
