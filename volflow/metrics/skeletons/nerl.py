"""nERL: run lengths in which thick edges and those near the nucleus have more weight.

The weight of an edge is `radius * length / d`, where d grows with the logarithm of the distance to
the cell's nucleus: losing a distant twig costs less than a cut through the trunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from volflow.metrics.skeletons.forest import SkeletonForest
from volflow.metrics.skeletons.run_length import group_sums

NUCLEUS_NM = 2500.0  # radius of a nucleus if unknown


@dataclass(frozen=True, slots=True, eq=False)
class Nuclei:
    """The nucleus of each skeleton.

    Attributes
    ----------
    centre : float64 array, (S, 3)
        z, y, x in nanometres; NaN for a skeleton without a nucleus.
    radius : float64 array, (S,)
        Nanometres; NaN if unknown, which counts as 2500.

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
                "nuclei: expected centres (S, 3) and radii (S,); "
                f"got {self.centre.shape} and {self.radius.shape}"
            )
        wrong = (self.radius <= 0) | np.isinf(self.radius)
        if wrong.any():
            raise ValueError(
                f"nuclei: expected positive radii; {wrong.sum()} of {len(wrong)} are not, such as "
                f"{self.radius[wrong][0]}"
            )

    @property
    def known(self) -> np.ndarray:
        """Whether each skeleton has a nucleus; bool (S,)."""
        known: np.ndarray = np.isfinite(self.centre).all(axis=1)
        return known


def edge_weights(forest: SkeletonForest, nuclei: Nuclei, d0_nm: float | None = None) -> np.ndarray:
    """The weight of each edge in nERL, in nanometres.

    The weight is `radius * length / d` with the mean of the two radii and
    `d = d0 ln(1 + max(D, R) / d0)`, where D is the distance from the centre of the edge to that of
    the nucleus and R the radius of the nucleus.

    Parameters
    ----------
    forest : SkeletonForest
        With radii.
    nuclei : Nuclei
        One for each skeleton.
    d0_nm : float, optional
        Default: the radius of each nucleus.

    Returns
    -------
    float64 array, (E,)
        0 for edges of a skeleton without nucleus.

    Raises
    ------
    ValueError
        If the number of nuclei is not that of the skeletons, or d0 is not positive.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, eq. (13). The paper defines neither which node's radius is
    meant nor the form of d. A plain logarithm would depend on the unit, and be negative below 1.
    """
    if nuclei.radius.shape != (len(forest.names),):
        raise ValueError(
            f"nuclei: expected {len(forest.names)}, one per skeleton; got {len(nuclei.radius)}"
        )
    if d0_nm is not None and not (math.isfinite(d0_nm) and d0_nm > 0):
        raise ValueError(f"d0_nm: expected a positive number of nm; got {d0_nm}")
    size = np.where(np.isnan(nuclei.radius), NUCLEUS_NM, nuclei.radius)
    own = forest.skeleton[forest.edges[:, 0]]
    inner = size[own]
    unit = inner if d0_nm is None else np.full(len(own), d0_nm)
    ends = forest.position[forest.edges]
    gone = (ends[:, 0] + ends[:, 1]) / 2 - nuclei.centre[own]
    far = np.sqrt((gone**2).sum(axis=1))
    distance = unit * np.log1p(np.maximum(far, inner) / unit)
    thick = forest.radius[forest.edges].sum(axis=1) / 2
    return np.where(nuclei.known[own], thick * forest.lengths / distance, 0.0)


def normalise_weights(forest: SkeletonForest, weight: np.ndarray) -> np.ndarray:
    """Scale the weights of each skeleton such that their sum is its length.

    Weights of a skeleton whose sum is 0 stay unchanged.
    """
    own = forest.skeleton[forest.edges[:, 0]]
    total = group_sums(own, weight, len(forest.names))
    length = group_sums(own, forest.lengths, len(forest.names))
    factor = np.divide(length, total, out=np.zeros_like(total), where=total > 0)
    scaled: np.ndarray = weight * factor[own]
    return scaled
