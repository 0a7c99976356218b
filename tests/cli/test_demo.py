"""The demo, small, to its last line."""

from __future__ import annotations

import importlib.util
import json

from volflow.cli.demo import available_steps


def test_the_demo_ends_with_scores_addresses_and_a_picture(volflow, tmp_path):
    out = tmp_path / "demo"
    result = volflow("demo", "--out", out, "--size", 48, "--cluster", "none")
    assert result.exit_code == 0, result.output
    actual = json.loads((out / "results/score.json").read_text())
    assert f"{actual['vi']:.4f} bits" in result.output
    assert f"{actual['arand']:.4f}" in result.output
    for name in ("em", "truth", "affinity", "segmentation"):
        assert f"precomputed://{out / name}" in result.output
        assert (out / name / "info").exists()
    assert (out / "overview.png").exists()
    assert f"volflow view {out}" in result.output
    for name in ("meshes", "skeletons"):
        assert (out / "results" / name / "precomputed/info").exists()


def test_the_demo_leaves_out_what_needs_a_missing_package(monkeypatch):
    find = importlib.util.find_spec
    absent = ("zmesh",)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in absent else find(name)
    )
    document, missing = available_steps()
    assert missing == ["meshes need zmesh, not installed: pip install '.[meshes]'"]
    assert [step["use"] for step in document["steps"]][-2:] == ["score", "skeletons"]
