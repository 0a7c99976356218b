"""The quasi-dense tracker: whether it can learn three sections by heart, and its time a section.

    python -m benchmarks.networks.tracker overfit [STEPS]
    python -m benchmarks.networks.tracker time [PRESET] [SIDE]

`overfit` trains the light network on a window of three sections of FIB-25 that are in its training
part (VOLFLOW_DATA), without augmentation, and prints recall and precision of boxes on them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from volflow.models.detector.inference import BoxDetector
from volflow.models.detector.proposals import proposals
from volflow.models.detector.quasidense import PRESETS, QuasiDense
from volflow.train.config.tracker import TrackerTraining
from volflow.train.data.samples import Source
from volflow.train.data.sources import SourceRequirements, open_source
from volflow.train.loop import optimise
from volflow.train.state import State
from volflow.train.tracker.objects import objects_of
from volflow.train.tracker.pairs import Pairs
from volflow.train.tracker.training import TrackerTask, header_of, initial_network, optimizer_of
from volflow.train.tracker.validation import score_tracker

FILE = "hdf5://$VOLFLOW_DATA/fib25_medulla/ts2_z000-165.h5?dataset="
WINDOW = "60:63,60:156,60:156"
EVERY = 50  # steps between two lines


def training_file(steps: int, out: str) -> TrackerTraining:
    """A training on the window alone."""
    source = {
        "name": "fib25",
        "image": {"path": f"{FILE}raw"},
        "labels": {"path": f"{FILE}neuron_ids"},
        "bounds": WINDOW,
        "zero": "background",
        "resample": "",
    }
    content = {
        "kind": "tracker",
        "out": out,
        "sources": [source],
        "validation": {"sources": [source]},
        "voxel_size_nm": [10, 10, 10],
        "samples": {"boxes": 256, "keys": 64, "references": 128},
        "steps": steps,
        "learning_rate": 2e-3,
        "warmup": 20,
        "scope": 2,
        "crop": [96, 96],
    }
    training = TrackerTraining.model_validate(content)
    sources = tuple(source.with_absolute_paths() for source in training.sources)
    return training.model_copy(update={"sources": sources})


def pair_of(source: Source, least_area: int, step: int) -> Pairs:
    """Two sections of the window, as they are."""
    rng = np.random.default_rng(step)
    chosen = rng.permutation(len(source.image))[:2]
    objects = [objects_of(source.truth[z], least_area) for z in chosen]
    return Pairs(
        torch.from_numpy(source.image[chosen])[:, None],
        [torch.from_numpy(some.boxes) for some in objects],
        [torch.from_numpy(some.identities) for some in objects],
        [True],
    )


def overfit(steps: int = 400) -> None:
    """Train on three sections and print the scores on them."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        training = training_file(steps, folder)
        required = SourceRequirements(training.voxel_size_nm)
        source = open_source(training.sources[0], training.normalisation, required)
        header = header_of(training, [source])
        network = initial_network(training, header)
        assert isinstance(network, QuasiDense)
        state = State(network, optimizer_of(training, network))
        task = TrackerTask(training, header, [source], [source], Path(folder))
        while state.step < steps:
            loss = optimise(task, state, pair_of(source, training.least_area, state.step))
            if state.step % EVERY and state.step < steps:
                continue
            detector = BoxDetector(network.eval())
            boxes, links = score_tracker(detector, source, training.least_area, 0.5)
            print(
                f"step {state.step}: loss {loss:.3f}, boxes recall {boxes.recall:.3f} precision "
                f"{boxes.precision:.3f} of {boxes.objects}, links recall {links.recall:.3f} "
                f"precision {links.precision:.3f}, {time.process_time():.0f} s of processor",
                flush=True,
            )


def timing(preset: str = "light", side: int = 1024) -> None:
    """Print the processor time of each part of a section, one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = QuasiDense(**PRESETS[preset]).eval()  # type: ignore[arg-type]
    image = torch.randn(1, 1, side, side)
    clock = time.process_time
    with torch.no_grad():
        start = clock()
        levels = network.backbone(image)
        backbone = clock()
        scored = network.rpn(levels)[0]
        scores = clock()
        boxes = proposals(scored, (side, side), network.density, 0.7)
        chosen = clock()
        features = network.features(levels, 0, boxes)
        aligned = clock()
        network.judge(features)
        judged = clock()
        network.embed(features[: len(boxes) // 3])
        end = clock()
    print(
        f"{preset}, {side}²: {end - start:.2f} s = backbone {backbone - start:.2f}, proposals "
        f"{scores - backbone:.2f} + {chosen - scores:.2f} ({len(boxes)} boxes), their features "
        f"{aligned - chosen:.2f}, classes {judged - aligned:.2f}, embeddings of a third "
        f"{end - judged:.2f}"
    )


if __name__ == "__main__":
    verb, *rest = sys.argv[1:] or ["overfit"]
    if verb == "time":
        timing(*rest[:1], *map(int, rest[1:]))
    else:
        overfit(*map(int, rest))
