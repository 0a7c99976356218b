"""The demo, small, to its last line."""

from __future__ import annotations

import json


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
