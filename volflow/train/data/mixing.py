"""Images of one volume made to look like those of another, or put together of two.

Both serve a network that is to work on volumes of kinds that it never saw: how bright a section
is and how its brightness drifts should not matter to it, nor what lies beside an object.
"""

from __future__ import annotations

from math import floor

import numpy as np
from scipy import fft


def frequency_mixed(
    image: np.ndarray, other: np.ndarray, beta: float, low: float, high: float
) -> np.ndarray:
    """An image whose slow changes along y and x are as strong as another one's.

    Section by section, the amplitudes of the lowest frequencies are replaced by those of a
    section of the other image; phases, which say where things are, stay. Amplitudes are those of
    what lies above `low`: with grey values on both sides of 0 the mean of a section would
    otherwise keep its own sign.

    Parameters
    ----------
    image : float32 array, (Z, Y, X)
    other : float32 array, (Z', Y, X)
        Section z of the image takes from section z modulo Z'.
    beta : float
        In 0 to 0.5: frequencies up to floor(beta * min(Y, X)) periods per section along both axes
        are replaced. Where that is 0, only the mean is.
    low, high : float
        Grey values are cut off there.

    Returns
    -------
    float32 array, (Z, Y, X)

    Raises
    ------
    ValueError
        If sections differ in shape, or beta or the range of grey values is none.

    References
    ----------
    Yang and Soatto, FDA: Fourier Domain Adaptation for Semantic Segmentation, CVPR 2020, from
    where SegNeuron (MICCAI 2024) has it. Released with beta 0.001, that is, means only.
    """
    if image.ndim != 3 or other.ndim != 3 or image.shape[1:] != other.shape[1:] or not len(other):
        raise ValueError(
            f"sections of both images must have one shape; got {image.shape} and {other.shape}"
        )
    if not 0 <= beta < 0.5:
        raise ValueError(f"beta must be at least 0 and below 0.5; got {beta}")
    if not low < high:
        raise ValueError(f"low must be below high; got {low} and {high}")
    height, width = image.shape[1:]
    reach = floor(beta * min(height, width))
    partner = other[np.arange(len(image)) % len(other)]
    # The transform of real values: columns of negative frequency are implied by the others.
    waves = fft.rfft2(image.astype(np.float32) - np.float32(low))  # (Z, Y, X // 2 + 1)
    wanted = fft.rfft2(partner.astype(np.float32) - np.float32(low))
    rows = np.arange(-reach, reach + 1) % height
    columns = np.arange(reach + 1)
    window = (slice(None), rows[:, None], columns)
    waves[window] = np.abs(wanted[window]) * np.exp(1j * np.angle(waves[window]))
    mixed = fft.irfft2(waves, s=(height, width)) + np.float32(low)
    clipped: np.ndarray = np.clip(mixed, low, high).astype(np.float32)
    return clipped


def cutmix_window(shape_yx: tuple[int, int], side: int, rng: np.random.Generator) -> np.ndarray:
    """Where, in every section of a crop, another crop is to be shown.

    Parameters
    ----------
    shape_yx : 2 int
        Of a section, voxels.
    side : int
        Of the square window, voxels.
    rng : Generator
        Every place at which the window lies inside is as likely.

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
