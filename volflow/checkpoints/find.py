"""Which network a step means: one that is shipped, a checkpoint, or a class of the user's own.

Found without torch, so that planning knows halo and channels, and which bytes the weights are.
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
    read_entries,
    read_header,
    sha256,
)
from volflow.checkpoints.heads import Head
from volflow.core.geometry import Triple, zyx
from volflow.errors import StorageError

WEIGHTS = Path(__file__).parent.parent / "weights"
ENDING = ".safetensors"


class DeclaredNetwork(BaseModel):
    """What must be known of a network that is not ours; a checkpoint of ours says it itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments the class is made with."""
    in_channels: Annotated[int, Field(ge=1)] = 1
    """Channels of the image it takes."""
    out_channels: Annotated[int, Field(ge=1)] | None = None
    """Channels it returns; default: as many as offsets, or as its heads have in all."""
    offsets: tuple[Triple, ...] = ()
    """Affinities: channel c joins voxel v with v + offsets[c], z y x. Empty: not affinities."""
    heads: dict[str, Head] = Field(default_factory=dict)
    """Instead of offsets, where it returns several things: the channels of each, in order."""
    voxel_size_nm: tuple[float, float, float]
    """Of the volumes it was trained on, z y x."""
    input_tile: Sides
    """Voxels z y x that it is shown at once."""
    halo: Reach
    """Voxels at each side of a tile whose output is not kept."""
    total_stride: Sides = (1, 1, 1)
    """Tile and halo are multiples of it: the product of its poolings, z y x."""
    batch: Annotated[int, Field(ge=1)] = 1
    """Tiles it is shown at once on a GPU."""
    padding: Padding = "reflect"
    """What it is shown beyond the faces of the volume `a b c`: reflect `c b | a b c | b a`,
    symmetric `b a | a b c | c b`."""
    normalisation: Normalisation = Normalisation()
    """How intensities become its input."""
    sigmoid: bool = True
    """It returns logits; False: probabilities."""

    def header(self, network: str) -> Header:
        """The same, as a checkpoint would say it.

        Raises
        ------
        ValueError
            If it does not fit together.
        """
        told = len(self.offsets) or sum(head.channels for head in self.heads.values())
        if self.out_channels is None and not told:
            raise ValueError("network: give offsets, or out_channels if it predicts no affinities")
        kept = zyx([t - 2 * h for t, h in zip(self.input_tile, self.halo, strict=True)])
        if min(kept) < 1:
            raise ValueError(
                f"network: halo {self.halo} on both sides leaves nothing of tile {self.input_tile}"
            )
        said = {name: getattr(self, name) for name in type(self).model_fields}
        said |= {"out_channels": self.out_channels or told, "network": network}
        return Header(**said, receptive_field=self.halo, output_tile=kept)


@dataclass(frozen=True)
class FoundNetwork:
    """A network and where its weights are; `content` tells all that its output depends on."""

    header: Header
    path: str | None
    content: dict[str, Any]
    foreign: bool = False


def bundled_networks() -> dict[str, Path]:
    """The networks that travel with volflow, by name."""
    return {path.stem: path for path in sorted(WEIGHTS.glob(f"*{ENDING}"))}


def find_network(model: str, weights: str | None, declared: DeclaredNetwork | None) -> FoundNetwork:
    """The network that a step means.

    Parameters
    ----------
    model : str
        Name of a shipped network, path of a checkpoint, or `module:Class`.
    weights : str, optional
        Of a `module:Class`: a safetensors file.
    declared : Foreign, optional
        Of a `module:Class`: what a checkpoint would say.

    Raises
    ------
    ValueError
        If there is none, it is damaged, or what is declared does not fit together.
    """
    try:
        if ":" in model:
            return _foreign(model, weights, declared)
        if weights is not None or declared is not None:
            raise ValueError(
                f"weights and network belong to a model of your own, module:Class; checkpoint "
                f"'{model}' says itself what it is"
            )
        path = _checkpoint(model)
        header = read_header(path)
        if sha256(path) != header.weights_sha256:
            raise ValueError(f"checkpoint {path}: damaged: its tensors have another hash")
    except StorageError as error:
        raise ValueError(str(error)) from error
    return FoundNetwork(header, str(path), {"header": _dumped(header)})


def _dumped(header: Header) -> dict[str, Any]:
    """What of a header the output depends on."""
    return header.model_dump(mode="json", exclude={"card"})


def _checkpoint(model: str) -> Path:
    """The file of a checkpoint, or of the shipped one of that name."""
    path = Path(model).expanduser().absolute()
    known = bundled_networks()
    if path.is_file():
        return path
    if model in known:
        return known[model]
    close = difflib.get_close_matches(model, known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    listed = ", ".join(known) or "none"
    raise ValueError(
        f"there is no network '{model}'{hint} (shipped: {listed}; or the path of a checkpoint, "
        "or module:Class of your own)"
    )


def _foreign(model: str, weights: str | None, declared: DeclaredNetwork | None) -> FoundNetwork:
    """A network of the user's own; its module is found and not yet imported."""
    module = model.partition(":")[0]
    if declared is None:
        raise ValueError(
            f"network: of a model of your own, '{model}', it has to be told: offsets, "
            "voxel_size_nm, input_tile, halo"
        )
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise ValueError(
            f"model '{model}': there is no module '{module}'; put {module}.py beside the pipeline "
            "file, or install it"
        )
    header, path = declared.header(model), None
    if weights is not None:
        path = str(Path(weights).expanduser().absolute())
        read_entries(path)
        header = header.model_copy(update={"weights_sha256": sha256(path)})
    source = ""
    if spec.origin and spec.origin.endswith(".py"):
        source = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    return FoundNetwork(header, path, {"header": _dumped(header), "source": source}, foreign=True)
