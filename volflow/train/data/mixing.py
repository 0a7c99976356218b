"""Crops that look like another volume (FDA), or combine two crops (CutMix).

Both help a network to generalise to volumes of kinds it has not been trained on: its predictions
should depend neither on the brightness of a section and its drift, nor on what surrounds an object.
"""

from __future__ import annotations

from math import floor

import numpy as np
from scipy import fft


def frequency_mixed(
    image: np.ndarray, other: np.ndarray, beta: float, low: float, high: float
) -> np.ndarray:
    """An image with the low-frequency amplitudes of another one.

    Section by section, the amplitudes of the lowest frequencies along y and x are replaced by those
    of a section of the other image; phases, which encode positions, are unchanged. `low` is
    subtracted first: with intensities of both signs the mean of a section would otherwise keep its
    own sign.

    Parameters
    ----------
    image : float32 array, (Z, Y, X)
    other : float32 array, (Z', Y, X)
        Section z of the image receives the amplitudes of section z modulo Z'.
    beta : float
        At least 0 and below 0.5: frequencies up to floor(beta * min(Y, X)) periods per section
        along both axes are replaced. Where that is 0, only the mean is.
    low, high : float
        Range to which the result is clipped.

    Returns
    -------
    float32 array, (Z, Y, X)

    Raises
    ------
    ValueError
        If sections differ in shape, or beta or the range is invalid.

    References
    ----------
    Yang and Soatto, FDA: Fourier Domain Adaptation for Semantic Segmentation, CVPR 2020;
    adopted by SegNeuron (MICCAI 2024), whose released code has beta 0.001, that is, means only.
    """
    if image.ndim != 3 or other.ndim != 3 or image.shape[1:] != other.shape[1:] or not len(other):
        raise ValueError(
            f"expected sections of the same shape in both images; got {image.shape} and "
            f"{other.shape}"
        )
    if not 0 <= beta < 0.5:
        raise ValueError(f"expected beta at least 0 and below 0.5; got {beta}")
    if not low < high:
        raise ValueError(f"expected low below high; got {low} and {high}")
    height, width = image.shape[1:]
    reach = floor(beta * min(height, width))
    partner = other[np.arange(len(image)) % len(other)]
    # The transform of real values: columns of negative frequency are implied by the others.
    waves = fft.rfft2(image.astype(np.float32) - np.float32(low))  # (Z, Y, X // 2 + 1)
    target = fft.rfft2(partner.astype(np.float32) - np.float32(low))
    rows = np.arange(-reach, reach + 1) % height
    columns = np.arange(reach + 1)
    window = (slice(None), rows[:, None], columns)
    waves[window] = np.abs(target[window]) * np.exp(1j * np.angle(waves[window]))
    mixed = fft.irfft2(waves, s=(height, width)) + np.float32(low)
    clipped: np.ndarray = np.clip(mixed, low, high).astype(np.float32)
    return clipped


def cutmix_window(shape_yx: tuple[int, int], side: int, rng: np.random.Generator) -> np.ndarray:
    """A random square window of a section, into which another crop is pasted.

    Parameters
    ----------
    shape_yx : 2 int
        Shape of a section, voxels.
    side : int
        Side of the window, voxels.
    rng : Generator
        All positions inside the section are equally likely.

    Returns
    -------
    bool array, (Y, X)
        True in the window.

    Raises
    ------
    ValueError
        If the window does not fit.

    References
    ----------
    Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
    Features, ICCV 2019; SegNeuron (MICCAI 2024) has 70 of 128 voxels.
    """
    if not 1 <= side <= min(shape_yx):
        raise ValueError(f"a window of side {side} does not fit in a section of {shape_yx}")
    y, x = (int(rng.integers(0, length - side + 1)) for length in shape_yx)
    window = np.zeros(shape_yx, bool)
    window[y : y + side, x : x + side] = True
    return window
