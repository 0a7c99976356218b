"""Synaptic partners found: pairs of a pre- and a postsynaptic site, matched one to one.

truth    pre o---------> post        a pair is found where both of its ends are near to
           ·               ·         those of the truth, and (if neurons are given) it
found     pre o-------> post         joins the same two neurons
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.spatial import KDTree

from volflow.metrics.detections.matching import Detection, best_pairs

PARTNER_DISTANCE = 400.0  # nm, CREMI's
AT_ONCE = 4096  # truth rows whose candidates are held in memory together

Ends = Literal["each", "sum"]


@dataclass(frozen=True, slots=True, eq=False)
class Partners:
    """Directed pairs of synaptic sites.

    Attributes
    ----------
    pre, post : float64 array, (N, 3)
        z, y, x of the two ends in nanometres, finite.
    pre_neuron, post_neuron : uint64 array, (N,), or None
        The *truth's* neuron at each end, for what is found as for the truth; both or none.

    Raises
    ------
    ValueError
        If the arrays do not fit together or positions are not finite.
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
            raise ValueError(f"{len(pre)} presynaptic ends need as many others; got {len(post)}")
        if (self.pre_neuron is None) != (self.post_neuron is None):
            raise ValueError("neurons must be given for both ends of the partners, or for none")
        for name in ("pre_neuron", "post_neuron"):
            given = getattr(self, name)
            if given is None:
                continue
            neurons = np.asarray(given)
            if neurons.shape != (len(pre),) or (neurons.dtype.kind not in "iu" and len(neurons)):
                raise ValueError(
                    f"{name} must be {len(pre)} integers, one for each pair of partners; got "
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
        If the shape is another, or some are not finite: how many, and the first.
    """
    found = np.asarray(given, np.float64)
    if not found.size:
        return np.zeros((0, 3))
    if found.ndim != 2 or found.shape[1] != 3:
        raise ValueError(
            f"{name}: positions must be an array (N, 3) of z, y, x in nm; got shape {found.shape}"
        )
    wrong = ~np.isfinite(found).all(axis=1)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"{name}: {wrong.sum()} of {len(found)} positions are not finite, the first in row "
            f"{first}: {found[first].tolist()}"
        )
    return found


def require_inside(name: str, given: np.ndarray, start_nm: np.ndarray, stop_nm: np.ndarray) -> None:
    """Refuse positions outside of a box, with a guess at what they might be instead.

    Parameters
    ----------
    name : str
        What the positions are called in the message.
    given : float array, (N, 3)
        z, y, x in nanometres.
    start_nm, stop_nm : float array, (3,)
        The box, both ends included.

    Raises
    ------
    ValueError
        If any is outside: how many, the first of them, and whether all would fit as x y z or in
        micrometres. (Voxel coordinates lie inside of most boxes and cannot be told.)
    """
    found = positions(name, given)
    start, stop = np.asarray(start_nm, np.float64), np.asarray(stop_nm, np.float64)
    outside = _outside(found, start, stop)
    if not outside.any():
        return
    guess = ""
    if not _outside(found[:, ::-1], start, stop).any():
        guess = "; read as x, y, z all would be inside"
    elif not _outside(found * 1000, start, stop).any():
        guess = "; read as micrometres all would be inside"
    raise ValueError(
        f"{name}: {outside.sum()} of {len(found)} positions are outside of the box from "
        f"{start.tolist()} to {stop.tolist()} nm (z, y, x), the first is "
        f"{found[np.argmax(outside)].tolist()}{guess}"
    )


def match_partners(
    truth: Partners, found: Partners, distance: float = PARTNER_DISTANCE, ends: Ends = "each"
) -> Detection:
    """Which partners of the truth are found, each by one pair at most.

    Two pairs may match if they are near to one another and, where neurons are given, join the
    same neurons in the same direction. Of all ways to match, that is taken which minimises the
    mean distance of the two ends, summed over matches, with 2 x `distance` for every truth or
    found pair (whichever are more) left without a match.

    Parameters
    ----------
    truth, found : Partners
        Both with neurons, or both without.
    distance : float
        How near, in nanometres, above 0.
    ends : {"each", "sum"}
        Whether each end must be within `distance` of its counterpart, or both distances together.

    Returns
    -------
    Detection
        Its values are mean distances of the two ends in nanometres.

    References
    ----------
    The CREMI challenge's synaptic partner F-score, with `ends` "each": the same candidates and
    the same sum, so the same counts, without a matrix of all truths by all found.
    """
    check_distance(distance)
    if ends not in ("each", "sum"):
        raise ValueError(f"ends is 'each' or 'sum'; got {ends!r}")
    if (truth.pre_neuron is None) != (found.pre_neuron is None):
        raise ValueError("neurons must be given for truth and found partners, or for neither")
    first, second, cost = _candidates(truth, found, distance, ends)
    # a hair in favour of more matches, should two sums be equal
    chosen = best_pairs(first, second, 2 * distance * (1 + 1e-9) - cost)
    return Detection(first[chosen], second[chosen], cost[chosen], len(truth), len(found))


def partner_errors(
    truth: Partners, found: Partners, detection: Detection, most: int = 20
) -> dict[str, list[dict[str, Any]]]:
    """The first missed and spurious partners with their places, ready for JSON.

    Parameters
    ----------
    truth, found : Partners
    detection : Detection
        What `match_partners` made of them.
    most : int
        How many of each kind.

    Returns
    -------
    dict
        `false_negatives` and `false_positives`: row, pre and post (z, y, x in nm), and the
        neurons where they are known.
    """
    return {
        "false_negatives": [_told(truth, int(row)) for row in detection.missed[:most]],
        "false_positives": [_told(found, int(row)) for row in detection.spurious[:most]],
    }


def _told(partners: Partners, row: int) -> dict[str, Any]:
    told: dict[str, Any] = {"row": row}
    told |= {"pre": partners.pre[row].tolist(), "post": partners.post[row].tolist()}
    if partners.pre_neuron is not None and partners.post_neuron is not None:
        told["pre_neuron"] = int(partners.pre_neuron[row])
        told["post_neuron"] = int(partners.post_neuron[row])
    return told


def check_distance(distance: float) -> None:
    """Refuse what is no distance in nanometres above 0.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not (np.isfinite(distance) and distance > 0):
        raise ValueError(f"the distance of a match must be above 0 nm and finite; got {distance}")


def _outside(found: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    return np.asarray(((found < start) | (found > stop)).any(axis=1))


def _candidates(
    truth: Partners, found: Partners, distance: float, ends: Ends
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of truth and found that may match, and the mean distance of their ends.

    Both ends make one point in six dimensions; what is near at both ends is near there, too.
    """
    tree = KDTree(np.hstack([found.pre, found.post])) if len(found) else None
    radius = distance * (np.sqrt(2) if ends == "each" else 1) * (1 + 1e-9)
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [
        (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    ]
    for start in range(0, len(truth) if tree else 0, AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        part = KDTree(np.hstack([truth.pre[rows], truth.post[rows]]))
        near = part.sparse_distance_matrix(tree, radius, output_type="ndarray")
        first, second = near["i"].astype(np.int64) + start, near["j"].astype(np.int64)
        pre = np.linalg.norm(truth.pre[first] - found.pre[second], axis=1)
        post = np.linalg.norm(truth.post[first] - found.post[second], axis=1)
        apart = np.maximum(pre, post) if ends == "each" else pre + post
        good = np.asarray(apart <= distance)
        if truth.pre_neuron is not None and found.pre_neuron is not None:
            good &= truth.pre_neuron[first] == found.pre_neuron[second]
        if truth.post_neuron is not None and found.post_neuron is not None:
            good &= truth.post_neuron[first] == found.post_neuron[second]
        kept.append((first[good], second[good], (pre[good] + post[good]) / 2))
    first, second, cost = (np.concatenate(column) for column in zip(*kept, strict=True))
    order = np.lexsort((second, first))
    return first[order], second[order], cost[order]
