"""volflow: from electron microscopy volumes to neurons, block by block."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from volflow.engine.api import run

__version__ = "0.1.0"
__all__ = ["__version__", "run"]


def __getattr__(name: str) -> object:
    """`volflow.run`, imported when it is asked for: `import volflow` stays light."""
    if name == "run":
        return importlib.import_module("volflow.engine.api").run
    raise AttributeError(f"module 'volflow' has no attribute '{name}'")
