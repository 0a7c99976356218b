"""`doctor`: whether volflow can work on this machine, and what to do where it cannot."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import click

Verdict = Literal["ok", "warning", "broken"]
LITTLE_MEMORY = 4e9  # bytes below which a worker per core has little room
LITTLE_DISK = 10e9
REINSTALL = "reinstall, in the folder of the source code: make env, or pip install --upgrade ."
MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "broken": "[red]✗[/]"}


class Finding(NamedTuple):
    """One thing that was looked at."""

    subject: str
    verdict: Verdict
    text: str
    remedy: str = ""


@click.command()
def doctor() -> None:
    """Look for what would keep volflow from working here.

    Ends with 1 if something does.
    """
    from rich.markup import escape

    from volflow.cli.terminal.formatting import output

    console, worst = output(), 0
    for check in CHECKS:
        for finding in _findings(check):
            subject, text = f"{finding.subject:<12}", escape(finding.text)
            console.print(f"{MARKS[finding.verdict]} {subject} {text}")
            if finding.remedy:
                console.print(f"  {'':<12} {escape(finding.remedy)}", style="yellow")
            worst += finding.verdict == "broken"
    console.print()
    if worst:
        console.print(f"[red]{worst} broken[/]: volflow will not work well here")
        sys.exit(1)
    console.print("[green]all well[/]")


def _findings(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a check finds; that it cannot even be made is a finding, too."""
    try:
        return list(check())
    except Exception as error:
        name = check.__name__.removeprefix("check_")
        return [Finding(name, "broken", f"{type(error).__name__}: {error}")]


def check_python() -> Iterator[Finding]:
    """The interpreter."""
    from packaging.specifiers import SpecifierSet

    wanted = SpecifierSet(importlib.metadata.metadata("volflow")["Requires-Python"] or "")
    text = f"{platform.python_version()} at {sys.executable}"
    if not wanted.contains(platform.python_version(), prereleases=True):
        yield Finding("python", "broken", text, f"volflow needs Python {wanted}")
    else:
        yield Finding("python", "ok", text)


def check_packages() -> Iterator[Finding]:
    """Installed versions against those that volflow asks for."""
    from packaging.requirements import Requirement

    wrong, fine = [], []
    for text in importlib.metadata.requires("volflow") or []:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing (expected {requirement.specifier})")
            continue
        fine.append(f"{requirement.name} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} (expected {requirement.specifier})")
    for text in wrong:
        yield Finding(
            "packages",
            "broken",
            text,
            REINSTALL,
        )
    if not wrong:
        yield Finding("packages", "ok", ", ".join(fine))


def check_zfpy() -> Iterator[Finding]:
    """One package whose mere presence breaks others."""
    try:
        version = importlib.metadata.version("zfpy")
    except importlib.metadata.PackageNotFoundError:
        return
    text = f"zfpy {version} is installed; 1.0.1.post0 makes `import numcodecs` and zarr crash"
    yield Finding("zfpy", "broken", text, "pip uninstall zfpy (cloud-volume[all_codecs] brings it)")


def check_stages() -> Iterator[Finding]:
    """The installed stages, each imported."""
    from volflow.core.stage import find_stage, installed_stages

    fine = []
    for name in sorted(installed_stages()):
        try:
            find_stage(name)
        except Exception as error:
            yield Finding("stages", "broken", f"{name}: {error}", REINSTALL)
        else:
            fine.append(name)
    if fine:
        yield Finding("stages", "ok", ", ".join(fine))
    else:
        yield Finding("stages", "broken", "no stage is installed", REINSTALL)


def check_files() -> Iterator[Finding]:
    """The pipelines and cluster profiles that travel with volflow."""
    from volflow.config.bundled import bundled

    for folder in ("pipelines", "deploy"):
        found = ", ".join(bundled(folder))
        if found:
            yield Finding(folder, "ok", found)
        else:
            yield Finding(folder, "broken", "none found", REINSTALL)


def check_numba() -> Iterator[Finding]:
    """Where compiled kernels are kept: without a place, each process compiles them anew."""
    from volflow.config.bundled import PACKAGE

    chosen = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(chosen) if chosen else PACKAGE
    if os.access(folder if folder.exists() else folder.parent, os.W_OK):
        yield Finding("kernels", "ok", f"compiled once, kept in {folder}")
        return
    yield Finding(
        "kernels",
        "warning",
        f"{folder} cannot be written to, so numba falls back to the user's cache folder",
        "set NUMBA_CACHE_DIR to a folder that all workers can write to",
    )


def check_room() -> Iterator[Finding]:
    """Cores, memory and disk."""
    from volflow.cli.terminal.formatting import plural, size
    from volflow.engine.executors.base import MachineResources

    room = MachineResources.here()
    each = room.memory / room.cores
    text = f"{plural(room.cores, 'core')}, {size(room.memory)} of memory"
    if each < LITTLE_MEMORY:
        remedy = "take fewer workers (--workers) or smaller blocks if a plan asks for more"
        yield Finding("machine", "warning", f"{text}: {size(each)} for each core", remedy)
    else:
        yield Finding("machine", "ok", text)
    free = shutil.disk_usage(Path.cwd()).free
    remedy = "" if free > LITTLE_DISK else "write runs elsewhere: --set run=DIR"
    verdict: Verdict = "warning" if remedy else "ok"
    yield Finding("disk", verdict, f"{size(free)} free here", remedy)


def check_volume() -> Iterator[Finding]:
    """A tiny volume of each format that volflow writes, written and read back."""
    import numpy as np

    from volflow.config.pipeline import VolumeSpec
    from volflow.core.geometry import Box
    from volflow.core.stage import Layer
    from volflow.io.volume import Volume

    box = Box((0, 0, 0), (8, 9, 10))
    labels = np.arange(box.size, dtype="uint64").reshape(box.shape)
    formats = ("precomputed", "zarr", "zarr3", "n5")
    with tempfile.TemporaryDirectory(prefix="volflow-") as folder:
        for name in formats:
            spec = VolumeSpec(path=f"{name}://{folder}/{name}")
            layer = Layer("uint64", 0, "segmentation")
            volume, _ = Volume.create(spec, layer, box, (8.0, 8.0, 8.0), box.shape)
            volume.write(box, labels)
            if not np.array_equal(Volume.open(spec).read(box), labels):
                yield Finding("volumes", "broken", f"{name}: read back other numbers than written")
                return
    yield Finding("volumes", "ok", f"written and read back: {', '.join(formats)}")


def check_view() -> Iterator[Finding]:
    """What `view` needs beyond the rest: the viewer, and for screenshots a browser."""
    from volflow.view.neuroglancer.viewer import missing_browser, missing_package

    lacking = missing_package("neuroglancer")
    if lacking:
        yield Finding("view", "warning", f"`volflow view` needs {lacking}")
        return
    lacking = missing_browser()
    if lacking:
        remedy = "install a browser and its driver (Debian: apt install chromium chromium-driver)"
        text = f"Neuroglancer is there; `volflow view --screenshot` needs {lacking}"
        yield Finding("view", "warning", text, "" if "pip" in lacking else remedy)
        return
    yield Finding("view", "ok", "Neuroglancer, and a browser for screenshots")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_packages,
    check_zfpy,
    check_files,
    check_stages,
    check_numba,
    check_room,
    check_volume,
    check_view,
)
