"""Volumes whose places contain one another are refused, however the addresses are written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engine.plan.plan_cases import GOOD, STAGES, planned, problems
from volflow.io.places import Place


def places_that_overlap(*overrides: str) -> list[str]:
    actual = problems(GOOD, *overrides)
    sentences = (" would write '", " is read where ")
    return [line for line in actual if any(each in line for each in sentences)]


@pytest.mark.parametrize(
    "path",
    [
        "zarr3://em.zarr/deeper/still",
        "precomputed://em.zarr/./new/",
        "n5://out/../em.zarr/x",
        "zarr://file://{here}/em.zarr/x",
        "zarr3://link/x",
        "precomputed://loop/affinity.zarr/1",
    ],
)
def test_an_output_within_an_input_is_refused(folder, path):
    os.symlink("em.zarr", "link")
    os.symlink(".", "loop")
    path = path.format(here=Path.cwd())
    assert len(places_that_overlap(f"volumes.pieces.path={path}")) == 1


@pytest.mark.parametrize("path", ["zarr3://{here}", "zarr3://lab", "zarr3://other/../lab/"])
def test_an_output_around_an_input_is_refused(folder, path):
    Path("lab").mkdir()
    os.rename("em.zarr", "lab/em.zarr")
    path = path.format(here=Path.cwd())
    actual = places_that_overlap(f"volumes.pieces.path={path}", "volumes.em.path=lab/em.zarr")
    assert " around " in actual[0]


def test_an_output_around_a_mask_is_refused(folder):
    Path("lab").mkdir()
    os.rename("mask.zarr", "lab/mask.zarr")
    change = ("volumes.mask.path=lab/mask.zarr", "mask=mask", "volumes.pieces.path=n5://lab")
    assert "around 'mask'" in places_that_overlap(*change)[0]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("zarr://out/ledger/x", "within 'the run's ledger'"),
        ("zarr://out/events", "where 'the run's events' is"),
        ("zarr://elsewhere/pipeline.yaml", "where 'the run's pipeline.yaml' is"),
        ("zarr://{here}/out/..", "around where 'the run' is"),
        ("zarr://out/segmentation/0/x", "'segmentation'"),
    ],
)
def test_an_output_in_the_way_of_the_run_is_refused(folder, path, message):
    Path("out").mkdir()
    os.symlink("out", "elsewhere")
    actual = places_that_overlap(f"volumes.pieces.path={path.format(here=Path.cwd())}")
    assert message in actual[0]


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "a/b", "events\n", "\x1b[2J"])
def test_an_output_that_a_stage_names_like_a_path_is_refused(folder, name):
    module = f"evil{abs(hash(name))}"  # imported once per process
    Path(f"{module}.py").write_text(
        "from volflow import Layer, Stage\n\n\n"
        "class Evil(Stage):\n"
        "    @property\n"
        "    def outputs(self):\n"
        f"        return {{{name!r}: Layer(dtype='uint8', channels=0, kind='image')}}\n"
    )
    actual = problems(GOOD.replace(f"{STAGES}:Sizes", f"{module}:Evil"))
    assert any(f"names its output {name!r}; expected a letter" in line for line in actual), actual
    assert not any(chr(27) in line for line in actual)


@pytest.mark.parametrize("run", ["em.zarr", "em.zarr/run", "link/run"])
def test_a_run_within_an_input_is_refused(folder, run):
    os.symlink("em.zarr", "link")
    actual = places_that_overlap(f"run={run}")
    assert any("'em' is read where the run is" in line for line in actual)


def test_an_input_where_the_run_writes_is_refused(folder):
    os.makedirs("out/records")
    os.rename("em.zarr", "out/records/em.zarr")
    (actual,) = places_that_overlap("volumes.em.path=out/records/em.zarr")
    assert "is read where the run's records is" in actual


def test_inputs_and_outputs_next_to_one_another_in_the_run_are_accepted(folder):
    Path("out").mkdir()
    os.rename("em.zarr", "out/em.zarr")
    plan = planned(
        GOOD, "volumes.em.path=out/em.zarr", "volumes.pieces.path=zarr://out/deep/pieces"
    )
    assert plan.pipeline.volumes["em"].path.endswith("out/em.zarr")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://bucket/a", "zarr://s3://bucket/a/"),
        ("s3://bucket/a", "s3://Bucket/a/b?profile=x"),
        ("s3://bucket/a", "s3://bucket//c/../a/b"),
        ("s3://bucket", "precomputed://https://bucket.s3.eu-west-1.amazonaws.com/a"),
        ("s3://bucket/a", "https://s3.amazonaws.com/bucket/a%2Fb"),
        ("s3://b/a?endpoint=http://LOCALHOST:9000/", "http://127.0.0.1:9000/b/a/x"),
        ("gs://bucket/a", "https://storage.googleapis.com/bucket/a/b"),
        ("http://Host.org/a", "n5://https://host.org:443/a/b?x=y"),
        ("memory://x/a", "memory://x/a/b"),
    ],
)
def test_remote_places_are_compared_by_what_they_lead_to(monkeypatch, one, other):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    assert Place.of(one).contains(Place.of(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://bucket/a", "s3://bucket/ab"),
        ("s3://bucket/a", "gs://bucket/a"),
        ("s3://b/a?endpoint=http://one.org", "s3://b/a?endpoint=http://two.org"),
        ("/data/a", "/data/ab"),
    ],
)
def test_other_places_do_not_meet(one, other):
    assert not Place.of(one).meets(Place.of(other))
