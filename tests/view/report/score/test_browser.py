"""A real browser opens the page of a scoring, follows a link, and sees the error."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

import volflow
from tests.cli.scoring.scored import LEFT, MERGED, RIGHT, addresses
from tests.view.browser import IN_A_BROWSER, SIZE
from volflow.view.layers import run_layers
from volflow.view.neuroglancer.scene import make_scene
from volflow.view.neuroglancer.viewer import (
    PROBED,
    another_viewer,
    browse,
    neuroglancer_viewer,
)
from volflow.view.report.score.document import errors_of, find_document
from volflow.view.report.score.links import serve_scores

pytestmark = IN_A_BROWSER
STATE = "return window.viewer ? JSON.stringify(window.viewer.state.toJSON()) : null"
PATIENCE = 240.0  # seconds


def until(actual: Callable[[], Any]) -> Any:
    """The value of a function once it is not None."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = actual()
        if value is not None:
            return value
        time.sleep(0.3)
    raise AssertionError(f"nothing within {PATIENCE:.0f} s")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browsed")
    places = addresses(folder)
    volumes = {name: {"path": path} for name, path in places.items()}
    document = {"run": str(folder / "run"), "volumes": volumes, "steps": [{"use": "score"}]}
    assert volflow.run(document).ok
    return folder / "run"


def test_a_link_opens_the_viewer_at_the_error_with_its_labels(run: Path) -> None:
    document = find_document(str(run))
    assert document is not None
    scene = make_scene(run_layers(str(run)))
    viewers: list[Any] = []

    def show(state: dict[str, Any]) -> str:
        viewers.append(another_viewer(state))
        return str(viewers[-1].get_viewer_url())

    with (
        scene.serve() as server,
        neuroglancer_viewer(scene.state(server.url)),
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        browse(SIZE, profile) as driver,
    ):
        page = serve_scores(server, scene, document, str(run), show)
        wanted = ([MERGED], [1, 2]), ([LEFT, RIGHT], [3])
        for each, (segments, truths) in zip(errors_of(document), wanted, strict=True):
            state = followed(driver, page, str(each.label))
            assert state["position"] == [value + 0.5 for value in each.place[::-1]]
            shown = {layer["name"]: layer for layer in state["layers"]}
            assert set(shown["segmentation"]["segments"]) == {str(label) for label in segments}
            assert set(shown["truth"]["segments"]) == {str(label) for label in truths}
        failed = {key for status, key in server.answered if status not in (200, 206)}
        assert {key for key in failed if not key.endswith(PROBED)} == set()
        assert any(key.startswith("segmentation/") for _, key in server.answered)


def followed(driver: Any, page: str, text: str) -> dict[str, Any]:
    """The state of the viewer that a link opens in a tab of its own, once it is seen in colour."""
    driver.get(page)
    first = driver.current_window_handle
    driver.find_element("link text", text).click()
    new = until(lambda: next(iter(set(driver.window_handles) - {first}), None))
    driver.switch_to.window(new)
    until(lambda: "layers" in json.loads(driver.execute_script(STATE) or "{}") or None)
    until(lambda: coloured(driver.get_screenshot_as_png()) > 0.05 or None)
    state: dict[str, Any] = json.loads(driver.execute_script(STATE))
    driver.close()
    driver.switch_to.window(first)
    return state


def coloured(png: bytes) -> float:
    """The share of pixels that are far from grey."""
    values = imagecodecs.png_decode(png)[..., :3].astype(int)
    return float(np.mean(values.max(axis=-1) - values.min(axis=-1) > 40))
