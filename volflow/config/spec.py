"""The base of everything that a YAML file may hold, and the types of its values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

NAME_PATTERN = r"[A-Za-z][A-Za-z0-9_-]*"


class Spec(BaseModel):
    """A part of a YAML file: frozen, unknown keys rejected, docstrings are descriptions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True
    )

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Former keys with their new names, for the error that a former key raises."""


def _name(text: str) -> str:
    if not re.fullmatch(NAME_PATTERN, text):
        raise ValueError(
            "expected a name of letters, digits, '_' and '-' that begins with a letter"
        )
    return text


Name = Annotated[
    str,
    AfterValidator(_name),
    WithJsonSchema({"type": "string", "pattern": f"^{NAME_PATTERN}$"}),
]
Side = Annotated[int, Field(ge=1)]
BlockShape = tuple[Side, Side, Side]
Nanometres = Annotated[float, Field(gt=0)]
