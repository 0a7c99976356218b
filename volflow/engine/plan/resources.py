"""Checks of a plan against memory and disk space; each yields the problems it finds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from volflow.config.problems import Problem
from volflow.config.wired_step import WiredStep
from volflow.core.stage import Phase
from volflow.engine.job import PlannedStep, Target
from volflow.engine.phases.registry import kind_of
from volflow.engine.plan.chunks import block_path
from volflow.engine.plan.formatting import bytes_text
from volflow.errors import StorageError
from volflow.io.address import Address

# Smallest stored size, as a share of the bytes before compression.
LEAST_STORED = {"raw": 1.0, "compressed_segmentation": 1 / 32}
LEAST_STORED_ELSE = 1 / 8


def check_memory(
    step: WiredStep, phases: Sequence[Phase], needs: Mapping[str, int], memory: int
) -> Iterator[Problem]:
    """Check the memory of a step's most demanding phase against that of a worker."""
    worst = max(phases, key=lambda phase: needs[phase.name], default=None)
    if worst is None or needs[worst.name] <= memory:
        return
    subject, advice = kind_of(worst).memory_advice(worst, step.block)
    yield Problem(
        block_path(step),
        f"step '{step.name}': {subject} needs about {bytes_text(needs[worst.name])} in phase "
        f"'{worst.name}', and a worker has {bytes_text(memory)}; {advice}",
    )


def check_space(run: str, steps: Sequence[PlannedStep]) -> Iterator[Problem]:
    """Check the free disk space against the smallest size of the volumes.

    Volumes that exist already are not counted.
    """
    needs: dict[int, float] = {}
    places: dict[int, Path] = {}
    for target in [target for step in steps for target in step.targets]:
        folder = _local(target.spec.path)
        if folder is None or folder.exists():
            continue
        parent = _existing(folder)
        device = parent.stat().st_dev
        places[device] = parent
        needs[device] = needs.get(device, 0.0) + target.bytes_of() * _least_stored(target)
    for device, need in needs.items():
        free = shutil.disk_usage(places[device]).free
        if need > free:
            yield Problem(
                ("run",),
                f"no space: the volumes take at least {bytes_text(need)} and the disk of "
                f"{places[device]} has {bytes_text(free)} free",
            )
    yield from _check_run_folder(run)


def _least_stored(target: Target) -> float:
    default = "raw"
    if not target.spec.path.startswith("precomputed://"):
        default = ""
    elif target.layer.kind == "segmentation":
        default = "compressed_segmentation"
    return LEAST_STORED.get(target.spec.encoding or default, LEAST_STORED_ELSE)


def _check_run_folder(run: str) -> Iterator[Problem]:
    folder = _local(run)
    if folder is None:
        return
    parent = _existing(folder)
    if not parent.is_dir():
        yield Problem(("run",), f"{parent} is a file; expected a folder")
    elif not os.access(parent, os.W_OK):
        yield Problem(("run",), f"{parent} cannot be written to")


def _local(address: str) -> Path | None:
    try:
        return Address.parse(address).local
    except StorageError:  # reported at the address
        return None


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
