"""Number of floating-point operations of a network, counted without computing anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def operations(call: Callable[[], Any]) -> int:
    """Operations of a call whose tensors are on the device `meta`.

    A multiplication with an addition counts as two. Only convolutions and products of matrices
    count, as is usual; what else a network does is little in comparison.

    Parameters
    ----------
    call : function
        Without arguments; creates its networks and tensors itself, or has them on `meta`.
    """
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad(), counter:
        call()
    return counter.get_total_flops()
