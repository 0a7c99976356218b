"""HTML pages from templates: everything is escaped, and nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values: Any) -> str:
    """The page that a template makes of some values.

    Parameters
    ----------
    template : str
        File name in `TEMPLATES`.
    **values
        By the names that the template uses; a name that is missing is an error.
    """
    return _environment().get_template(template).render(values)


def data_url(png: bytes) -> str:
    """A PNG file as the address of an image, so that a page contains it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@lru_cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
