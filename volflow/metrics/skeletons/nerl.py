"""nERL: run lengths in which what is thick and near the nucleus weighs more.

An edge counts `radius * length / d`, with d growing as the logarithm of the distance to the cell's
nucleus, so that a lost twig far out costs less than a cut through the trunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from volflow.metrics.skeletons.forest import SkeletonForest
from volflow.metrics.skeletons.run_length import sums

NUCLEUS_NM = 2500.0  # radius where it is not known


@dataclass(frozen=True, slots=True, eq=False)
class Nuclei:
    """The nucleus of each skeleton.

    Attributes
    ----------
    centre : float64 array, (S, 3)
        z, y, x in nanometres; NaN for a skeleton without nucleus.
    radius : float64 array, (S,)
        Nanometres; NaN where it is not known, and 2500 is taken.

    Raises
    ------
    ValueError
        If shapes differ, or a radius is not positive.
    """

    centre: np.ndarray
    radius: np.ndarray

    def __post_init__(self) -> None:
        if self.centre.shape != (len(self.radius), 3) or self.radius.ndim != 1:
            raise ValueError(
                "nuclei need centres (S, 3) and radii (S,); "
                f"got {self.centre.shape} and {self.radius.shape}"
            )
        wrong = (self.radius <= 0) | np.isinf(self.radius)
        if wrong.any():
            raise ValueError(
                f"{wrong.sum()} of {len(wrong)} radii of nuclei are not positive numbers, "
                f"such as {self.radius[wrong][0]}"
            )

    @property
    def known(self) -> np.ndarray:
        """Which skeletons have a nucleus, bool (S,)."""
        known: np.ndarray = np.isfinite(self.centre).all(axis=1)
        return known


def edge_weights(traced: SkeletonForest, nuclei: Nuclei, d0_nm: float | None = None) -> np.ndarray:
    """What each edge counts in nERL, in nanometres.

    `radius * length / d` with the mean of the two radii, `d = d0 ln(1 + max(D, R) / d0)`, D from
    the middle of the edge to the centre of the nucleus and R the nucleus' radius.

    Parameters
    ----------
    traced : Traced
        With radii.
    nuclei : Nuclei
        One for each skeleton.
    d0_nm : float, optional
        By default the radius of each nucleus.

    Returns
    -------
    float64 array, (E,)
        0 for edges of a skeleton without nucleus.

    Raises
    ------
    ValueError
        If there is not one nucleus to a skeleton, or d0 is not positive.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, eq. (13). The paper names neither the radius of which node nor
    the form of d: a plain logarithm is negative below one unit and depends on that unit.
    """
    if nuclei.radius.shape != (len(traced.names),):
        raise ValueError(
            f"{len(traced.names)} skeletons need as many nuclei; got {len(nuclei.radius)}"
        )
    if d0_nm is not None and not (math.isfinite(d0_nm) and d0_nm > 0):
        raise ValueError(f"d0 must be a positive number of nanometres; got {d0_nm}")
    size = np.where(np.isnan(nuclei.radius), NUCLEUS_NM, nuclei.radius)
    own = traced.skeleton[traced.edges[:, 0]]
    inner = size[own]
    unit = inner if d0_nm is None else np.full(len(own), d0_nm)
    ends = traced.position[traced.edges]
    gone = (ends[:, 0] + ends[:, 1]) / 2 - nuclei.centre[own]
    far = np.sqrt((gone**2).sum(axis=1))
    distance = unit * np.log1p(np.maximum(far, inner) / unit)
    thick = traced.radius[traced.edges].sum(axis=1) / 2
    return np.where(nuclei.known[own], thick * traced.lengths / distance, 0.0)


def normalised(traced: SkeletonForest, weight: np.ndarray) -> np.ndarray:
    """Weights rescaled within each skeleton so that they add up to its length.

    A skeleton whose weights add up to 0 keeps them.
    """
    own = traced.skeleton[traced.edges[:, 0]]
    total = sums(own, weight, len(traced.names))
    length = sums(own, traced.lengths, len(traced.names))
    factor = np.divide(length, total, out=np.zeros_like(total), where=total > 0)
    scaled: np.ndarray = weight * factor[own]
    return scaled
