"""The report of a scoring: its rows, words, plots and links."""

from __future__ import annotations

import csv
import io
import re
import urllib.request
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import volflow
from tests.cli.scoring.scored import FIRST, LEFT, MERGED, RIGHT, addresses
from volflow.core.geometry import Box
from volflow.view.layers import run_layers
from volflow.view.neuroglancer.scene import Target, make_scene
from volflow.view.report.score.document import (
    errors_of,
    find_document,
    make_document,
    thresholds_of,
)
from volflow.view.report.score.error_sites import KINDS, ErrorPart, ErrorSite, locate, worst_errors
from volflow.view.report.score.links import target_of
from volflow.view.report.score.markdown import markdown
from volflow.view.report.score.metrics import METRICS, format_value, numbers
from volflow.view.report.score.page import link_names, page
from volflow.view.report.score.plots import ERL, PLOTS, VI, curves
from volflow.view.report.score.tables import curves_csv, object_rows, offenders_csv, scores_csv
from volflow.view.report.score.wording import ROLES, command
from volflow.view.server import FolderSource, LayerServer, LayerSource, MemorySource

SKELETONS = {
    "erl": 124.0,
    "erl_max": 352.0,
    "berl": None,
    "berl_max": None,
    "not_computed": {"berl": "neither mitochondria nor synapses were given"},
    "worst_merges": [
        {
            "label": FIRST + 9,
            "length_nm": 80.0,
            "counted": counted,
            "skeletons": [
                {"name": 1, "length_nm": 352.0, "nodes": 12, "position_nm": [640.0, 24.0, 128.0]},
                {"name": 2, "length_nm": 80.0, "nodes": 4, "position_nm": [679.0, 88.0, 131.0]},
            ],
        }
        for counted in (True, False)
    ],
    "worst_splits": [
        {"skeleton": 3, "labels": [5, 6], "length_nm": 16.0, "position_nm": [0.0, 4.0, 3.9]}
    ],
}


def row(threshold: float, split: float, merge: float, **more: Any) -> dict[str, Any]:
    actual = {"threshold": threshold, "vi_split": split, "vi_merge": merge, "vi": split + merge}
    return {**actual, **more}


def document(**results: Any) -> dict[str, Any]:
    return {
        "bounds": "0:9,0:9,0:9",
        "resolution": [40.0, 8.0, 8.0],
        "inputs": {"segmentation": {"volume": "segmentation", "path": "a&b"}},
        "parameters": {"score": {"border": 2}},
        "results": results,
        "unmet": ["step 'score': vi is <2>"],
        "errors": [],
        "version": "0",
    }


# --- errors --------------------------------------------------------------------------------------


def test_errors_of_skeletons_are_placed_at_the_nearest_voxel() -> None:
    merge, tolerated, split = worst_errors({"s": SKELETONS}, (40.0, 8.0, 8.0))
    assert (merge.kind, merge.label, merge.size, merge.note) == (
        "skeleton merger", FIRST + 9, 80.0, "",
    )  # fmt: skip
    assert (tolerated.rank, tolerated.note) == (2, "tolerated")
    # 679 / 40 = 16.975; 131 / 8 = 16.375
    assert merge.parts[1].position == (17.0, 11.0, 16.0)
    assert merge.place == (17.0, 11.0, 16.0)
    assert merge.ids() == {"segmentation": (FIRST + 9,), "skeletons": (1, 2)}
    assert split.place == (0.0, 1.0, 0.0)  # a half is rounded up, 0.4875 down
    assert split.ids() == {"segmentation": (5, 6), "skeletons": (3,)}
    assert split.ids(split.parts[1]) == {"segmentation": (6,), "skeletons": (3,)}


class Labels:
    """As much of a volume as an error is looked for in."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.bounds, self.resolution = array, Box((0, 0, 0), array.shape), (1, 1, 1)

    def read(self, box: Box) -> np.ndarray:
        return self.array[box.slices]


def merger(*positions: tuple[float, float, float]) -> ErrorSite:
    parts = tuple(
        ErrorPart({"segmentation": 7, "truth": 1 + n}, 9.0, "voxels", place)
        for n, place in enumerate(positions)
    )
    return ErrorSite("merger", 1, 7, 1.0, "bits", len(parts), parts, positions[-1])


def test_a_bent_object_is_placed_on_itself_and_its_error_where_two_meet() -> None:
    truth = np.zeros((3, 21, 21), "uint64")
    truth[1, 0, :] = truth[1, 20, :] = truth[1, :, 20] = 1  # open to the left
    truth[1, 10, :16] = 2  # its tip, the last of its voxels, comes within five of 1
    actual = np.where(truth > 0, 7, 0).astype("uint64")
    volumes: Any = {"segmentation": Labels(actual), "truth": Labels(truth)}
    (each,) = locate([merger((1, 10, 12.3), (1, 10, 7.5))], volumes)
    one, other = (part.position for part in each.parts)
    assert one == (1, 10, 20)
    assert other in ((1, 10, 7), (1, 10, 8))
    assert each.place == (1, 10, 15)


def test_parts_that_are_far_apart_are_shown_where_the_smaller_is() -> None:
    truth = np.zeros((1, 1, 400), "uint64")
    truth[..., :3], truth[..., 390:] = 1, 2
    volumes: Any = {"segmentation": Labels(np.full_like(truth, 7)), "truth": Labels(truth)}
    (each,) = locate([merger((0, 0, 1), (0, 0, 394.5))], volumes)
    assert each.place == each.parts[1].position
    truth[..., 100:] = 2  # further than the first look reaches; the second sees every fourth voxel
    (each,) = locate([merger((0, 0, 1), (0, 0, 118.0))], volumes)
    assert each.place == (0, 0, 100)


# --- words and tables ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12345, "", "12,345"),
        (0.5, "bits", "0.5000 bits"),
        (0.0000123, "bits", "1.2e-05 bits"),
        (12345.67, "nm", "12,345.7 nm"),
        (0.0, "nm", "0.0 nm"),
        (None, "nm", "-"),
    ],
)
def test_numbers_are_written_as_they_are_read(value: Any, unit: str, text: str) -> None:
    assert format_value(value, unit) == text


def test_a_score_that_is_missing_says_why_once() -> None:
    actual = {each.key: each for each in numbers({"s": SKELETONS})}
    assert "berl_max" not in actual
    assert "neither mitochondria nor synapses" in actual["berl"].metric.meaning
    assert actual["erl"].metric.unit == "nm"


def test_objects_become_rows() -> None:
    result = {
        "objects": {
            "thresholds": [0.5, 0.75], "precision": [1.0, 0.5], "f1": [1.0, None], "mean_ap": 0.7,
        }
    }  # fmt: skip
    assert object_rows(result) == [
        {"iou": 0.5, "precision": 1.0, "f1": 1.0},
        {"iou": 0.75, "precision": 0.5, "f1": None},
    ]
    text = scores_csv(document(score={**result, "vi": 1.0}))
    assert "score,precision at IoU 0.75,0.5," in text.splitlines()


def test_the_best_threshold_is_the_one_of_smallest_vi_unless_it_is_reported() -> None:
    rows = [row(0.1, 0, 3), row(0.3, 1, 1), row(0.5, 2, 0), row(0.7, 9, 9)]
    assert thresholds_of(document(sweep={"thresholds": rows}))[1]["threshold"] == 0.3
    reported = document(sweep={"thresholds": rows, "best": rows[2], "by": "arand"})
    assert thresholds_of(reported)[1]["threshold"] == 0.5
    assert thresholds_of(document()) == ([], {})
    table = list(csv.DictReader(io.StringIO(curves_csv(reported))))
    assert [each["threshold"] for each in table if each["best"] == "1"] == ["0.5"]


@pytest.mark.parametrize("known", [False, True])
def test_what_is_in_a_page_is_no_markup(known: bool) -> None:
    content = document(score={"vi": 1.0}) if known else document()
    text = page(content, "<b>run</b>", {})
    assert "<2>" not in text
    assert "&lt;2&gt;" in text
    assert "a&amp;b" in text
    assert "<b>run" not in text
    assert "border 2" in text
    assert ("VI bits" in text) == known


def test_the_page_and_the_tables_of_nothing(tmp_path: Path) -> None:
    nothing = document()
    nothing["unmet"] = []
    assert "Not met" not in page(nothing, "run", {})
    assert offenders_csv(nothing).count("\n") == 1
    assert curves_csv(nothing) == ""
    assert "##" not in markdown(nothing, "run", ())


# --- plots ---------------------------------------------------------------------------------------

NUMBERS = st.floats(0, 1e6, allow_nan=False)


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), NUMBERS, NUMBERS, NUMBERS | st.none()), min_size=1, max_size=30
    )
)
def test_whatever_the_scores_are_they_are_drawn(values: list[tuple[float, ...]]) -> None:
    rows = [row(t, split, merge, erl=erl) for t, split, merge, erl in values]
    actual = curves(rows, min(rows, key=lambda each: each["vi"]))
    wanted = {VI} | ({ERL} if any(each["erl"] is not None for each in rows) else set())
    assert set(actual) == wanted <= set(PLOTS)
    for png in actual.values():
        assert imagecodecs.png_decode(png).std() > 1


def test_a_plot_marks_its_best() -> None:
    rows = [row(0.1, 0.2, 2.0), row(0.4, 0.5, 0.5), row(0.8, 2.0, 0.1)]
    marked = imagecodecs.png_decode(curves(rows, rows[1])[VI])[..., :3].astype(int)
    plain = imagecodecs.png_decode(curves(rows, None)[VI])[..., :3].astype(int)
    star = (0xD5, 0x5E, 0x00)
    assert (np.abs(marked - star).max(axis=-1) < 8).sum() > 200
    assert (np.abs(plain - star).max(axis=-1) < 8).sum() == 0
    assert curves(rows, rows[1]) == curves(rows, rows[1])  # the same bytes


# --- a run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose score step reads volumes of other names."""
    folder = tmp_path_factory.mktemp("scored")
    places = addresses(folder)
    names = {"truth": "right", "segmentation": "labels", "em": "em"}
    assert volflow.run(
        {
            "run": str(folder / "run"),
            "volumes": {names[name]: {"path": place} for name, place in places.items()},
            "steps": [{"use": "score", "in": {"truth": "right", "segmentation": "labels"}}],
        }
    ).ok
    return folder / "run"


def test_any_run_with_a_score_has_a_document(run: Path, tmp_path: Path) -> None:
    actual = find_document(str(run))
    assert actual is not None
    merged, split = errors_of(actual)
    assert (merged.kind, split.kind) == ("merger", "split")
    assert actual["inputs"]["segmentation"]["volume"] == "labels"
    assert set(KINDS) >= {merged.kind, split.kind}
    assert find_document(str(tmp_path)) is None
    layers = run_layers(str(run))
    again = make_document(
        actual["results"],
        bounds=actual["bounds"],
        resolution=actual["resolution"],
        layers=layers,
        version=actual["version"],
    )
    assert again == actual


def test_a_state_shows_both_labels_at_the_place(run: Path) -> None:
    scene = make_scene(run_layers(str(run)))
    actual = find_document(str(run))
    assert actual is not None
    merged, split = errors_of(actual)
    wanted = (
        (merged, {"labels": (MERGED,), "right": (1, 2)}),
        (split, {"labels": (LEFT, RIGHT), "right": (3,)}),
    )
    for each, segments in wanted:
        where = target_of(actual, scene, each)
        assert where == Target(each.place, segments)
        state = scene.state("http://here", where)
        assert state["position"] == [value + 0.5 for value in each.place[::-1]]
        shown = {layer["name"]: layer for layer in state["layers"]}
        for name, ids in segments.items():
            assert shown[name]["segments"] == [str(label) for label in ids]
            assert shown[name]["visible"]
        assert state["crossSectionScale"] == scene.state("http://here")["crossSectionScale"] < 0.5
    background = replace(merged.parts[0], ids={"segmentation": 0, "truth": 1})
    alone = replace(merged, parts=(background,))
    assert target_of(actual, scene, alone).segments == {"labels": (), "right": (1,)}
    scene.viewpoint = replace(scene.viewpoint, extent_nm=(1e6, 1e6, 1e6))
    assert scene.state("http://here", target_of(actual, scene, split))["crossSectionScale"] == 0.5
    part = target_of(actual, scene, split, 1)
    assert part.segments == {"labels": (RIGHT,), "right": (3,)}


def test_a_scene_is_looked_at_where_it_is_reported(run: Path) -> None:
    scene = make_scene(run_layers(str(run)))
    before = scene.state("http://here")
    scene.target = Target(None, {"right": (4,)})
    after = scene.state("http://here")
    assert after["position"] == before["position"]
    assert after["crossSectionScale"] == before["crossSectionScale"]
    assert next(x for x in after["layers"] if x["name"] == "right")["segments"] == ["4"]


def test_the_command_of_an_error_is_one_that_view_understands(run: Path) -> None:
    actual = find_document(str(run))
    assert actual is not None
    text = command(actual, "my run", errors_of(actual)[0])
    assert text.startswith("volflow view 'my run' --at ")
    assert text.endswith(f"--segments labels={MERGED} --segments right=1,2")  # the run's own names


def test_the_page_says_which_layer_is_which(run: Path) -> None:
    actual = find_document(str(run))
    assert actual is not None
    text = page(actual, "run", {})
    for place, layer in (("segmentation", "labels"), ("truth", "right")):
        path = actual["inputs"][place]["path"]
        row = f"<tr><td>{ROLES[place]}</td><td>{layer}</td><td><code>{path}</code></td></tr>"
        assert row in text
        assert f"- {ROLES[place]} (layer `{layer}`): `{path}`" in markdown(actual, "run", ())


def test_every_score_has_a_meaning() -> None:
    for label, unit, meaning in METRICS.values():
        assert label
        assert unit in ("", "bits", "nm", "voxels")
        assert re.fullmatch(r"[A-Z].*\.", meaning)


def test_the_page_has_a_link_for_every_name(run: Path) -> None:
    actual = find_document(str(run))
    assert actual is not None
    links = {name: f"http://v/?a=1&b={name}" for name, _, _ in link_names(actual)}
    text = page(actual, "run", {}, links)
    assert {unescape(link) for link in re.findall(r'href="([^"]+)"', text)} == set(links.values())
    assert "volflow view" not in text
    assert "href" not in page(actual, "run", {})


def test_only_a_page_of_our_own_is_shown_as_one(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<script>")
    sources: dict[str, LayerSource] = {
        "layer": FolderSource(tmp_path), "_scores": MemorySource({"report.html": b"<h1>"}),
    }  # fmt: skip
    wanted = {"layer/page.html": "application/octet-stream", "_scores/report.html": "text/html"}
    with LayerServer(sources) as server:
        for key, kind in wanted.items():
            with urllib.request.urlopen(f"{server.url}/{key}") as answer:
                assert answer.headers.get_content_type() == kind
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
