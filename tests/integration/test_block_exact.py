"""The promise on real data: neither blocks nor workers change a byte of the segmentation."""

import os
import signal

import pytest

from tests.engine.runs import block_children
from tests.integration.fib25 import AFFINITY, LABELS, fingerprint, needs_fib25, segment
from volflow import run as run_pipeline
from volflow.engine.monitor.observer import RunObserver

pytestmark = [needs_fib25, pytest.mark.slow]

WHOLE = (165, 250, 250)
BLOCKS = [(64, 64, 64), (50, 70, 90), (33, 250, 40)]
PARAMETERS = [{"join_rounds": 1, "min_size": 2000}, {"join_rounds": 0, "min_size": 0}]
NAMES = ["joining round and small segments", "merging alone"]


@pytest.fixture(scope="module", params=PARAMETERS, ids=NAMES)
def in_one_piece(request, tmp_path_factory):
    """Parameters, and the segmentation of the whole slab as one block in this process."""
    run = tmp_path_factory.mktemp("whole")
    result = segment(run, WHOLE, parameters=request.param)
    assert result.ok
    return request.param, fingerprint(run)


@pytest.mark.parametrize(
    ("block", "workers"), [(BLOCKS[0], 1), (BLOCKS[0], 2), (BLOCKS[1], 4), (BLOCKS[2], 2)]
)
def test_blocks_and_workers_change_no_byte(tmp_path, in_one_piece, block, workers):
    parameters, wanted = in_one_piece
    assert segment(tmp_path, block, parameters=parameters, cluster="local", workers=workers).ok
    assert fingerprint(tmp_path) == wanted


def test_bounds_cut_anywhere_and_killed_workers_change_no_byte(tmp_path):
    """Part of the slab, bounds that start nowhere special, workers killed in every step."""
    bounds = "7:103,11:180,3:150"
    assert segment(tmp_path / "calm", (200, 200, 200), bounds=bounds).ok
    killed = []

    class Killer(RunObserver):
        def progress(self, step, result, phase):
            if step.name in killed:
                return
            for _, worker in block_children()[:1]:
                killed.append(step.name)
                os.kill(worker, signal.SIGKILL)

    stormy = tmp_path / "stormy"
    result = segment(
        stormy, (32, 64, 48), bounds=bounds, cluster="local", workers=2, observer=Killer()
    )
    assert result.ok
    assert len(killed) >= 3
    for name, level in (("segmentation", 0), ("segmentation", 1)):
        assert fingerprint(stormy, name, level) == fingerprint(tmp_path / "calm", name, level)


def test_a_threshold_tried_and_left_half_way_leaves_no_trace(tmp_path):
    """0.4, then 0.5 cut off half way, then 0.4 again; and 0.5 in full, then 0.4 again."""
    bounds = "0:64,0:128,0:128"

    class Impatient(RunObserver):
        def progress(self, step, result, phase):
            if step.name == "relabel" and result.done > 3:
                raise KeyboardInterrupt

    def run(threshold, **rest):
        return segment(
            tmp_path, (32, 64, 64), bounds=bounds, parameters={"threshold": threshold}, **rest
        )

    assert run(0.4).ok
    wanted = fingerprint(tmp_path), fingerprint(tmp_path, level=1)
    assert run(0.5, observer=Impatient()).interrupted
    assert run(0.4).ok
    assert (fingerprint(tmp_path), fingerprint(tmp_path, level=1)) == wanted
    assert run(0.5).ok
    assert fingerprint(tmp_path) != wanted[0]
    assert run(0.4).ok
    assert (fingerprint(tmp_path), fingerprint(tmp_path, level=1)) == wanted


def test_borders_move_alike_whatever_the_blocks_and_workers(tmp_path):
    """The published flood-filling result, its borders moved by the baseline affinities."""
    volumes = {
        "segments": {"path": f"{LABELS}?dataset=ffn"},
        "affinity": {"path": AFFINITY},
        "em": {"path": f"{LABELS}?dataset=raw"},
    }
    volumes = {name: {**spec, "resolution": [10, 10, 10]} for name, spec in volumes.items()}

    def moved(name, block, **rest):
        out = tmp_path / name
        steps = [{"use": "intensity"}, {"use": "borders"}]
        pipeline = {"run": str(out), "block": list(block), "volumes": volumes, "steps": steps}
        assert run_pipeline(pipeline, bounds="7:103,11:180,3:150", **rest).ok
        return fingerprint(out)

    wanted = moved("whole", (200, 200, 200))
    for block, workers in zip(BLOCKS, (1, 2, 4), strict=True):
        actual = moved(f"{workers}", block, cluster="local", workers=workers)
        assert actual == wanted, (block, workers)
