from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from volflow.config.bundled import bundled
from volflow.config.file import read_yaml
from volflow.config.overrides import default_step_name
from volflow.config.pipeline import absolute, dump, from_dict, load, read
from volflow.config.problems import Where, dotted
from volflow.config.schema import schema
from volflow.errors import PlanError

GOOD = """\
run: out
block: [32, 32, 32]
volumes:
  affinity:
    path: hdf5://aff.h5?dataset=main
    resolution: [10, 8, 8]
steps:
  - use: fragments
  - use: agglomerate
    with:
      threshold: 0.3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path, text: str) -> str:
    (folder / "p.yaml").write_text(text)
    return "p.yaml"


def problems(file: str, *overrides: str, bounds: str | None = None) -> list[str]:
    with pytest.raises(PlanError) as caught:
        load(file, overrides, bounds)
    return caught.value.problems


# --- what is read --------------------------------------------------------------------------------


def test_a_file_is_read_and_its_paths_start_at_the_working_directory(folder):
    (folder / "deeper").mkdir()
    written(folder / "deeper", GOOD)
    pipeline = load("deeper/p.yaml")
    assert pipeline.run == str(folder / "out")
    assert pipeline.volumes["affinity"].path == f"hdf5://{folder}/aff.h5?dataset=main"
    assert pipeline.steps[1].with_ == {"threshold": 0.3}
    assert pipeline.where.folders == (str(folder / "deeper"), str(folder))


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("em.zarr", "HERE/em.zarr"),
        ("./a/../em.zarr", "HERE/em.zarr"),
        ("/data/em", "/data/em"),
        ("precomputed://seg", "precomputed://HERE/seg"),
        ("precomputed:///data/seg", "precomputed:///data/seg"),
        ("zarr://s3://bucket/em", "zarr://s3://bucket/em"),
        ("gs://bucket/em", "gs://bucket/em"),
        ("hdf5://a.h5?dataset=/main/raw/", "hdf5://HERE/a.h5?dataset=/main/raw/"),
        ("~/em", "HOME/em"),
        ("", ""),
    ],
)
def test_relative_addresses_become_absolute_and_others_stay(folder, address, wanted):
    home = os.path.expanduser("~")
    assert absolute(address) == wanted.replace("HERE", str(folder)).replace("HOME", home)


def test_what_is_dumped_loads_to_an_equal_pipeline(folder):
    options = ["steps.agglomerate.min_size=7", "mask=affinity"]
    pipeline = load(written(folder, GOOD), options, "0:5,1:6,2:7")
    (folder / "again.yaml").write_text(dump(pipeline))
    assert load("again.yaml") == pipeline
    assert yaml.safe_load(dump(pipeline))["steps"][1]["with"] == {"threshold": 0.3, "min_size": 7}


def test_a_dict_says_the_same_as_a_file_and_is_not_changed(folder):
    data = yaml.safe_load(GOOD)
    before = yaml.safe_dump(data)
    assert from_dict(data, ["block=[8,8,8]"]) == load(written(folder, GOOD), ["block=[8,8,8]"])
    assert yaml.safe_dump(data) == before


def test_a_dict_may_hold_paths_and_numbers_of_numpy(folder):
    data = yaml.safe_load(GOOD)
    data["run"], data["block"] = Path("out"), (np.int64(32), 32, 32)
    data["steps"][1]["with"] = {"threshold": np.float64(0.3)}
    pipeline = from_dict(data)
    assert pipeline == load(written(folder, GOOD))
    assert dump(pipeline) == dump(load(written(folder, GOOD)))


def test_other_parameters_make_another_pipeline(folder):
    file = written(folder, GOOD)
    assert load(file) != load(file, ["steps.agglomerate.threshold=0.4"])


@pytest.mark.parametrize(
    ("use", "name"), [("fragments", "fragments"), ("mine.stages:TwoWords", "twowords")]
)
def test_a_step_is_called_after_its_stage(use, name):
    assert default_step_name(use) == name


# --- options -------------------------------------------------------------------------------------


def test_options_take_the_place_of_what_the_file_says(folder):
    pipeline = load(
        written(folder, GOOD),
        [
            "steps.agglomerate.threshold=0.4",
            "steps.agglomerate.with.min_size=9",
            "steps.fragments.block=[16, 16, 8]",
            "steps.fragments.in.affinity=other",
            "volumes.affinity.path=x.zarr",
            "volumes.other.path=y.zarr",
            "block=[64,64,64]",
            "run=there",
        ],
        "1:2,3:4,5:6",
    )
    fragments, agglomerate = pipeline.steps
    assert agglomerate.with_ == {"threshold": 0.4, "min_size": 9}
    assert (fragments.block, fragments.in_) == ((16, 16, 8), {"affinity": "other"})
    assert pipeline.volumes["affinity"].path == str(folder / "x.zarr")
    assert pipeline.volumes["affinity"].resolution == (10, 8, 8)
    assert pipeline.volumes["other"].path == str(folder / "y.zarr")
    assert (pipeline.block, pipeline.bounds) == ((64, 64, 64), "1:2,3:4,5:6")
    assert pipeline.run == str(folder / "there")


def test_the_last_of_two_options_counts(folder):
    options = ["steps.agglomerate.threshold=0.4", "steps.agglomerate.with.threshold=0.5"]
    assert load(written(folder, GOOD), options).steps[1].with_ == {"threshold": 0.5}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("blok=[1,1,1]", "--set blok=[1,1,1]: unknown key 'blok'; did you mean 'block'?"),
        (
            "steps.aglomerate.threshold=1",
            "--set steps.aglomerate.threshold=1: there is no step 'aglomerate'; did you mean "
            "'agglomerate'? (steps: fragments, agglomerate)",
        ),
        ("steps.agglomerate=1", "expected steps.NAME.KEY=value"),
        ("volumes.affinity=1", "expected volumes.NAME.KEY=value"),
        ("volumes.affinity.pth=1", "unknown key 'pth'; did you mean 'path'?"),
        ("threshold", "--set threshold: expected dotted.key=value"),
        ("block=[1,", "--set block=[1,: the value is not YAML"),
        ("block=!!python/object:os.system []", "the value is not YAML"),
        ("run.a=1", "--set run.a=1: there is nothing that could hold this key"),
        ("block=64", "--set block=64: block: expected a list; got 64"),
        ("block=[64,64,x]", "--set block=[64,64,x]: block[2]: expected a valid integer"),
        ("steps.fragments.attempts=0", "steps[0].attempts: expected greater than or equal to 1"),
    ],
)
def test_an_option_that_is_wrong_is_named_in_the_mistake(folder, option, message):
    actual = problems(written(folder, GOOD), option)
    assert len(actual) == 1
    assert message in actual[0]
    assert actual[0].startswith("--set ")


def test_wrong_bounds_are_reported_by_their_option(folder):
    (actual,) = problems(written(folder, GOOD), bounds="0:5,0:5")
    wanted = "--bounds 0:5,0:5: bounds: expected a box z0:z1,y0:y1,x0:x1 in voxels"
    assert actual.startswith(wanted)


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("run: out\n", "", "p.yaml:1: run: missing, and has no default"),
        ("run: out", "run: ''", "p.yaml:1: run: expected a folder or an address"),
        ("run: out", "run: zarr://out", "p.yaml:1: run: expected a folder or an address"),
        ("block: [32, 32, 32]", "block: [32, 32]", "p.yaml:2: block: expected at least 3 items"),
        ("block: [32, 32, 32]", "block: [32, 32, 0]", "p.yaml:2: block[2]: expected greater than"),
        ("block: [32, 32, 32]", "bounds: 3:2,0:1,0:1", "p.yaml:2: bounds: expected bounds that"),
        ("    path:", "    pth:", "p.yaml:5: volumes.affinity.pth: unknown key 'pth'; did you"),
        ("[10, 8, 8]", "[10, 8, -8]", "p.yaml:6: volumes.affinity.resolution[2]: expected greater"),
        ("  affinity:", "  a/../b:", "p.yaml:4: volumes.a/../b: expected a name of letters"),
        ("use: fragments", "name: x", "p.yaml:8: steps[0].use: missing, and has no default"),
        (
            "use: fragments",
            "{use: fragments, name: a/b}",
            "p.yaml:8: steps[0].name: expected a name of letters",
        ),
        (
            "    with:",
            "    wth:",
            "p.yaml:10: steps[1].wth: unknown key 'wth'; did you mean 'with'",
        ),
        ("  - use: fragments", "  - 3", "p.yaml:8: steps[0]: expected keys and values; got 3"),
        ("threshold: 0.3", "threshold: 0.3\n      threshold: 1", "p.yaml:12: steps[1].with.thresh"),
        ("threshold: 0.3", "threshold: !!python/name:os.system", "p.yaml:11: steps[1].with.thresh"),
        ("run: out", "run: [out", "p.yaml:2: this is not YAML"),
        ("run: out", "run: out\n? [a]\n: 3", "p.yaml:2: expected a key of plain text"),
    ],
)
def test_a_mistake_is_reported_with_file_line_and_path(folder, old, new, message):
    assert old in GOOD
    actual = problems(written(folder, GOOD.replace(old, new)))
    assert len(actual) == 1
    assert actual[0].startswith(message)


def test_all_mistakes_of_a_file_and_of_options_are_reported_at_once(folder):
    text = GOOD.replace("block:", "blok:").replace("[10, 8, 8]", "[10, 8]")
    text = text.replace("path:", "pth:")
    actual = problems(written(folder, text), "steps.x.y=1", "mask=5")
    assert len(actual) == 5
    for start in ("p.yaml:2: blok", "p.yaml:5: volumes.affinity.pth", "p.yaml:6: volumes.affinity"):
        assert sum(line.startswith(start) for line in actual) == 1
    assert sum(line.startswith("--set ") for line in actual) == 2


def test_a_draft_goes_on_without_the_keys_that_are_wrong(folder):
    text = GOOD.replace("[32, 32, 32]", "[32]").replace("    with:", "    pool: [1]\n    with:")
    draft = read(written(folder, text))
    assert len(draft.problems) == 2
    assert draft.pipeline is not None
    assert draft.pipeline.block == (64, 64, 64)
    assert draft.pipeline.steps[1].with_ == {"threshold": 0.3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "p.yaml: cannot be read: No such file"),
        (b"\xff\xfe\x00", "p.yaml: cannot be read: it is not UTF-8"),
        (b"", "p.yaml:1: expected keys and values"),
        (b"- a\n- b\n", "p.yaml:1: expected keys and values"),
        (b"a: 1\n---\nb: 2\n", "p.yaml:2: this is not YAML"),
    ],
)
def test_a_file_that_is_no_pipeline_is_an_error(folder, content, message):
    if content is not None:
        (folder / "p.yaml").write_bytes(content)
    (actual,) = problems("p.yaml")
    assert actual.startswith(message)


@pytest.mark.parametrize("steps", ["[]", "{}", "3"])
def test_a_pipeline_has_steps(folder, steps):
    (actual,) = problems(written(folder, f"run: out\nsteps: {steps}\n"))
    assert actual.startswith("p.yaml:2: steps: expected ")


# --- YAML ----------------------------------------------------------------------------------------


def test_every_key_and_item_has_its_line():
    actual = read_yaml("a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n")
    assert actual.data == {"a": {"b": 1, "c": ["x", {"d": 2}]}}
    assert actual.lines == {
        (): 1,
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c"): 3,
        ("a", "c", 0): 4,
        ("a", "c", 1): 5,
        ("a", "c", 1, "d"): 5,
    }


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1]\nb: *x\n",
        "a: 1e3\nb: 0x10\nc: ~\nd: 'x'\ne: yes\nf: 1.5\n",
        "a: >\n  folded\n  text\n",
    ],
)
def test_plain_yaml_is_read_as_the_safe_loader_reads_it(text):
    assert read_yaml(text).data == yaml.safe_load(text)
    assert not read_yaml(text).problems


def test_aliases_that_multiply_or_hold_themselves_end():
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12))
    actual = read_yaml(f"l0: &l0 [1]\n{levels}\n")
    assert actual.problems[0].text.startswith("a value that contains itself")
    actual = read_yaml("a: &a [*a]\n")
    assert actual.problems == [
        (("a", 0), "a value that contains itself, or over 100000 values", 1),
    ]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc: #-'\"é\n", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text("xyz", min_size=1), plain, min_size=1))
def test_any_data_written_as_yaml_is_read_back(data):
    assert read_yaml(yaml.safe_dump(data)).data == data


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_words(text):
    actual = read_yaml(text)
    assert all(problem.line >= 1 and problem.text for problem in actual.problems)


# --- places --------------------------------------------------------------------------------------


def test_a_path_is_shown_as_keys_and_positions():
    assert dotted(("steps", 1, "with", "threshold")) == "steps[1].with.threshold"
    assert dotted(()) == ""


def test_a_place_is_the_nearest_one_that_is_known():
    where = Where("p.yaml", {(): 1, ("a",): 2, ("a", 0): 3}, {("b", "c"): "--set b.c=1"})
    assert where.of(("a", 0, "x")) == "p.yaml:3"
    assert where.of(("a", 5)) == "p.yaml:2"
    assert where.of(("b", "c", "d")) == "--set b.c=1"
    assert where.of(("z",)) == "p.yaml:1"
    assert Where().of(("z",)) == ""


# --- schema --------------------------------------------------------------------------------------


def test_the_schema_knows_the_keys_and_the_parameters_of_installed_stages():
    actual = schema()
    definitions = actual["$defs"]
    assert {"use", "with", "in", "out", "block"} <= set(definitions["StepSpec"]["properties"])
    assert definitions["Pipeline"]["additionalProperties"] is False
    rules = {r["if"]["properties"]["use"]["const"]: r for r in definitions["StepSpec"]["allOf"]}
    assert rules["pyramid"]["then"]["properties"]["with"] == {"$ref": "#/$defs/Pyramid"}
    assert "levels" in definitions["Pyramid"]["properties"]
    names = definitions["StepSpec"]["properties"]["use"]["anyOf"][0]["enum"]
    assert "agglomerate" in names


def test_the_schema_takes_what_load_takes_and_refuses_what_it_refuses():
    jsonschema = pytest.importorskip("jsonschema")
    checker = jsonschema.Draft202012Validator(schema())
    for path in bundled("pipelines").values():
        assert not list(checker.iter_errors(yaml.safe_load(path.read_text())))
    wrong = [
        GOOD.replace("run:", "rnu:"),
        GOOD.replace("threshold: 0.3", "threshold: 3"),
        GOOD.replace("threshold:", "treshold:"),
        GOOD.replace("use: fragments", "use: fragmnts"),
        GOOD.replace("[32, 32, 32]", "[32, 32]"),
        GOOD.replace("  affinity:", "  a/b:"),
    ]
    for text in wrong:
        assert list(checker.iter_errors(yaml.safe_load(text))), text
    own = GOOD.replace("use: fragments", "use: mine.stages:Own\n    with: {any: 1}")
    assert not list(checker.iter_errors(yaml.safe_load(own)))
