"""Faults in the declarations of a user's own stage are problems of the plan, with exit code 2."""

import pytest
import yaml

STAGE = """
import os, sys
import numpy as np
from volflow.core.stage import Layer, Stage

class Mine(Stage):
    @property
    def outputs(self):
        return {"painted": Layer(dtype="uint8", channels=0, kind="segmentation")}

    def run(self, block):
        return {"painted": np.full(block.write.shape, 1, "uint8")}
"""
PROPERTIES = ("halo", "outputs")


@pytest.fixture
def own(volflow, tmp_path, monkeypatch):
    """Run a pipeline of a stage with one method replaced by a statement."""

    def call(method, statement, name):
        decorator = "    @property\n" if method in PROPERTIES else ""
        source = f"{STAGE}\n{decorator}    def {method}(self, *a, **k):\n        {statement}\n"
        (tmp_path / f"{name}.py").write_text(source)
        document = {
            "run": str(tmp_path / "run"),
            "block": [16, 16, 16],
            "bounds": "0:32,0:16,0:16",
            "resolution": [10, 10, 10],
            "steps": [{"use": f"{name}:Mine", "name": "mine"}],
        }
        (tmp_path / "p.yaml").write_text(yaml.safe_dump(document))
        return volflow("run", tmp_path / "p.yaml")

    return call


METHODS = [
    "outputs",
    "halo",
    "halo_on",
    "memory",
    "check",
    "check_inputs",
    "check_tables",
    "identity",
    "phases",
    "written_scales",
]


@pytest.mark.parametrize("method", METHODS)
def test_an_exception_is_a_problem_of_its_stage(own, tmp_path, method):
    result = own(method, "raise ValueError('no luck')", f"raising_{method}")
    assert result.exit_code == 2, result.output
    assert "step 'mine': stage " in result.output
    assert f"{method} raised ValueError: no luck (raising_{method}.py:" in result.output
    assert not (tmp_path / "run").exists()


WRONG = [
    ("halo", "return (1.5, 0, 0)"),
    ("halo", "return (0, -1, 0)"),
    ("memory", "return -5"),
    ("memory", "return float('nan')"),
    ("memory", "return 'lots'"),
    ("outputs", "return ['painted']"),
    ("outputs", "return {'painted': 'uint8'}"),
    ("outputs", "return {'painted': Layer('object', 0)}"),
    ("outputs", "return {'painted': Layer('>u2', 0)}"),
    ("outputs", "return {'painted': Layer('uint8', 1.5)}"),
    ("check", "return 'one sentence'"),
    ("phases", "return None"),
]


@pytest.mark.parametrize(("method", "statement"), WRONG)
def test_a_wrong_answer_is_a_problem_of_its_stage(own, tmp_path, method, statement):
    result = own(method, statement, f"wrong_{WRONG.index((method, statement))}")
    assert result.exit_code == 2, result.output
    assert "step 'mine': stage " in result.output
    assert method in result.output
    assert "expected" in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("call", ["sys.exit(0)", "os._exit(0)"])
def test_an_exit_is_a_problem_of_its_stage(own, call):
    result = own("outputs", call, f"exiting_{call[0]}")
    assert result.exit_code == 2, result.output
    assert f"outputs called {call}" in result.output


def test_an_answer_that_is_no_json_is_a_problem_of_its_stage(own):
    result = own("identity", "return {'x': object()}", "no_json")
    assert result.exit_code == 2, result.output
    assert "not JSON serializable" in result.output


RAISED = {
    "unprintable": "class E(Exception):\n            def __str__(self): 1 / 0\n        raise E",
    "huge": "raise ValueError('begin' + 50_000_000 * 'x' + 'end')",
    "surrogate": "raise ValueError('\\udcff')",
    "nothing": "return None",
    "a_list": "return {'painted': [1, 2]}",
    "objects": "return {'painted': np.full(block.write.shape, None)}",
}


@pytest.mark.parametrize("name", RAISED)
def test_whatever_a_block_raises_or_returns_is_a_failed_block(own, name):
    statement = "block = a[0]\n        " + RAISED[name]
    result = own("run", statement, f"raised_{name}")
    assert result.exit_code == 3, result.output
    assert "2 blocks failed" in result.output
    assert len(result.output) < 100_000
    expected = {
        "unprintable": "its __str__ raised ZeroDivisionError",
        "nothing": "Mine returned a NoneType; expected a dict",
        "a_list": "returned output 'painted' as a list; expected a numpy array",
    }
    assert expected.get(name, "") in " ".join(result.output.split())


SUMMING = """
from volflow.core.stage import Reduction, Up

class Mine(Reduction):
    def leaf(self, block, round_name, previous):
        return Up({}, {})

    def join(self, block, round_name, children):
        return Up({}, {})
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("result(self, roots): raise ValueError('no luck')", "result raised ValueError: no luck"),
        ("result(self, roots): return {'a': object()}", "not JSON serializable"),
        ("result(self, roots): exit(0)", "result called sys.exit(0)"),
    ],
)
def test_a_result_that_fails_is_a_problem_of_its_stage(own, body, message, monkeypatch):
    monkeypatch.setitem(globals(), "STAGE", SUMMING + f"    def {body}\n")
    result = own("unused", "pass", f"summing_{abs(hash(body))}")
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "finished blocks stay done" in result.output
