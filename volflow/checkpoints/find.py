"""The network of a step: bundled, a checkpoint, or a class of the user's own.

Found without torch, so that planning knows its halo, its channels and the hash of its weights.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from volflow.checkpoints.header import (
    Header,
    Normalisation,
    Padding,
    Reach,
    Sides,
    read_header,
)
from volflow.checkpoints.heads import Head
from volflow.checkpoints.safetensors_file import read_metadata, sha256
from volflow.core.geometry import Triple, zyx
from volflow.errors import StorageError

WEIGHTS = Path(__file__).parent.parent / "weights"
ENDING = ".safetensors"
SECTIONS = "sections"  # folder of the networks of sections, in WEIGHTS


class DeclaredNetwork(BaseModel):
    """The declaration of a network of the user's own, which has no volflow header."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the class."""
    in_channels: Annotated[int, Field(ge=1)] = 1
    """Channels of the input image."""
    out_channels: Annotated[int, Field(ge=1)] | None = None
    """Channels of the output; default: as many as offsets, or as all heads have together."""
    offsets: tuple[Triple, ...] = ()
    """For affinities: channel c joins voxel v with v + offsets[c], z y x. Empty: not affinities."""
    heads: dict[str, Head] = Field(default_factory=dict)
    """Heads by name, in the order of their channels, instead of offsets where there are several."""
    voxel_size_nm: tuple[float, float, float]
    """Voxel size z y x of the training volumes, nanometres."""
    input_tile: Sides
    """Shape of an input tile z y x, voxels."""
    halo: Reach
    """Voxels z y x at each face of a tile whose outputs are discarded."""
    total_stride: Sides = (1, 1, 1)
    """The product of all poolings z y x; tile and halo are multiples of it."""
    batch: Annotated[int, Field(ge=1)] = 1
    """Tiles per batch on a GPU."""
    padding: Padding = "reflect"
    """Padding beyond the faces of a volume `a b c`: reflect `c b | a b c | b a`, symmetric
    `b a | a b c | c b`."""
    normalisation: Normalisation = Normalisation()
    """Normalisation of intensities."""
    sigmoid: bool = True
    """Whether the network returns logits (true) or probabilities (false)."""

    def header(self, network: str) -> Header:
        """The header that a checkpoint of this network would have.

        Raises
        ------
        ValueError
            If the declared values do not fit together.
        """
        channels = len(self.offsets) or sum(head.channels for head in self.heads.values())
        if self.out_channels is None and not channels:
            raise ValueError("network: give offsets, or out_channels if it predicts no affinities")
        output_tile = zyx(self.input_tile) - zyx(self.halo) * 2
        if min(output_tile) < 1:
            raise ValueError(
                f"network: halo {self.halo} on both sides leaves nothing of tile {self.input_tile}"
            )
        declared = {name: getattr(self, name) for name in type(self).model_fields}
        declared |= {"out_channels": self.out_channels or channels, "network": network}
        return Header(**declared, receptive_field=self.halo, output_tile=output_tile)


@dataclass(frozen=True)
class FoundNetwork:
    """A network and the path of its weights; its output depends on nothing but `content`."""

    header: Header
    path: str | None
    content: dict[str, Any]
    foreign: bool = False


def bundled_networks() -> dict[str, Path]:
    """The bundled networks by name."""
    paths = sorted(WEIGHTS.glob(f"*{ENDING}"), key=lambda path: path.stem)
    return {path.stem: path for path in paths}


def bundled_section_networks() -> dict[str, Path]:
    """The bundled networks of sections by name: followers and detectors of the stage `track`."""
    paths = sorted((WEIGHTS / SECTIONS).glob(f"*{ENDING}"), key=lambda path: path.stem)
    return {path.stem: path for path in paths}


def find_network(model: str, weights: str | None, declared: DeclaredNetwork | None) -> FoundNetwork:
    """The network of a step.

    Parameters
    ----------
    model : str
        Name of a bundled network, path of a checkpoint, or `module:Class`.
    weights : str, optional
        Safetensors file with the weights of a `module:Class`.
    declared : DeclaredNetwork, optional
        Declaration of a `module:Class`.

    Raises
    ------
    ValueError
        If there is no such network, it is damaged, or its declaration does not fit together.
    """
    try:
        if ":" in model:
            return _foreign(model, weights, declared)
        if weights is not None or declared is not None:
            raise ValueError(
                f"weights and network belong to a model of your own, module:Class; expected "
                f"neither for checkpoint '{model}', which has a header"
            )
        path = _checkpoint(model)
        header = read_header(path)
        if sha256(path) != header.weights_sha256:
            raise ValueError(f"checkpoint {path}: damaged: its tensors have another hash")
    except StorageError as error:
        raise ValueError(str(error)) from error
    return FoundNetwork(header, str(path), {"header": _dumped(header)})


def _dumped(header: Header) -> dict[str, Any]:
    """The part of a header that the output depends on."""
    return header.model_dump(mode="json", exclude={"card"})


def _checkpoint(model: str) -> Path:
    """The file of a checkpoint, or of the bundled one of that name."""
    path = Path(model).expanduser().absolute()
    known = bundled_networks()
    if path.is_file():
        return path
    if model in known:
        return known[model]
    if model in bundled_section_networks():
        raise ValueError(
            f"network '{model}' is applied to sections one by one; it is for the stage track, as "
            f"follower or detector; expected one of {', '.join(known)}"
        )
    close = difflib.get_close_matches(model, known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    listed = ", ".join(known) or "none"
    raise ValueError(
        f"there is no network '{model}'{hint} (bundled: {listed}; or the path of a checkpoint, "
        "or module:Class of your own)"
    )


def _foreign(model: str, weights: str | None, declared: DeclaredNetwork | None) -> FoundNetwork:
    """A network of the user's own; its module is located and not imported."""
    module = model.partition(":")[0]
    if declared is None:
        raise ValueError(
            f"network: '{model}' is your own class; declare its offsets, voxel_size_nm, input_tile "
            "and halo"
        )
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise ValueError(
            f"model '{model}': there is no module '{module}'; put {module}.py next to the pipeline "
            "file, or install it"
        )
    header, path = declared.header(model), None
    if weights is not None:
        path = str(Path(weights).expanduser().absolute())
        read_metadata(path)
        header = header.model_copy(update={"weights_sha256": sha256(path)})
    source = ""
    if spec.origin and spec.origin.endswith(".py"):
        source = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    return FoundNetwork(header, path, {"header": _dumped(header), "source": source}, foreign=True)
