"""Units in pipelines: the plan's voxels, its digests, and its problems with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from volflow.cli import main
from volflow.config.pipeline import VolumeSpec, read
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.engine.estimate.trial import _cut
from volflow.engine.job import Plan
from volflow.engine.plan.plan import plan_draft
from volflow.errors import PlanError
from volflow.io.volume import Volume

TEXT = """\
run: out
block: [8, 16, 16]
volumes:
  affinity: {path: affinity.zarr}
steps:
  - use: fragments
  - use: agglomerate
    with:
      threshold: 0.3
      min_size: 500
  - use: relabel
"""
VOLUME, BOTH = "0.001088 µm³", "0.001088 µm³ or 0.032 µm²"  # 425 voxels; 500 pixels
VOXEL = (40.0, 8.0, 8.0)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = VolumeSpec(path="zarr://affinity.zarr")
    Volume.create(spec, Layer("uint8", 3), Box((0, 0, 0), (16, 32, 32)), VOXEL, (8, 16, 16))


def planned(size: Any, *overrides: str, bounds: str | None = None) -> Plan:
    Path("p.yaml").write_text(TEXT.replace("500", str(size)))
    return plan_draft(read("p.yaml", overrides, bounds))


def digests(plan: Plan) -> dict[str, str]:
    return {step.name: step.digest for step in plan.steps}


def problem(size: Any, *overrides: str, bounds: str | None = None) -> str:
    with pytest.raises(PlanError) as caught:
        planned(size, *overrides, bounds=bounds)
    return "\n".join(caught.value.problems)


def test_a_size_in_units_has_the_digests_of_its_voxels():
    """Digests of whole numbers are those of runs from before there were units."""
    plain = planned(425)
    assert digests(planned(VOLUME)) == digests(plain)
    assert digests(planned(500, f"steps.agglomerate.min_size={BOTH}")) == digests(plain)
    assert digests(planned("0.0011 µm³")) != digests(plain)
    single = "4:5,0:32,0:32"
    assert digests(planned(BOTH, bounds=single)) == digests(planned(500, bounds=single))


def test_the_plan_shows_the_unit_and_the_voxels():
    planned(VOLUME)
    words = ["plan", "p.yaml"]
    text = CliRunner().invoke(main, words).stdout
    assert "units   agglomerate.min_size: 0.001088 µm³ is 425 voxels" in text
    document = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert [step["in_voxels"] for step in document["steps"]] == [{}, {"min_size": 425}, {}]


def test_problems_of_units_name_the_line():
    place = "p.yaml:10: steps[1].with.min_size: "
    assert problem("3 µm") == (
        f"{place}expected voxels or a volume or an area such as 0.002 µm³ or 0.01 µm², not a "
        f"length; got '3 µm'"
    )
    assert problem(VOLUME, bounds="4:5,0:32,0:32") == (
        f"{place}expected an area such as 0.01 µm², as the bounds are a single section (one plane "
        f"along z); both may be given: 0.002 µm³ or 0.01 µm²; got '{VOLUME}'"
    )
    option = "steps.agglomerate.min_size=0.01 µm²"
    assert problem(500, option).startswith(f"--set {option}: steps[1].with.min_size: expected a vo")
    assert problem("2 parsecs").startswith(f"{place}expected voxels, or a number with a unit such")


def test_all_problems_are_reported_at_once():
    assert len(problem("3 µm", "steps.relabel.fill_nm=-1", "block=[0,1,1]").splitlines()) == 3


def test_a_trial_in_a_part_has_the_sizes_of_the_whole():
    plan = planned(VOLUME)
    part = _cut(plan, Box((4, 0, 0), (5, 32, 32)), "scratch")
    assert part.steps[1].with_ == {"threshold": 0.3, "min_size": 425}


def test_the_voxel_size_of_the_run_is_the_default_of_a_stage(tmp_path):
    plan = planned(500, "steps.relabel.fill_nm=40")
    assert plan.step("relabel").stage.model_dump()["resolution"] == VOXEL
    assert plan.step("relabel").stage.halo == (1, 5, 5)
    given = planned(500, "steps.relabel.fill_nm=40", "steps.relabel.resolution=[40,8,8]")
    assert digests(given) == digests(plan)
    assert problem(500, "steps.relabel.fill_nm=40", "steps.relabel.resolution=[40,4,4]").endswith(
        "expected that of the run, [40.0, 8.0, 8.0] nm (z, y, x); got [40.0, 4.0, 4.0]"
    )
