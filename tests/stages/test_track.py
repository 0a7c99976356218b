"""The stages track, link_tracks and vote in pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import volflow
from tests.engine.runs import files
from tests.track.scenes import affinities, discs, straight
from volflow.config.pipeline import VolumeSpec, from_dict
from volflow.core.geometry import Box
from volflow.engine.driver import execute
from volflow.engine.estimate import trial
from volflow.engine.plan.plan import plan
from volflow.errors import PlanError
from volflow.io.volume import Volume
from volflow.stages.track import Track

SHAPE = (12, 32, 40)
START = (2, 4, 6)
BOUNDS = Box(START, tuple(a + n for a, n in zip(START, SHAPE, strict=True)))
SEAMS = {"slab": 6, "part": 3, "slab_overlap": 2, "tile": [32, 20], "margin": 10}
SEGMENTS = {"low": 100, "threshold": 0.5}


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return discs(SHAPE, [straight((9, 8), (0, 2), 12), straight((22, 30), (0, -1.5), 12)])


@pytest.fixture(scope="module")
def volumes(tmp_path_factory, scene) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    stain = np.zeros(SHAPE, np.uint8)
    stain[3:][scene[3:] == 2] = 1
    painted = np.zeros(SHAPE, np.uint64)
    painted[0][scene[0] == 1] = 7  # again in later sections, and 5 there in the other half
    painted[4][scene[4] == 1] = 7
    painted[4][(scene[4] == 1) & (np.indices(SHAPE[1:])[1] > 9)] = 5
    painted[5][scene[5] == 2] = 9
    arrays = {
        "affinity": affinities(scene),
        "em": (scene > 0).astype(np.uint8) * 200,
        "stain": stain,
        "early": np.where(np.indices(SHAPE)[0] < 3, scene == 1, False).astype(np.uint8),
        "nothing": np.zeros(SHAPE, np.uint8),
        "painted": painted,
    }
    for name, array in arrays.items():
        volflow.write_volume(
            f"zarr://{folder}/{name}.zarr", array, resolution=(30, 8, 8), offset=START
        )
    return folder


def planned(volumes: Path, run: Path, *steps: dict[str, Any], **more: Any) -> Any:
    """The plan of steps; `more` are further volumes, or sections that are left out."""
    keys = {name: more.pop(name) for name in ("closed_sections", "bad_sections") if name in more}
    names = {"affinity": "affinity", **more}
    document = {
        "run": str(run),
        "bounds": str(BOUNDS),
        "block": [4, 16, 16],
        "volumes": {name: {"path": f"{volumes / file}.zarr"} for name, file in names.items()},
        "steps": list(steps),
        **keys,
    }
    return plan(from_dict(document))


def read(run: Path, name: str) -> np.ndarray:
    return Volume.open(VolumeSpec(path=f"precomputed://{run}/{name}"), own=True).read(BOUNDS)


def track(name: str, out: str, **options: Any) -> dict[str, Any]:
    outputs = {"tracks": out, "beyond": f"beyond_{out}", "cells": f"cells_{out}"}
    return {"use": "track", "name": name, "out": outputs, **options}


def joined_steps(erode: int = 0) -> list[dict[str, Any]]:
    """From affinities to tracks both ways, objects, votes and a segmentation."""
    pairs = {"tracks": "ahead", "beyond": "beyond_ahead"}
    back = {"tracks_back": "back", "beyond_back": "beyond_back"}
    place = {name: SEAMS[name] for name in ("slab", "tile")}
    return [
        track("ahead", "ahead", **{"with": {**SEAMS, **SEGMENTS}}),
        track("back", "back", **{"with": {**SEAMS, **SEGMENTS, "reverse": True}}),
        {"use": "link_tracks", "in": pairs | back, "out": {"table": "objects"}, "with": SEAMS},
        {
            "use": "relabel",
            "name": "ahead_objects",
            "block": [3, 32, 20],
            "in": {"fragments": "ahead", "table": "objects"},
            "out": {"segmentation": "tracks"},
        },
        {"use": "vote", "with": {**place, "weight": 1, "erode": erode}},
        {"use": "fragments", "in": {"affinity": "voted"}, "with": {"low": 100}},
        {"use": "agglomerate", "in": {"affinity": "voted"}, "with": {"threshold": 0.5}},
        {"use": "relabel"},
    ]


def test_from_affinities_to_tracks_to_a_segmentation(volumes, tmp_path, scene):
    assert execute(planned(volumes, tmp_path, *joined_steps())).ok
    tracks, segments = read(tmp_path, "tracks"), read(tmp_path, "segmentation")
    for labels in (tracks, segments):
        np.testing.assert_array_equal(labels > 0, scene > 0)
        pairs = np.unique(np.stack([labels[scene > 0], scene[scene > 0]]), axis=1)
        assert pairs.shape == (2, 2)
    assert len(np.unique(read(tmp_path, "ahead"))) > 3


def test_points_are_followed_both_ways(volumes, tmp_path, scene):
    """Two clicks in one cell, one in the other, one in none: labels are numbers of clicks."""
    clicks = {"points": [[8, 13, 22], [10, 13, 26], [9, 26, 25], [9, 5, 7]], "part": 4, **SEGMENTS}
    first = track("ahead", "ahead", **{"with": clicks})
    second = track("back", "cells", **{"in": {"other_way": "ahead"}})
    second["with"] = {**clicks, "reverse": True}
    second["out"]["cells"] = "list"
    result = execute(planned(volumes, tmp_path, first, second))
    assert result.ok
    np.testing.assert_array_equal(read(tmp_path, "cells"), np.where(scene == 2, 3, scene))
    cells = {"cells": 4, "followed": 2, "in_another": [[2, 1]], "without_object": [4]}
    assert result.results == {"ahead": cells, "back": cells}
    sentences = [
        f"step '{step}': cell {sentence}"
        for step in ("ahead", "back")
        for sentence in (
            "2 (z 10, y 13, x 26) is in the same object as cell 1 (z 8, y 13, x 22); both have "
            "the label 1",
            "4 (z 9, y 5, x 7) is not followed: no object of min_area pixels is there",
        )
    ]
    assert result.warnings == sentences
    again = execute(planned(volumes, tmp_path, first, second))
    assert again.warnings == sentences
    events = "".join(body.decode() for body in files(tmp_path / "events").values())
    assert all(f"warning: {sentence}" in events for sentence in sentences)


def test_a_cell_that_is_too_small_or_in_a_blank_section_has_no_label(volumes, tmp_path):
    small = {"points": [[8, 13, 22]], "part": 4, "min_area": 1000, **SEGMENTS}
    blank = {"points": [[8, 13, 22]], "part": 4, **SEGMENTS}
    for number, (options, keys) in enumerate([(small, {}), (blank, {"bad_sections": [8]})]):
        step = track("ahead", "ahead", **{"with": options})
        result = execute(planned(volumes, tmp_path / str(number), step, **keys))
        assert result.results["ahead"]["without_object"] == [1]
        assert not read(tmp_path / str(number), "ahead").any()


def test_points_are_refused_where_sections_are_closed(volumes, tmp_path):
    """Their z would be that of another section; with masked sections they are followed."""
    step = track("ahead", "ahead", **{"with": {"points": [[8, 13, 22]], "part": 4, **SEGMENTS}})
    with pytest.raises(PlanError, match="'ahead' works without the closed sections, and its para"):
        planned(volumes, tmp_path, step, closed_sections=[4])
    assert planned(volumes, tmp_path, step, bad_sections=[4]).steps
    assert planned(volumes, tmp_path, track("ahead", "ahead"), closed_sections=[4]).steps


def test_a_trial_of_a_part_without_the_cells_is_no_error(volumes, tmp_path, monkeypatch):
    """One part of the middle; the cells are before it, and so is all that is painted."""
    monkeypatch.setattr(trial, "OFTEN", 1)
    for number, (options, inputs) in enumerate(
        [({"points": [[3, 13, 16]]}, {}), ({}, {"stain": "early"})]
    ):
        step = track("ahead", "ahead", **{"with": {"part": 4, **SEGMENTS, **options}})
        plan = planned(volumes, tmp_path / str(number), step, **inputs)
        (estimate,) = trial.run_trial(plan, 1)
        assert estimate.tried == 1


def test_the_plan_counts_the_inputs_that_are_connected(volumes, tmp_path):
    """The largest part of each step: 4 sections, and 1 before them."""
    options = {"points": [[8, 13, 22]], "part": 4, **SEGMENTS}
    first = track("ahead", "ahead", **{"with": options})
    second = track("back", "back", **{"in": {"other_way": "ahead"}})
    second["with"] = {**options, "reverse": True}
    ahead, back = planned(volumes, tmp_path, first, second).steps
    more = max(back.memory.values()) - max(ahead.memory.values())
    assert more == 8 * 5 * 32 * 40


def test_two_boxes_in_one_cell_are_named(volumes, tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text("id,z,y0,x0,y1,x1\n7,3,8,17,18,27\n9,3,10,19,16,24\n", "utf-8")
    step = track("ahead", "cells", **{"with": {"cells": str(path), "part": 4, **SEGMENTS}})
    (sentence,) = execute(planned(volumes, tmp_path / "run", step)).warnings
    assert sentence == (
        "step 'ahead': cell 9 (z 3, y 10:16, x 19:24) is in the same object as cell 7 (z 3, "
        "y 8:18, x 17:27); both have the label 7"
    )


def test_a_stain_is_followed_alone(volumes, tmp_path, scene):
    step = track("stained", "cells", **{"with": {"part": 4, **SEGMENTS}})
    assert execute(planned(volumes, tmp_path, step, stain="stain")).ok
    labels = read(tmp_path, "cells")
    expected = np.where((scene == 2) & (np.indices(SHAPE)[0] >= 3), 1, 0)
    np.testing.assert_array_equal(labels > 0, expected)
    assert len(np.unique(labels)) == 2


def test_two_painted_labels_in_one_object_are_named(volumes, tmp_path, scene):
    step = track("painted", "cells", **{"with": {"part": 4, **SEGMENTS}})
    result = execute(planned(volumes, tmp_path, step, seeds="painted"))
    expected = np.where(scene == 1, 7, np.where(np.indices(SHAPE)[0] >= 5, 9, 0) * (scene == 2))
    np.testing.assert_array_equal(read(tmp_path, "cells"), expected)
    assert result.results == {
        "painted": {"cells": 3, "followed": 2, "in_another": [[5, 7]], "without_object": []}
    }
    assert result.warnings == [
        "step 'painted': painted label 5 is in the same object as painted label 7; both have the "
        "label 7"
    ]


@pytest.mark.parametrize("name", ["stain", "seeds"])
def test_an_empty_stain_is_an_error_of_the_plan(volumes, tmp_path, name):
    step = track("stained", "cells", **{"with": {"part": 4, **SEGMENTS}})
    message = f"volumes.{name}: every voxel of 2:14,4:36,6:46 is 0; expected others, as step 'sta"
    with pytest.raises(PlanError, match=message):
        planned(volumes, tmp_path, step, **{name: "nothing"})


def test_an_empty_stain_of_the_run_is_an_error_of_the_first_part(volumes, tmp_path):
    copy = {"use": "convert", "in": {"volume": "nothing"}, "out": {"copy": "stain"}}
    step = track("stained", "cells", **{"with": {"part": 4, **SEGMENTS}})
    summary = execute(planned(volumes, tmp_path, copy, step, nothing="nothing"))
    (failure,) = summary.failures
    assert (failure.phase, tuple(failure.index)) == ("chain.0", (0, 0, 0))
    assert "input 'stain': every voxel of 2:14,4:36,6:46 is 0" in failure.error


def test_specks_of_stain_are_an_error_at_the_last_section(volumes, tmp_path):
    step = track("stained", "cells", **{"with": {"part": 4, "min_area": 1000, **SEGMENTS}})
    (failure,) = execute(planned(volumes, tmp_path, step, stain="stain")).failures
    assert failure.phase == "chain.2"
    assert "stain: no section of 2:14,4:36,6:46 has an object of at least 1000" in failure.error


@pytest.mark.parametrize(
    ("options", "inputs", "message"),
    [
        ({"points": [[1, 9, 9]]}, {}, "cell 1 at z 1, y 9, x 9 is outside the bounds 2:14"),
        ({"points": [[3, 9, 9]], "tile": [8, 8]}, {}, "points and cells are followed in one slab"),
        ({"points": [[3, 9, 9]]}, {"stain": "stain"}, "one kind of chosen cells; got stain and"),
        ({"follower": "no_such"}, {}, "there is no 'no_such'"),
        ({"slab": 4, "part": 4, "slab_overlap": 5}, {}, "thinner than its overlap"),
        ({"cells": "outside.csv"}, {}, "cell 1 at z 3, y 30:37, x 9:20 is outside the bounds"),
    ],
)
def test_bad_input_is_reported_by_plan(volumes, tmp_path, options, inputs, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("outside.csv").write_text("z,y0,x0,y1,x1\n3,30,9,37,20\n", "utf-8")
    with pytest.raises(PlanError, match=message):
        planned(volumes, tmp_path, track("cells", "cells", **{"with": options}), **inputs)


def test_a_layer_of_another_resolution_is_refused_by_name(volumes, tmp_path):
    """Half the resolution: neither the image's voxels nor silently left out."""
    halves = Box(tuple(n // 2 for n in START), tuple(-(-n // 2) for n in BOUNDS.stop))
    for name in ("mitochondria", "em"):
        volflow.write_volume(
            f"zarr://{tmp_path}/{name}.zarr",
            np.ones(halves.shape, np.uint8),
            resolution=(60, 16, 16),
            offset=halves.start,
        )
    step = track("ahead", "ahead")
    with pytest.raises(PlanError) as error:
        planned(volumes, tmp_path / "run", step, mitochondria=f"{tmp_path}/mitochondria")
    assert (
        "volumes.mitochondria: resolution [60, 16, 16] nm; expected that of the run, "
        "[30, 8, 8] nm; another level (volumes.mitochondria.level) may have it; step 'ahead' can "
        "do without 'mitochondria': leave it out, or resample it" in str(error.value)
    )


def test_the_last_slab_may_be_thinner_than_the_overlap(volumes, tmp_path, scene):
    """Slabs of 8 and 4 sections, and an overlap of 6, which ends with the volume."""
    options = {"slab": 8, "part": 4, "slab_overlap": 6, **SEGMENTS}
    assert execute(planned(volumes, tmp_path, track("ahead", "ahead", **{"with": options}))).ok
    np.testing.assert_array_equal(read(tmp_path, "ahead") > 0, scene > 0)


def test_a_csv_file_of_cells(tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text("id, z, y, x, comment\n7, 3, 9, 9, soma\n9, 4, 8, 10,\n", "utf-8")
    by_file, by_points = Track(cells=str(path)), Track(points=((3, 9, 9), (4, 8, 10)))
    assert by_file.identity()["chosen"] == [[7, 3, 9, 9, 10, 10], [9, 4, 8, 10, 9, 11]]
    assert by_points.identity()["chosen"] == [[1, 3, 9, 9, 10, 10], [2, 4, 8, 10, 9, 11]]
    path.write_text("id,z,y0,x0,y1,x1\n7,3,9,9,20,30\n", "utf-8")
    assert Track(cells=str(path)).identity()["chosen"] == [[7, 3, 9, 9, 20, 30]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "expected columns z, y, x or z, y0, x0, y1, x1; got a, b"),
        ("z,y,x\n", "expected a row for each cell"),
        ("z,y,x\n1,2,x\n", "row 1: expected whole numbers z, y, x; got 1, 2, x"),
        ("id,z,y,x\n4,1,2,3\n4,5,6,7\n", "distinct ids; twice: 4"),
        ("id,z,y,x\n0,1,2,3\n", "row 1: expected an id from 1"),
        ("z,y0,x0,y1,x1\n1,5,5,5,9\n", "row 1: the box y 5:5, x 5:9 is empty"),
    ],
)
def test_bad_csv_files_are_refused(tmp_path, text, message):
    path = tmp_path / "cells.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=message):
        Track(cells=str(path))
