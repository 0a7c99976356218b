import numpy as np
import pytest

from tests.stages.contract import Case, StageContract, run
from volflow.core.geometry import Box
from volflow.stages.vote import Vote

BOUNDS = Box((5, 2, 1), (14, 16, 20))


def volumes() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    coarse = random.integers(0, 3, (2, 3, 4, 4))
    tracks = coarse.repeat(3, 1).repeat(4, 2).repeat(5, 3)[:, :9, :14, :19].astype(np.uint64)
    affinity = random.integers(0, 256, (3, 9, 14, 19), dtype=np.uint8)
    return {"affinity": affinity, "tracks": tracks[0], "tracks_back": tracks[1]}


class TestVote(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        stage = Vote(weight=0.7, erode=2, slab=4, tile=(6, 7))
        return Case(stage, BOUNDS, volumes(), ((4, 5, 6), (3, 100, 1), (2, 7, 19)))


def test_weight_0_gives_the_affinities_byte_for_byte():
    arrays = volumes()
    assert run(Case(Vote(weight=0), BOUNDS, arrays), (4, 5, 6))["voted@0"].tobytes() == (
        arrays["affinity"].tobytes()
    )


def test_seams_are_anchored_to_the_bounds():
    """Two tracks that meet at a seam have no votes there, and do elsewhere."""
    tracks = np.ones((9, 14, 19), np.uint64)
    tracks[4:] = 2
    affinity = np.full((3, 9, 14, 19), 200, np.uint8)
    arrays = {"affinity": affinity, "tracks": tracks}
    for slab, expected in ((4, 200), (3, 133)):
        case = Case(Vote(weight=0.5, erode=0, slab=slab), BOUNDS, arrays)
        mixed = run(case, (5, 6, 7))["voted@0"]
        assert (mixed[0, 4] == expected).all()  # 200 / 1.5 where they are different
        assert (mixed[0, 5] == 218).all()  # (200 + 127.5) / 1.5


def test_tracks_must_be_integers():
    from volflow.core.stage import Layer

    problems = Vote().check_inputs({"tracks": Layer("float32", 0)}, (1, 1, 1))
    assert problems == ["tracks: expected integers; got float32"]
