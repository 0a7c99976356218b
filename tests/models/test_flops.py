from __future__ import annotations

import torch
from torch import nn

from volflow.models.flops import operations


def test_operations_of_a_convolution() -> None:
    """Two per multiplication: 3 x 3 x 2 inputs for each of 5 channels of 6 x 7 pixels."""
    count = operations(lambda: nn.Conv2d(2, 5, 3, padding=1)(torch.empty(1, 2, 6, 7)))
    assert count == 2 * (3 * 3 * 2) * 5 * 6 * 7


def test_operations_of_a_product_of_matrices() -> None:
    assert operations(lambda: torch.empty(3, 4) @ torch.empty(4, 5)) == 2 * 3 * 4 * 5
