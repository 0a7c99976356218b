"""Detected synaptic partners, pairs of a pre- and a postsynaptic site, matched one to one.

truth       pre o---------> post     two pairs match if both ends are close to each other
              ·               ·      and, if neurons are given, join the same two neurons
detected     pre o-------> post
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.spatial import KDTree

from volflow.metrics.detections.matching import Matching, best_pairs

PARTNER_DISTANCE = 400.0  # nm, CREMI's
BATCH = 4096  # truth rows whose candidates are in memory at the same time

Ends = Literal["each", "sum"]


@dataclass(frozen=True, slots=True, eq=False)
class Partners:
    """Directed pairs of synaptic sites.

    Attributes
    ----------
    pre, post : float64 array, (N, 3)
        z, y, x of the two ends in nanometres, finite.
    pre_neuron, post_neuron : uint64 array, (N,), or None
        The neuron of the *ground truth* at each end, for detections as for the truth; both or
        none.

    Raises
    ------
    ValueError
        If lengths differ or positions are not finite.
    """

    pre: np.ndarray
    post: np.ndarray
    pre_neuron: np.ndarray | None = None
    post_neuron: np.ndarray | None = None

    def __post_init__(self) -> None:
        pre, post = positions("pre", self.pre), positions("post", self.post)
        object.__setattr__(self, "pre", pre)
        object.__setattr__(self, "post", post)
        if len(pre) != len(post):
            raise ValueError(f"partners: expected {len(pre)} postsynaptic sites; got {len(post)}")
        if (self.pre_neuron is None) != (self.post_neuron is None):
            raise ValueError("partners: expected neurons at both ends, or at neither")
        for name in ("pre_neuron", "post_neuron"):
            given = getattr(self, name)
            if given is None:
                continue
            neurons = np.asarray(given)
            if neurons.shape != (len(pre),) or (neurons.dtype.kind not in "iu" and len(neurons)):
                raise ValueError(
                    f"{name}: expected {len(pre)} integers, one per pair of partners; got "
                    f"{neurons.dtype} of shape {neurons.shape}"
                )
            object.__setattr__(self, name, neurons.astype(np.uint64))

    def __len__(self) -> int:
        return len(self.pre)


def positions(name: str, given: np.ndarray) -> np.ndarray:
    """Positions as a float64 array (N, 3); an empty one may have any shape.

    Raises
    ------
    ValueError
        If the shape is another, or a position is not finite.
    """
    places = np.asarray(given, np.float64)
    if not places.size:
        return np.zeros((0, 3))
    if places.ndim != 2 or places.shape[1] != 3:
        raise ValueError(
            f"{name}: expected positions (N, 3), z, y, x in nm; got shape {places.shape}"
        )
    wrong = ~np.isfinite(places).all(axis=1)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"{name}: {wrong.sum()} of {len(places)} positions are not finite, the first in row "
            f"{first}: {places[first].tolist()}"
        )
    return places


def require_inside(name: str, given: np.ndarray, start_nm: np.ndarray, stop_nm: np.ndarray) -> None:
    """Raise if positions are outside a box, with a guess at the cause.

    Parameters
    ----------
    name : str
        Name of the positions in the message.
    given : float array, (N, 3)
        z, y, x in nanometres.
    start_nm, stop_nm : float array, (3,)
        The box, both ends included.

    Raises
    ------
    ValueError
        If any is outside. The message reports whether all would be inside as x, y, z or in
        micrometres. (Voxel coordinates cannot be detected: they are inside most boxes.)
    """
    places = positions(name, given)
    start, stop = np.asarray(start_nm, np.float64), np.asarray(stop_nm, np.float64)
    outside = _outside(places, start, stop)
    if not outside.any():
        return
    guess = ""
    if not _outside(places[:, ::-1], start, stop).any():
        guess = "; read as x, y, z all would be inside"
    elif not _outside(places * 1000, start, stop).any():
        guess = "; read as micrometres all would be inside"
    raise ValueError(
        f"{name}: {outside.sum()} of {len(places)} positions are outside of the box from "
        f"{start.tolist()} to {stop.tolist()} nm (z, y, x), the first is "
        f"{places[np.argmax(outside)].tolist()}{guess}"
    )


def match_partners(
    truth: Partners, detected: Partners, distance: float = PARTNER_DISTANCE, ends: Ends = "each"
) -> Matching:
    """Match synaptic partners one to one.

    Two pairs may match if they are close to each other and, where neurons are given, join the
    same neurons in the same direction. The matching minimises the mean distance of the two ends,
    summed over matches, plus 2 x `distance` for every pair without a match on the side that has
    more pairs.

    Parameters
    ----------
    truth, detected : Partners
        Both with neurons, or both without.
    distance : float
        Greatest distance of a match in nanometres, above 0.
    ends : {"each", "sum"}
        Whether `distance` limits that of each end, or the sum of both.

    Returns
    -------
    Matching
        Its values are mean distances of the two ends in nanometres.

    References
    ----------
    The synaptic partner F-score of the CREMI challenge (cremi.org/metrics), with `ends` "each":
    the same candidates and the same sum, so the same counts, but without a matrix of all truths
    by all detections.
    """
    check_distance(distance)
    if ends not in ("each", "sum"):
        raise ValueError(f"ends: expected 'each' or 'sum'; got {ends!r}")
    if (truth.pre_neuron is None) != (detected.pre_neuron is None):
        raise ValueError("partners: expected neurons on both sides, truth and detected, or on none")
    first, second, cost = _candidates(truth, detected, distance, ends)
    # slightly in favour of more matches, in case two sums are equal
    chosen = best_pairs(first, second, 2 * distance * (1 + 1e-9) - cost)
    return Matching(first[chosen], second[chosen], cost[chosen], len(truth), len(detected))


def partner_errors(
    truth: Partners, detected: Partners, matching: Matching, most: int = 20
) -> dict[str, list[dict[str, Any]]]:
    """The first missed and false partners with their positions, as JSON.

    Parameters
    ----------
    truth, detected : Partners
    matching : Matching
        Of these partners.
    most : int
        Number of pairs of each kind.

    Returns
    -------
    dict
        `false_negatives` and `false_positives`: row, pre and post (z, y, x in nm), and the
        neurons where they are known.
    """
    return {
        "false_negatives": [_as_json(truth, int(row)) for row in matching.missed[:most]],
        "false_positives": [_as_json(detected, int(row)) for row in matching.spurious[:most]],
    }


def _as_json(partners: Partners, row: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"row": row}
    entry |= {"pre": partners.pre[row].tolist(), "post": partners.post[row].tolist()}
    if partners.pre_neuron is not None and partners.post_neuron is not None:
        entry["pre_neuron"] = int(partners.pre_neuron[row])
        entry["post_neuron"] = int(partners.post_neuron[row])
    return entry


def check_distance(distance: float) -> None:
    """Raise unless a distance is finite and above 0.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not (np.isfinite(distance) and distance > 0):
        raise ValueError(f"distance: expected a finite number of nm above 0; got {distance}")


def _outside(places: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    return np.asarray(((places < start) | (places > stop)).any(axis=1))


def _candidates(
    truth: Partners, detected: Partners, distance: float, ends: Ends
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of truth and detections that may match, and the mean distance of their ends.

    Both ends form one point in six dimensions: pairs that are close at both ends are close there.
    """
    tree = KDTree(np.hstack([detected.pre, detected.post])) if len(detected) else None
    radius = distance * (np.sqrt(2) if ends == "each" else 1) * (1 + 1e-9)
    candidates: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [
        (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    ]
    for start in range(0, len(truth) if tree else 0, BATCH):
        rows = slice(start, start + BATCH)
        part = KDTree(np.hstack([truth.pre[rows], truth.post[rows]]))
        near = part.sparse_distance_matrix(tree, radius, output_type="ndarray")
        first, second = near["i"].astype(np.int64) + start, near["j"].astype(np.int64)
        pre = np.linalg.norm(truth.pre[first] - detected.pre[second], axis=1)
        post = np.linalg.norm(truth.post[first] - detected.post[second], axis=1)
        apart = np.maximum(pre, post) if ends == "each" else pre + post
        good = np.asarray(apart <= distance)
        if truth.pre_neuron is not None and detected.pre_neuron is not None:
            good &= truth.pre_neuron[first] == detected.pre_neuron[second]
        if truth.post_neuron is not None and detected.post_neuron is not None:
            good &= truth.post_neuron[first] == detected.post_neuron[second]
        candidates.append((first[good], second[good], (pre[good] + post[good]) / 2))
    first, second, cost = (np.concatenate(column) for column in zip(*candidates, strict=True))
    order = np.lexsort((second, first))
    return first[order], second[order], cost[order]
