"""Answers of a user's own stage: their types, and its exceptions as problems of that stage."""

from __future__ import annotations

import contextlib
import errno
import math
import pickle
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from volflow.core.geometry import BlockGrid
from volflow.core.stage import Columns, Layer, Phase, Stage, registered_name
from volflow.core.stage.faults import exits_raise, fault_text, shortened
from volflow.errors import PlanError, StorageError

KINDS = ("", "image", "affinity", "segmentation", "skeletons", "table")
LARGEST_HALO = 1 << 31
LARGEST_MEMORY = 1 << 62


class StageFault(Exception):
    """A method of a stage raised or returned something wrong; the message names both."""


@contextlib.contextmanager
def stage_faults(stage: Stage) -> Iterator[None]:
    """Raise `StageFault` for what a user's stage raises; errors of bundled stages pass.

    So do errors of a store, a full disk among them: results are written while a stage is guarded.
    """
    try:
        with exits_raise():
            yield
    except (StageFault, PlanError, StorageError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        if type(stage).__module__.startswith("volflow."):
            raise
        raise StageFault(_fault(stage, error)) from error


def declared(stage: Stage, grid: BlockGrid) -> tuple[Any, set[int]]:
    """Outputs of a stage and the scales that it writes, both checked.

    Raises
    ------
    StageFault
    """
    with stage_faults(stage):
        stage.takes_mask()
        _require(stage, "inputs", stage.inputs(), _is_names, "a dict of names")
        _require(stage, "wants", stage.wants, _is_wants, "a dict of Layer")
        outputs: Any = stage.outputs
        _check_outputs(stage, outputs)
        if type(stage).written_scales is Stage.written_scales:
            phases(stage, stage.phases(grid))
        scales = stage.written_scales(grid)
        text = "a set of integers from 0 on"
        return outputs, _require(stage, "written_scales", scales, _is_scales, text)


def halo(stage: Stage, value: Any) -> Any:
    """A halo of a stage, if it is three integers from 0 on."""
    return _require(stage, "halo", value, _is_halo, "three whole numbers of voxels from 0 on")


def block(stage: Stage, value: Any) -> Any:
    """A block shape of a stage, if it is three integers from 1 on."""
    text = "three whole numbers of voxels from 1 on"
    return _require(
        stage, "block_on", value, lambda shape: _is_halo(shape) and min(shape) > 0, text
    )


def sentences(stage: Stage, method: str, value: Any) -> list[str]:
    """Sentences that a check of a stage returns."""
    checked: Sequence[str] = _require(stage, method, value, _is_sentences, "a list of str")
    return [shortened(sentence, 2000) for sentence in checked]


def phases(stage: Stage, value: Any) -> Sequence[Phase]:
    """Phases of a stage."""
    checked: Sequence[Phase] = _require(stage, "phases", value, _is_phases, "a tuple of Phase")
    return checked


def memory(stage: Stage, value: Any, method: str = "memory") -> int:
    """Bytes that a stage needs, as a whole number from 0 on."""
    return int(_require(stage, method, value, _is_bytes, "a number of bytes from 0 on"))


def effort(stage: Stage, value: Any, method: str = "effort") -> float:
    """The effort of blocks by a stage, as a finite number from 0 on."""
    return float(_require(stage, method, value, _is_effort, "a finite number from 0 on"))


def require_picklable(stage: Stage, jobs: Sequence[object]) -> None:
    """Check that jobs of a user's stage survive being pickled, as they are sent to workers.

    Raises
    ------
    StageFault
    """
    if type(stage).__module__.startswith("volflow."):
        return
    try:
        with exits_raise():
            for job in jobs:
                pickle.loads(pickle.dumps(job))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise StageFault(
            f"{_name(stage)}: cannot be sent to workers: pickling it {_raised(error)}; expected "
            f"parameters and attributes that can be pickled, and a class at the top level of its "
            f"module"
        ) from error


def _raised(error: BaseException) -> str:
    text = fault_text(error)
    return text if text.startswith("called ") else f"raised {text}"


def _fault(stage: Stage, error: BaseException) -> str:
    """The method of the stage that raised, its error, and the line of it."""
    method, inherited, last = "", "", ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_locals.get("self") is stage or frame.f_locals.get("cls") is type(stage):
            if str(frame.f_globals.get("__name__")).startswith("volflow."):
                inherited = frame.f_code.co_name
            else:
                method = method or frame.f_code.co_name
        last = f"{Path(frame.f_code.co_filename).name}:{line}"
    place = method or inherited or "its declaration"
    return f"{_name(stage)}: {place} {_raised(error)} ({last})"


def _name(stage: Stage) -> str:
    return f"stage {registered_name(type(stage))}"


def _require(
    stage: Stage, method: str, value: Any, fits: Callable[[Any], bool], expected: str
) -> Any:
    if not fits(value):
        raise StageFault(f"{_name(stage)}: {method}: expected {expected}, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    try:
        return shortened(repr(value), 200)
    except Exception:
        return f"a {type(value).__name__}"


def _check_outputs(stage: Stage, outputs: Any) -> None:
    _require(stage, "outputs", outputs, _is_names, "a dict of Layer or Columns by name")
    for name, output in outputs.items():
        place = f"outputs['{name}']"
        if isinstance(output, Columns):
            text = "Columns of pairs (name, dtype)"
            _require(stage, place, output, _is_columns, text)
            continue
        _require(stage, place, output, lambda value: isinstance(value, Layer), "Layer or Columns")
        text = "the name of a native numpy dtype of numbers, or ''"
        _require(stage, f"{place}.dtype", output.dtype, _is_dtype, text)
        text = "None or a number of channels from 0 on"
        _require(stage, f"{place}.channels", output.channels, _is_channels, text)
        _require(stage, f"{place}.kind", output.kind, KINDS.__contains__, f"one of {KINDS}")


def _is_names(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) and name for name in value)


def _is_wants(value: Any) -> bool:
    return _is_names(value) and all(isinstance(layer, Layer) for layer in value.values())


def _is_scales(value: Any) -> bool:
    return isinstance(value, set | frozenset) and all(_is_whole(scale) for scale in value)


def _is_columns(value: Columns) -> bool:
    with contextlib.suppress(Exception):
        return all(isinstance(name, str) and np.dtype(kind) for name, kind in value.dtypes)
    return False


def _is_dtype(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    with contextlib.suppress(Exception):
        return not value or (np.dtype(value).kind in "biuf" and np.dtype(value).isnative)
    return False


def _is_channels(value: Any) -> bool:
    return value is None or _is_whole(value)


def _is_halo(value: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 3:
        return False
    return all(_is_whole(side) and side < LARGEST_HALO for side in value)


def _is_sentences(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)


def _is_phases(value: Any) -> bool:
    return isinstance(value, list | tuple) and {type(each) for each in value} <= {Phase}


def _is_bytes(value: Any) -> bool:
    return _is_effort(value) and value < LARGEST_MEMORY


def _is_effort(value: Any) -> bool:
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real:
        return False
    with contextlib.suppress(OverflowError):  # a whole number beyond all floats
        return bool(math.isfinite(value) and value >= 0)
    return False


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0
