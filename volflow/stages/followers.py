"""The followers that the stage `track` takes by name: baselines, and networks of checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from volflow.checkpoints.find import bundled_networks, bundled_section_networks
from volflow.checkpoints.section_header import SectionHeader, read_section_header
from volflow.core.geometry import Resolution
from volflow.core.stage import Record
from volflow.errors import VolflowError
from volflow.predict.intensity import intensities_at, normalise
from volflow.track.baselines import AffinitySegments, SameMask
from volflow.track.detection.quasidense import Detections
from volflow.track.follower import Follower
from volflow.track.volume_sections import Segments

if TYPE_CHECKING:
    from volflow.models.detector.inference import BoxDetector
    from volflow.models.iicats.network import IICats

BASELINES = ("affinity", "same")
NETWORK = "iicats"  # registered name of the networks that follow
DETECTOR = "quasidense"  # and of those that detect


def checkpoint_of(name: str) -> Path:
    """The file of a network: of a bundled one by its name, or the path of another."""
    bundled = {**bundled_networks(), **bundled_section_networks()}.get(name)
    return bundled if bundled is not None else Path(name).expanduser().absolute()


def network_header(
    name: str | None, kind: str = NETWORK, parameter: str = "follower"
) -> SectionHeader | None:
    """The header of a network's checkpoint; None for a baseline or no network.

    Raises
    ------
    ValueError
        If there is no such network, or it does not follow objects.
    """
    if name is None or (name in BASELINES and kind == NETWORK):
        return None
    path = checkpoint_of(name)
    if not path.is_file():
        known = [*(BASELINES if kind == NETWORK else ()), *bundled_section_networks()]
        raise ValueError(
            f"{parameter}: expected {', '.join(known)}, or the path of a checkpoint; there is no "
            f"'{name}'"
        )
    try:
        header = read_section_header(path)
    except VolflowError as error:
        raise ValueError(f"{parameter}: {error}") from error
    if header.network != kind:
        raise ValueError(
            f"{parameter}: expected a network '{kind}'; {name} is of '{header.network}'"
        )
    return header


def memory_of(header: SectionHeader | None) -> int:
    """Sections before a part that the follower sees again, at least 1."""
    if header is None:
        return 1
    arguments = header.arguments
    return max(1, int(arguments.get("memory", 4)), int(arguments.get("last_masks", 2)))


def marks_objects(header: SectionHeader, types: Sequence[str] | None, additions: bool) -> bool:
    """Whether a network gets anything of an object's own: previous masks, or filters of them."""
    previous = additions and int(header.arguments.get("last_masks", 2)) > 0
    learner = bool(header.arguments.get("few_shot", True))
    return previous or (learner and (types is None or "p" in types))


def make_follower(
    name: str,
    header: SectionHeader | None,
    segments: Segments,
    *,
    types: Sequence[str] | None,
    additions: bool,
    intensity: tuple[float, float] | None,
    threads: int,
) -> Follower:
    """A follower without any state.

    Parameters
    ----------
    name, header
        The name, and the header of its checkpoint if it is a network.
    segments : Segments
        For `affinity`.
    types : sequence of str, optional
        Types of support that a network uses; default: all that it has.
    additions : bool
        Whether a network gets previous masks and affinities as plain inputs.
    intensity : (float, float), optional
        For a network: intensities that are mapped to -1 and 1.
    threads : int
        Threads of a network.
    """
    if header is None:
        return SameMask() if name == "same" else AffinitySegments(segments)
    from volflow.models.iicats.follower import NetworkFollower

    if intensity is None:
        raise ValueError("intensity: expected a range for a network")
    network = _network(str(checkpoint_of(name)), header.weights_sha256)
    return NetworkFollower(network, intensity, types, additions, additions, threads)


def make_detector(
    name: str, header: SectionHeader, intensity: tuple[float, float] | None
) -> Callable[[np.ndarray], Detections]:
    """A function from an image, uint8 (Y, X), to what is detected in it, best first.

    Parameters
    ----------
    name, header
        The name, and the header of its checkpoint.
    intensity : (float, float)
        Intensities that are mapped to the ends of the network's input range.
    """
    if intensity is None:
        raise ValueError("intensity: expected a range for a network")
    detector = _detector(str(checkpoint_of(name)), header.weights_sha256)
    low, high = intensity
    scaled = header.normalisation

    def detect(image: np.ndarray) -> Detections:
        scaled_image = normalise(image, low, high, scaled.onto, scaled.clip)
        return Detections(*detector.detect(scaled_image))

    return detect


@lru_cache(maxsize=1)
def _detector(path: str, weights: str) -> BoxDetector:
    """The detector of a checkpoint with the hash `weights`, loaded once per process."""
    from volflow.models.detector.inference import BoxDetector

    return BoxDetector.load(path)


@lru_cache(maxsize=1)
def _network(path: str, weights: str) -> IICats:
    """The network of a checkpoint with the hash `weights`, loaded once per process."""
    from volflow.models.iicats.network import IICats
    from volflow.models.section_checkpoint import load_section_checkpoint

    network, _ = load_section_checkpoint(path)
    assert isinstance(network, IICats)
    return network


def input_range(
    header: SectionHeader | None, given: tuple[float, float] | None, quantiles: Record | None
) -> tuple[float, float] | None:
    """The intensities that are mapped to the ends of a network's input range; None if unknown.

    Parameters
    ----------
    header : SectionHeader, optional
    given : (float, float), optional
        Taken if it is there.
    quantiles : record, optional
        From the stage `intensity`; for networks that were trained between percentiles.
    """
    if given is not None or header is None:
        return given
    low, high = header.normalisation.low, header.normalisation.high
    if header.normalisation.kind == "fixed":
        return low, high
    return None if quantiles is None else intensities_at(quantiles, low, high)


def network_problems(
    subject: str, header: SectionHeader, resolution: Resolution, tolerance: float, ranged: bool
) -> list[str]:
    """Problems of a network with a volume, one sentence each; `subject` names the network."""
    problems = []
    trained = header.voxel_size_nm
    pairs = zip(resolution, trained, strict=True)
    if any(abs(side - own) > tolerance * own for side, own in pairs):
        problems.append(
            f"{subject} was trained at {_nm(trained)} nm; the volume has "
            f"{_nm(resolution)} nm; rescale it, or raise voxel_tolerance ({tolerance:g})"
        )
    if header.normalisation.kind != "fixed" and not ranged:
        problems.append(
            f"{subject} needs quantiles of the volume; add `- use: intensity` "
            f"with the same blocks and `out: {{intensity: quantiles}}`, or give range: [LOW, HIGH]"
        )
    return problems


def missing_types(
    header: SectionHeader, types: Sequence[str] | None, given: Container[str]
) -> list[str]:
    """The types of support of a network that are not among the inputs, by input."""
    inputs = {"d": "affinity", "m": "mitochondria", "syn": "clefts"}
    used = types if types is not None else tuple(header.arguments.get("types", inputs))
    return [inputs[kind] for kind in used if kind in inputs and inputs[kind] not in given]


def _nm(sides: Sequence[float]) -> str:
    return " x ".join(f"{side:g}" for side in sides)
