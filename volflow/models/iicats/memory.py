"""The memory of support pairs: their weights, and which one is replaced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DECAY = 0.9
BOX_FACTOR = 0.5  # of the weight of a mask that was decoded from a box


def memory_weights(
    ages: Sequence[int] | np.ndarray,
    decay: float = DECAY,
    from_box: Sequence[bool] | np.ndarray | None = None,
) -> np.ndarray:
    """Weights of support pairs: decay ** age, halved for masks of boxes; the sum is 1.

    They weight squared residuals. Settings of other programs that weight residuals have to be
    squared.

    Parameters
    ----------
    ages : int (T,)
        Sections back; any origin, as only differences matter.
    decay : float
        0 to 1.
    from_box : bool (T,), optional
        Pairs whose mask was decoded from a box; default: none.

    Returns
    -------
    float64 (T,)
    """
    age = np.asarray(ages, np.float64)
    if not age.size:
        return age
    weights = decay ** (age - age.min())
    if from_box is not None:
        weights = np.where(from_box, BOX_FACTOR * weights, weights)
    scaled: np.ndarray = weights / weights.sum()
    return scaled


def remembered(weights: Sequence[float] | np.ndarray, capacity: int) -> np.ndarray:
    """Indices of the pairs that stay in a memory, ascending: those of the largest weights.

    Of equal weights the first is dropped first.

    Parameters
    ----------
    weights : float (T,)
    capacity : int
        At least 1.

    Returns
    -------
    int64 (min(T, capacity),)
    """
    order = np.argsort(np.asarray(weights, np.float64), kind="stable")
    stay: np.ndarray = np.sort(order[max(0, len(order) - capacity) :])
    return stay
