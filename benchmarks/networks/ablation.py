"""The variants of II-CATS on held-out sections: tracks alone, and voted into affinities.

    python -m benchmarks.networks.ablation DATASET ... [--network FILE] [--detector FILE]
        [--layers DIR] [--variants "NAME;NAME"] [--weights W ...]

For each variant: how well masks are followed (mean IoU after 1, 5 and 10 sections of all objects of
the first section, followed together from the truth), the tracks of a forward run with births in
every section, and the affinities with the votes of this run. VI in bits; expected run lengths in
nanometres, of skeletons computed from the truth; bERL with the mitochondria and clefts of the
offline layers. Seconds are of processor time for a section.

All variants are one checkpoint with other inputs; *plain* is without our additions: previous masks
are not shown to the decoder, nor affinities to the encoder.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from benchmarks.data import DATA
from benchmarks.segmentation.where_bits import components
from volflow.checkpoints.find import bundled_section_networks
from volflow.config.bundled import find_bundled
from volflow.core.geometry import Box, Resolution
from volflow.metrics.skeletons.forest import SkeletonForest
from volflow.metrics.skeletons.nodes_at_mitochondria import mito_nodes
from volflow.metrics.skeletons.nodes_at_synapses import synapse_nodes
from volflow.metrics.skeletons.scores import skeleton_scores
from volflow.models.detector.inference import BoxDetector
from volflow.models.iicats.follower import NetworkFollower
from volflow.models.iicats.network import IICats
from volflow.models.section_checkpoint import load_section_checkpoint
from volflow.shape.skeletonize import skeletonize
from volflow.track.baselines import AffinitySegments, SameMask
from volflow.track.detection.by_detection import BoxTracker
from volflow.track.detection.quasidense import Detections
from volflow.track.follower import Follower, Section
from volflow.track.loop import Rules, Tracker
from volflow.track.part import Place, follow_part
from volflow.track.seeds import Seed
from volflow.track.volume_sections import EverySegment, Segments, VolumeSections
from volflow.track.votes import voted
from volflow.train.config.sequences import SequenceSource, SequenceTraining, load_sequences
from volflow.train.sequences.validation import (
    INTENSITY,
    copied,
    overlap_after,
    sections_of,
    segments_under,
    trial,
)
from volflow.train.sequences.volumes import FollowedVolume, open_volume
from volflow.train.validation.evaluate import InMemoryPipeline, score

AFTER = (1, 5, 10)
SEED_THRESHOLD, LOW = 0.3, 1  # defaults of the stage `track`
RULES = Rules()

HDF5 = f"hdf5://{DATA}/"
FIB25 = "fib25_medulla/ts2_z000-165.h5?dataset="
AC3 = "ac3_ac4_cortex/ac3_12nm_z000-100.h5?dataset="


@dataclass(frozen=True)
class Dataset:
    """Sections, and the settings of the segmentation of their affinities.

    Attributes
    ----------
    source : dict
        As in a training file.
    size : Resolution
        Nanometres per voxel, z, y, x.
    threshold, min_size
        Of `agglomerate`, as in the bundled pipeline for such volumes.
    """

    source: dict[str, object]
    size: Resolution
    threshold: float
    min_size: int


def real(file: str, bounds: str, affinities: str) -> dict[str, object]:
    """A source of a public volume."""
    return {
        "name": file.partition("_")[0],
        "image": {"path": f"{HDF5}{file}raw"},
        "labels": {"path": f"{HDF5}{file}neuron_ids"},
        "bounds": bounds,
        "resample": "",
        "offline": {"d": affinities, "m": "mitochondria", "syn": "synapse"},
    }


def synthetic(seed: int) -> Dataset:
    """Thirty anisotropic sections with damage, of a seed that nothing was trained on."""
    look = {"cell": 22, "noise": 24, "synapses": True, "section_noise": 12, "drift": 1, "every": 3}
    scene = {"bounds": "0:30,0:192,0:192", "seed": seed, **look}
    source: dict[str, object] = {
        "name": f"synthetic_{seed}",
        "synthetic": scene,
        "voxel_size_nm": [30, 10, 10],
        "resample": "",
    }
    return Dataset(source, (30.0, 10.0, 10.0), 0.3, 200)


FLY, MOUSE = (10.0, 10.0, 10.0), (30.0, 12.0, 12.0)
DATASETS = {
    "fib25-choosing": Dataset(real(FIB25, "120:135,0:250,0:250", "fib25-affinity"), FLY, 0.2, 1000),
    "fib25": Dataset(real(FIB25, "135:165,0:250,0:250", "fib25-affinity"), FLY, 0.2, 1000),
    "ac3-choosing": Dataset(real(AC3, "60:70,0:512,0:512", "cortex"), MOUSE, 0.3, 500),
    "ac3": Dataset(real(AC3, "70:100,0:512,0:512", "cortex"), MOUSE, 0.3, 500),
    "ac3-quarter": Dataset(real(AC3, "70:100,0:256,0:256", "cortex"), MOUSE, 0.3, 500),
    "synthetic-choosing": synthetic(601),
    "synthetic-1": synthetic(621),
    "synthetic-2": synthetic(622),
    "synthetic-3": synthetic(623),
}


class Variant(NamedTuple):
    """Types of support of a variant; `plain` is without our additions."""

    types: tuple[str, ...]
    plain: bool = False


TYPES = {
    "CATS": ("p", "d"),
    "CATS+mito": ("p", "d", "m"),
    "CATS+syn": ("p", "d", "syn"),
    "II-CATS": ("p", "d", "m", "syn"),
}
VARIANTS = {name: Variant(types) for name, types in TYPES.items()} | {
    f"{name}, plain": Variant(types, plain=True) for name, types in TYPES.items()
}


class Truth(NamedTuple):
    """Skeletons of the truth, and which of their nodes are at mitochondria and synapses."""

    labels: np.ndarray
    forest: SkeletonForest
    mito: np.ndarray
    synapse: np.ndarray


def points_nm(mask: np.ndarray, size: Resolution) -> np.ndarray:
    """Positions of the voxels of a mask, nanometres."""
    return np.argwhere(mask) * np.array(size)


def truth_of(volume: FollowedVolume, size: Resolution) -> Truth:
    """The truth of a volume; pieces that are connected only outside count as objects of their own.

    Mitochondria and clefts are the offline layers above a half.
    """
    pieces = components(volume.source.truth).astype(np.uint64)
    counts = np.bincount(pieces.ravel().astype(np.int64))
    counts[0] = 0
    large = np.where(counts[pieces] >= 500, pieces, 0).astype(np.uint64)
    forest = SkeletonForest.of(skeletonize(large, size))
    mito = volume.offline["m"][0] >= 128
    mito[:, ::2], mito[:, :, ::2] = False, False
    clefts, _ = ndimage.label(volume.offline["syn"][0] >= 128)
    at_mito = mito_nodes(forest, points_nm(mito, size))
    at_cleft = synapse_nodes(forest, points_nm(clefts > 0, size), clefts[clefts > 0])
    return Truth(volume.source.truth, forest, at_mito, at_cleft)


def scores_of(truth: Truth, segments: np.ndarray, size: Resolution) -> str:
    """Cells of a table: VI of splits and mergers, VI, ERL, bERL."""
    each = score(segments, truth.labels, 0)
    voxel = np.rint(truth.forest.position / np.array(size)).astype(int)
    voxel = voxel.clip(0, np.array(segments.shape) - 1)
    label = segments[tuple(voxel.T)].astype(np.int64)
    lengths = skeleton_scores(truth.forest, label, mito=truth.mito, synapse=truth.synapse)
    erl, berl = lengths["erl"], lengths["berl"]
    return f"{each.vi_split:.3f} | {each.vi_merge:.3f} | {each.vi:.3f} | {erl:.0f} | {berl:.0f}"


def intensities(volume: FollowedVolume) -> np.ndarray:
    """The image of a volume as uint8, as in `sections_of`."""
    image: np.ndarray = np.rint(np.clip(volume.source.image, -2, 2) * 64 + 128)
    return image.clip(0, 255).astype(np.uint8)


def place_of(shape: tuple[int, ...]) -> Place:
    """A whole volume as one part."""
    box = Box((0, 0, 0), (shape[0], shape[1], shape[2]))
    return Place(box, box, box, range(shape[0]), range(0))


def tracks_of(follower: Follower, volume: FollowedVolume) -> np.ndarray:
    """The tracks of a forward run; each segment that no track has claimed starts one."""
    image = intensities(volume)
    segments = Segments(SEED_THRESHOLD, LOW)
    begin = EverySegment(segments, RULES)
    place = place_of(image.shape)
    sections = VolumeSections(place.read, image, volume.offline, False, begin)
    return follow_part(Tracker.resumed(follower, RULES, None), sections, place).labels


def followed_together(follower: Follower, volume: FollowedVolume, first: np.ndarray) -> np.ndarray:
    """Masks of objects, bool (S, B, Y, X), that are followed at once from masks, bool (B, Y, X).

    As in the stage `track`, a pixel belongs to one object at most.
    """
    sections = sections_of(volume)
    tracker = Tracker.resumed(follower, RULES, None)
    tracker.look(sections[0])
    keys = np.zeros(first.shape[1:], np.int64)
    tracker.begin(keys, [Seed((0, 0), mask) for mask in first])
    masks = np.zeros((len(sections), *first.shape), bool)
    numbers = np.arange(1, len(first) + 1)[:, None, None]
    for z, section in enumerate(sections):
        masks[z] = numbers == (tracker.follow(section) if z else keys)
    return masks


def boxes_linked(
    detector: BoxDetector, follower: NetworkFollower, volume: FollowedVolume
) -> np.ndarray:
    """The tracks of the variant TS: boxes, linked; each becomes a mask by itself."""
    image = intensities(volume)
    low, high = INTENSITY

    def detect(section: np.ndarray) -> Detections:
        scaled = (section.astype(np.float32) - low) / (high - low) * 2 - 1
        return Detections(*detector.detect(scaled))

    def nothing(z: int, section: Section, keys: np.ndarray) -> list[Seed]:
        return []

    place = place_of(image.shape)
    sections = VolumeSections(place.read, image, volume.offline, False, nothing)
    tracker = BoxTracker.resumed(detect, follower, None)
    labels = np.zeros(image.shape, np.uint64)
    for z in place.order:
        section = sections.section(z)
        if section is not None:
            keys = tracker.follow(section)
            labels[z] = tracker.labels(keys, (slice(None), slice(None)), place.names(z))
    return labels


class Report:
    """Rows of a data set's table."""

    def __init__(self, data: Dataset, volume: FollowedVolume, weights: list[float]) -> None:
        self.data, self.volume, self.weights = data, volume, weights
        self.truth = truth_of(volume, data.size)
        self.trial = trial(volume, 1000, 50)

    def segmented(self, affinity: np.ndarray) -> np.ndarray:
        """The segmentation of affinities."""
        pipeline = InMemoryPipeline(affinity)
        return pipeline.segmentation(self.data.threshold, self.data.min_size)

    def overlaps(self, masks: np.ndarray) -> str:
        """Cells: mean IoU after some sections."""
        after = overlap_after(masks, self.trial.truth, AFTER)
        return " | ".join(f"{after[n]:.3f}" if n in after else "" for n in AFTER)

    def row(self, name: str, overlaps: str, seconds: str, segments: np.ndarray) -> None:
        """Print a row."""
        cells = scores_of(self.truth, segments, self.data.size)
        print(f"| {name} | {overlaps} | {cells} | {seconds} |", flush=True)

    def tracks(self, name: str, overlaps: str, labels: np.ndarray, seconds: float) -> None:
        """Print the rows of tracks: alone, and voted into the affinities."""
        self.row(name, overlaps, f"{seconds / len(labels):.2f}", labels)
        box = place_of(labels.shape).read
        for weight in self.weights:
            mixed = voted(self.volume.offline["d"], [labels], box, box, labels.shape, weight)
            self.row(f"affinities + {weight:g} {name}", " |  | ", "", self.segmented(mixed))

    def follower(self, name: str, follower: Follower) -> None:
        """Print the rows of a follower."""
        followed = followed_together(follower, self.volume, self.trial.truth[0])
        start = time.process_time()
        labels = tracks_of(follower, self.volume)
        self.tracks(name, self.overlaps(followed), labels, time.process_time() - start)


def followers(network: IICats, wanted: list[str]) -> Iterator[tuple[str, NetworkFollower]]:
    """The variants of a network."""
    for name, (types, plain) in VARIANTS.items():
        if not wanted or name in wanted:
            added = {"masks": not plain, "affinity_input": not plain}
            yield name, NetworkFollower(network, INTENSITY, types, **added)


def compare(data: Dataset, training: SequenceTraining, options: argparse.Namespace) -> None:
    """Print the table of a data set."""
    volume = open_volume(SequenceSource.model_validate(data.source), training, options.layers)
    report = Report(data, volume, options.weights)
    print("| | 1 | 5 | 10 | VI split | VI merge | VI | ERL | bERL | s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    every = components(volume.source.truth).astype(np.uint64)
    report.row("truth, connected", " |  | ", "", every)
    report.row("affinities", " |  | ", "", report.segmented(volume.offline["d"]))
    print(f"| mask copied | {report.overlaps(copied(report.trial))} |  |  |  |  |  | |")
    print(f"| segment under it | {report.overlaps(segments_under(report.trial))} | | | | | | |")
    wanted = [name for name in options.variants.split(";") if name]
    if not wanted or "baselines" in wanted:
        report.follower("same", SameMask())
        report.follower("affinity", AffinitySegments(Segments(SEED_THRESHOLD, LOW)))
    network, _ = load_section_checkpoint(options.network)
    assert isinstance(network, IICats)
    network.eval()
    if options.detector is not None and (not wanted or "TS" in wanted):
        start = time.process_time()
        detector = BoxDetector.load(options.detector)
        labels = boxes_linked(detector, NetworkFollower(network, INTENSITY), volume)
        report.tracks("TS", " |  | ", labels, time.process_time() - start)
    for name, follower in followers(network, wanted):
        report.follower(name, follower)


def for_each_dataset(
    options: argparse.Namespace,
    table: Callable[[Dataset, SequenceTraining, argparse.Namespace], None],
) -> None:
    """Print the name and the table of each data set of the command line."""
    training = load_sequences(find_bundled("iicats", "pipelines/train", "training file"))
    for name in options.datasets:
        print(f"\n{name}", flush=True)
        table(DATASETS[name], training, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datasets", nargs="+", choices=DATASETS)
    parser.add_argument("--network", type=Path, default=bundled_section_networks()["iicats"])
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--layers", type=Path, default=Path("training/iicats"))
    parser.add_argument("--variants", default="", help="names, separated by semicolons")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.1])
    options = parser.parse_args()
    for_each_dataset(options, compare)


if __name__ == "__main__":
    main()
