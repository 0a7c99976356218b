"""Checks of this machine: kernel cache, memory, disk, GPU, and the volume formats."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from volflow.cli.checks.finding import Finding, Verdict

LITTLE_MEMORY = 4e9  # bytes per core below which one worker per core is short of memory
LITTLE_DISK = 10e9  # bytes
ANSWER_SECONDS = 20  # nvidia-smi of a machine with many GPUs takes a few seconds


def check_kernels() -> Iterator[Finding]:
    """A folder for compiled kernels; without it, each process compiles them again."""
    from volflow.kernels import cache_folder

    folder = cache_folder()
    if folder is not None:
        yield Finding("kernels", "ok", f"compiled once, stored in {folder}")
        return
    yield Finding(
        "kernels",
        "warning",
        "no folder for compiled code is writable, so each process compiles it again",
        "set NUMBA_CACHE_DIR to a folder that all workers can write to",
    )


def check_resources() -> Iterator[Finding]:
    """Cores, memory and disk."""
    from volflow.cli.terminal.formatting import plural, size
    from volflow.engine.executors.base import MachineResources

    resources = MachineResources.here()
    per_core = resources.memory / resources.cores
    text = f"{plural(resources.cores, 'core')}, {size(resources.memory)} of memory"
    if per_core < LITTLE_MEMORY:
        remedy = "use fewer workers (--workers) or smaller blocks if a plan needs more"
        yield Finding("machine", "warning", f"{text}: {size(per_core)} per core", remedy)
    else:
        yield Finding("machine", "ok", text)
    free = shutil.disk_usage(Path.cwd()).free
    remedy = "" if free > LITTLE_DISK else "write runs elsewhere: --set run=DIR"
    verdict: Verdict = "warning" if remedy else "ok"
    yield Finding("disk", verdict, f"{size(free)} free in this folder", remedy)


def check_gpu() -> Iterator[Finding]:
    """GPUs that the driver lists, against those that torch can use."""
    from volflow.cli.terminal.formatting import plural, size

    try:
        import torch
    except Exception as error:  # a broken CUDA library raises OSError
        text = f"torch cannot be imported: {error}"
        yield Finding(
            "gpu", "broken", text, "`predict` and `train` need torch: see docs/clusters.md"
        )
        return
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(number)
            text = f"{device.name}, {size(device.total_memory)}"
            yield Finding(
                "gpu", "ok", f"{text}, CUDA {torch.version.cuda}, torch {torch.__version__}"
            )
        return
    names = _listed_gpus()
    if names:
        unusable = f"{plural(len(names), 'GPU')} ({names[0]})"
        yield Finding(
            "gpu",
            "warning",
            f"torch {torch.__version__} cannot use {unusable}",
            "install a torch built for CUDA that fits the driver (nvidia-smi shows its version)",
        )
    else:
        yield Finding("gpu", "none", "no GPU: networks run on the processor")


def _listed_gpus() -> list[str]:
    """Names of the GPUs that nvidia-smi lists; empty without a driver."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        result = subprocess.run(
            [command, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in result.stdout.splitlines() if line.strip()]


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
                text = f"{name}: other values were read than written"
                yield Finding("volumes", "broken", text)
                return
    yield Finding("volumes", "ok", f"written and read back: {', '.join(formats)}")
