"""The device of a network, its precision, and settings of torch that make it reproducible."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Literal

import torch

from volflow.errors import PlanError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]

FAST_BF16 = ("amx_bf16", "avx512_bf16")  # CPU features that multiply bfloat16 faster than float32


def device_of(device: Device) -> str:
    """The device, `cpu` or `cuda`.

    Raises
    ------
    PlanError
        If cuda is requested and not available.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise PlanError("device: torch has no cuda device here; expected cpu or auto, got cuda")
    return "cuda" if device == "cuda" or (device == "auto" and available) else "cpu"


def is_faster_in_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 on a device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # missing in older torch
    return capabilities is not None and any(capabilities().get(name) for name in FAST_BF16)


@contextlib.contextmanager
def reproducible(threads: int, fill: bool = True, compiled: bool = False) -> Iterator[None]:
    """Fix algorithms and threads, so that a tile always gives the same bytes; restored after.

    Parameters
    ----------
    threads : int
        Threads of a CPU.
    fill : bool
        Whether new tensors are filled with NaN, which shows if a network uses a value that it never
        computed. Our own networks do not, and save the time.
    compiled : bool
        Whether torch compiles the network: the setting is passed on to its compiler.
    """
    before = torch.get_num_threads()
    exact = torch.get_deterministic_debug_mode()
    benchmark = torch.backends.cudnn.benchmark
    deterministic: Any = torch.utils.deterministic  # its property is unknown to mypy
    filled = deterministic.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        if threads != before:
            torch.set_num_threads(threads)
        # `use_deterministic_algorithms` sets the same, and imports torch's compiler to set
        # it there, too, which takes seconds and memory in every worker.
        torch.set_deterministic_debug_mode("error")
        if compiled:
            torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        deterministic.fill_uninitialized_memory = fill
        yield
    finally:
        if compiled:
            torch.use_deterministic_algorithms(exact > 0)
        torch.set_deterministic_debug_mode(exact)
        torch.backends.cudnn.benchmark = benchmark
        deterministic.fill_uninitialized_memory = filled
        if threads != before:
            torch.set_num_threads(before)
