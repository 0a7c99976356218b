"""The header of a checkpoint whose network is applied to single sections.

Such a network has no tiles and no halo: it is given whole sections. Its header is stored under a
key of its own, so that the stage `predict` refuses the file.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from volflow.checkpoints.header import Nanometres, Normalisation, validated
from volflow.checkpoints.safetensors_file import read_metadata
from volflow.errors import StorageError

KEY = "volflow.sections"  # of the header in the metadata of a safetensors file


class SectionHeader(BaseModel):
    """Everything that must be known of a network to apply it to sections."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: Literal["volflow-sections-1"] = "volflow-sections-1"
    """Version of this header."""
    network: Annotated[str, Field(pattern=r"^\w+$")]
    """Registered name of the network, such as `quasidense`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the network's class."""
    voxel_size_nm: Nanometres
    """Voxel size z y x of the training volumes, nanometres."""
    normalisation: Normalisation = Normalisation()
    """Normalisation of intensities."""
    card: str = ""
    """File name of the model card, next to the checkpoint: data, licence, training."""
    weights_sha256: str = ""
    """SHA-256 of the tensors as stored; filled in when the checkpoint is written."""


def is_section_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether a checkpoint is that of a network of sections.

    Raises
    ------
    StorageError
        If there is no such file, or it is cut off.
    """
    return KEY in read_metadata(path)


def read_section_header(path: str | os.PathLike[str]) -> SectionHeader:
    """The header of a checkpoint; tensors are not read, but their places are checked.

    Raises
    ------
    StorageError
        If there is no such file, it is cut off, or it is not a checkpoint of a network of sections.
    """
    text = read_metadata(path).get(KEY)
    if text is None:
        raise StorageError(
            f"checkpoint {path}: not a network of sections; expected a checkpoint written by a "
            "training of such a network (volflow train tracker)"
        )
    return validated(path, text, SectionHeader)
