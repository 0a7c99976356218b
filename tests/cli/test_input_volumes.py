"""Volumes of other programs, wherever they are read as inputs: whole, or refused."""

from __future__ import annotations

import bz2
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
import yaml

import volflow as package
from tests.engine.runs import planned, toy
from volflow.config.pipeline import VolumeSpec
from volflow.engine.driver import execute
from volflow.errors import PlanError, StorageError
from volflow.io.inputs import open_input
from volflow.train.config.training import load
from volflow.train.data.sources import source_problems
from volflow.view.layers import volume_layers

LABELS = np.random.default_rng(0).integers(1, 9, (16, 16, 16), dtype=np.uint64)


def labels_of(folder: Path, state: str) -> str:
    """Labels in eight chunks: all of them, one packed under another name, or none."""
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    spec["metadata"] = {"chunks": [8, 8, 8]}
    ts.open(spec, create=True, dtype="uint64", shape=LABELS.shape).result()[...] = LABELS
    attributes = {"_ARRAY_DIMENSIONS": ["z", "y", "x"]}
    (folder / ".zattrs").write_text(json.dumps(attributes))
    if state == "packed":
        chunk = folder / "1.0.1"
        chunk.with_name("1.0.1.bz2").write_bytes(bz2.compress(chunk.read_bytes()))
        chunk.unlink()
    elif state == "none":
        for chunk in folder.glob("?.?.?"):
            chunk.unlink()
    return f"zarr://{folder}"


def pipeline(volflow, tmp_path, address):
    volumes = {"index": {"path": address}}
    planned(tmp_path / "run", toy("Total"), volumes=volumes, bounds="0:16,0:16,0:16")


def score(volflow, tmp_path, address):
    whole = labels_of(tmp_path / "found", "whole")
    options = ["--set", "resolution=[8,8,8]", "--out", tmp_path / "report"]
    result = volflow("score", "--segmentation", whole, "--truth", address, *options)
    raise_refusal(result)


def score_image(volflow, tmp_path, address):
    whole = [labels_of(tmp_path / name, "whole") for name in ("found", "truth")]
    options = ["--set", "resolution=[8,8,8]", "--out", tmp_path / "report", "--image", address]
    raise_refusal(volflow("score", "--segmentation", whole[0], "--truth", whole[1], *options))


def score_partners(volflow, tmp_path, address):
    table = tmp_path / "partners.csv"
    header = "pre_z,pre_y,pre_x,post_z,post_y,post_x"
    rows = [",".join(str(8.0 * n) for n in (a, 3, 3, a, 4, 4)) for a in range(1, 9)]
    table.write_text("\n".join([header, *rows]))
    tables = ["--partners", f"csv://{table}?unit_nm=1", "--true-partners"]
    options = [f"csv://{table}?unit_nm=1", "--set", "resolution=[8,8,8]"]
    raise_refusal(volflow("score", *tables, *options, "--truth", address))


def convert(volflow, tmp_path, address):
    destination = f"zarr3://{tmp_path}/copy"
    raise_refusal(volflow("convert", address, destination, "--resolution", "8,8,8"))


def view(volflow, tmp_path, address):
    volume_layers([address])


def python(volflow, tmp_path, address):
    package.open_volume(address)


def raise_refusal(result) -> None:
    """The refusal of a command as an exception."""
    assert "Traceback" not in result.output
    if result.exit_code == 2:
        raise PlanError(result.output)
    assert result.exit_code == 0, result.output


READERS = [pipeline, score, score_image, score_partners, convert, view, python]
STATES = {"whole": "", "packed": r"7 chunks of 8 exist", "none": r"no chunk of 8 exist"}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("reader", READERS)
def test_chunks_that_exist_under_other_names_are_no_background(volflow, tmp_path, reader, state):
    address = labels_of(tmp_path / "labels", state)
    if state == "whole":
        reader(volflow, tmp_path, address)
        return
    with pytest.raises((StorageError, PlanError), match=STATES[state]):
        reader(volflow, tmp_path, address)


@pytest.mark.parametrize("state", ["packed", "none"])
@pytest.mark.parametrize("key", ["image", "labels", "known", "masks"])
def test_a_training_does_not_read_them_as_background_either(tmp_path, key, state):
    whole = labels_of(tmp_path / "whole", "whole")
    damaged = {"path": labels_of(tmp_path / "damaged", state)}
    source = {"image": {"path": whole}, "labels": {"path": whole}}
    if key in ("known", "masks"):
        source["masks"] = {"cell": {"path": whole}}
    source[key] = {"cell": damaged} if key == "masks" else damaged
    file = tmp_path / "train.yaml"
    validation = {"source": {"synthetic": {"bounds": "0:32,0:32,0:32", "seed": 6}}}
    document = {"out": "out", "voxel_size_nm": [8, 8, 8], "crop": [16, 16, 16]}
    network = {"widths": [2, 2], "pools": [[2, 2, 2]]}
    more = {"sources": [source], "validation": validation, "network": network}
    file.write_text(yaml.safe_dump({**document, **more}))
    problems = source_problems(load(file))
    assert any(re.search(STATES[state], problem) for problem in problems), problems


def test_background_is_declared(tmp_path):
    address = labels_of(tmp_path / "labels", "none")
    volumes = {"index": {"path": address, "missing": "background"}}
    bounds = {"bounds": "0:16,0:16,0:16"}
    plan = planned(tmp_path / "run", toy("Total"), volumes=volumes, **bounds)
    missing = "volumes.index: 8 of 8 chunks are missing and are read as the fill value"
    assert missing in plan.warnings
    assert execute(plan).results["total"] == {"sum": 0}
    with pytest.raises(PlanError, match="declare it with `missing: background`"):
        planned(tmp_path / "b", toy("Total"), volumes={"index": {"path": address}}, **bounds)
    step = toy("Index")
    own = {"index": {"path": f"zarr://{tmp_path}/own", "missing": "background"}}
    with pytest.raises(PlanError, match="'missing' is for reading an existing volume"):
        planned(tmp_path / "c", step, volumes=own)


def test_background_does_not_excuse_our_own_missing_chunks(tmp_path):
    volumes = {"index": {"path": f"zarr://{tmp_path}/own"}}
    assert execute(planned(tmp_path / "a", toy("Index"), volumes=volumes)).ok
    next(path for path in (tmp_path / "own/0/0").rglob("*") if path.is_file()).unlink()
    spec = VolumeSpec(path=f"zarr://{tmp_path}/own", missing="background")
    with pytest.raises(StorageError, match="a chunk is missing"):
        open_input(spec)[...]
