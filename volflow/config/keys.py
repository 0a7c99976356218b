"""The keys of a YAML file by path, taken from the pydantic models that check it."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of the file."""


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a model as a file spells them."""
    return [entry.alias or name for name, entry in model.model_fields.items()]


def type_at(model: type[BaseModel], path: Iterable[str | int]) -> Any:
    """The annotation of the value at a path below a model; None where the path leads nowhere."""
    annotation: Any = model
    for part in path:
        inner = (_below(option, part) for option in alternatives(annotation))
        annotation = next((option for option in inner if option is not None), None)
    return annotation


def model_at(model: type[BaseModel], path: Iterable[str | int]) -> type[BaseModel] | None:
    """The model of the mapping at a path below another model; None where there is none."""
    options = alternatives(type_at(model, path))
    return next((option for option in options if _is_model(option)), None)


def alternatives(annotation: Any) -> Iterator[Any]:
    """The members of a union, without `Annotated`; a type that is no union yields itself."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from alternatives(member)
    else:
        yield annotation


def is_list(annotation: Any) -> bool:
    """Whether a value of this annotation may be a list."""
    return any(get_origin(option) in (tuple, list) for option in alternatives(annotation))


def is_scalar(annotation: Any) -> bool:
    """Whether a value of this annotation can have no entries; False where that is unknown."""
    containers = (tuple, list, dict, Mapping)
    return annotation not in (None, Any) and not any(
        option is Any or _is_model(option) or (get_origin(option) or option) in containers
        for option in alternatives(annotation)
    )


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _below(annotation: Any, part: str | int) -> Any:
    """The annotation of an entry of a model, a mapping or a list; None if it has no such entry."""
    if _is_model(annotation):
        for name, entry in annotation.model_fields.items():
            if part in (name, entry.alias):
                return entry.annotation
        return None
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (dict, Mapping) and arguments and isinstance(part, str):
        return arguments[1]
    if origin in (tuple, list) and arguments and isinstance(part, int):
        if origin is list or arguments[1:] == (...,):
            return arguments[0]
        return arguments[part] if part < len(arguments) else None
    return None
