"""Faults in the declarations of a user's own stage are problems of the plan, with exit code 2."""

import subprocess
import sys

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
def own_source(volflow, tmp_path, monkeypatch):
    """Call a verb with a pipeline of one step of the stage `Mine` in a module with a source."""

    def call(verb, source, name, options=(), **parameters):
        (tmp_path / f"{name}.py").write_text(source)
        document = {
            "run": str(tmp_path / "run"),
            "block": [16, 16, 16],
            "bounds": "0:32,0:16,0:16",
            "resolution": [10, 10, 10],
            "steps": [{"use": f"{name}:Mine", "name": "mine", "with": parameters}],
        }
        (tmp_path / "p.yaml").write_text(yaml.safe_dump(document))
        return volflow(verb, tmp_path / "p.yaml", *options)

    return call


@pytest.fixture
def own(own_source):
    """Run a pipeline of a stage with one method replaced by a statement."""

    def call(method, statement, name):
        decorator = "    @property\n" if method in PROPERTIES else ""
        source = f"{STAGE}\n{decorator}    def {method}(self, *a, **k):\n        {statement}\n"
        return own_source("run", source, name)

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


UNPICKLABLE = {
    "lock": "threading.Lock()",
    "function": "lambda: None",
    "raises": "Stubborn()",
    "exits": "Leaving()",
}
HOLDING = """
import sys, threading
from typing import Any
from pydantic import PrivateAttr

class Stubborn:
    def __reduce__(self):
        raise ValueError("no luck")

class Leaving:
    def __reduce__(self):
        sys.exit(0)
"""


@pytest.mark.parametrize("verb", ["plan", "run"])
@pytest.mark.parametrize("name", UNPICKLABLE)
def test_a_stage_that_cannot_be_sent_to_workers_is_a_problem_of_the_plan(
    own_source, tmp_path, name, verb
):
    held = f"    _held: Any = PrivateAttr(default_factory=lambda: {UNPICKLABLE[name]})\n"
    result = own_source(verb, f"{HOLDING}\n{STAGE}\n{held}", f"holding_{name}_{verb}")
    assert result.exit_code == 2, result.output
    assert f"step 'mine': stage holding_{name}_{verb}:Mine: cannot be sent to wo" in result.output
    assert "expected parameters and attributes that can be pickled" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


def test_a_parameter_that_cannot_be_sent_to_workers_is_a_problem_of_the_plan(own_source, tmp_path):
    checked = """
    scale: Any = None

    @field_validator("scale")
    @classmethod
    def _as_function(cls, value):
        return lambda voxel: voxel * value

    def identity(self):
        return {}
"""
    source = f"from typing import Any\nfrom pydantic import field_validator\n{STAGE}\n{checked}"
    result = own_source("plan", source, "function_parameter", scale=2)
    assert result.exit_code == 2, result.output
    assert "cannot be sent to workers: pickling it raised" in result.output


def test_a_class_that_is_no_attribute_of_its_module_is_a_problem_of_the_plan(own_source):
    source = (
        f"{STAGE}\n\nOther = type('Nested', (Mine,), {{'__module__': __name__}})\nMine = Other\n"
    )
    result = own_source("plan", source, "nested_class")
    assert result.exit_code == 2, result.output
    assert "a class at the top level of its module" in result.output


def test_a_class_of_the_program_that_runs_is_refused_where_workers_would_import_it(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        f"{STAGE}\n"
        "from volflow.errors import PlanError\n"
        "import volflow\n"
        "if __name__ == '__main__':\n"
        "    document = {'run': 'run', 'block': [16, 16, 16], 'bounds': '0:32,0:16,0:16',\n"
        "        'resolution': [10, 10, 10], 'steps': [{'use': '__main__:Mine', 'name': 'mine'}]}\n"
        "    try:\n"
        "        volflow.run(document, cluster=sys.argv[1], workers=1)\n"
        "    except PlanError as error:\n"
        "        sys.exit(str(error))\n"
    )
    for cluster, message in (("local", "stage 'Mine' is defined in the program"), ("none", "")):
        command = [sys.executable, str(program), cluster]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert message in done.stderr
        assert (done.returncode, (tmp_path / "run").exists()) == (
            int(cluster == "local"),
            cluster == "none",
        )


EFFORTS = [
    ("raise ValueError('no luck')", "effort raised ValueError: no luck"),
    ("return 'much'", "effort: expected a finite number from 0 on, got 'much'"),
    ("return float('nan')", "effort: expected a finite number from 0 on, got nan"),
    ("return -1.0", "effort: expected a finite number from 0 on, got -1.0"),
    ("return None", "effort: expected a finite number from 0 on, got None"),
    ("return 10**400", "effort: expected a finite number from 0 on, got 10000"),
]


@pytest.mark.parametrize(("statement", "message"), EFFORTS)
def test_a_wrong_effort_is_a_problem_of_its_stage(own_source, statement, message):
    method = f"    def effort(self, grid, bounds):\n        {statement}\n"
    name = f"effort_{[each[0] for each in EFFORTS].index(statement)}"
    result = own_source("plan", f"{STAGE}\n{method}", name, options=["--trial", "1"])
    assert result.exit_code == 2, result.output
    assert f"step 'mine': stage {name}:Mine: {message}" in result.output
    assert "Traceback" not in result.output


REDUCTION = """
import sys
import numpy as np
from volflow.core.stage import Reduction, Up

class Mine(Reduction):
    @property
    def rounds(self):
        return ("only",)

    def leaf(self, block, round_name, previous):
        return Up({"sum": np.zeros(1, "int64")}, {})

    def join(self, block, round_name, children):
        return Up({"sum": np.zeros(1, "int64")}, {})
"""
NODES = [
    ("node_effort", "raise ValueError('no luck')", "node_effort raised ValueError: no luck"),
    ("node_effort", "return -1", "node_effort: expected a finite number from 0 on, got -1"),
    ("node_effort", "return [1]", "node_effort: expected a finite number from 0 on, got [1]"),
    ("node_memory", "return 'lots'", "expected a number of bytes from 0 on, got 'lots'"),
]


@pytest.mark.parametrize(("method", "statement", "message"), NODES)
def test_a_wrong_effort_of_nodes_is_a_problem_of_their_stage(
    own_source, method, statement, message
):
    source = f"{REDUCTION}\n    def {method}(self, *arguments):\n        {statement}\n"
    name = f"node_effort_{NODES.index((method, statement, message))}"
    result = own_source("plan", source, name, options=["--trial", "2"])
    assert result.exit_code == 2, result.output
    assert f"step 'mine': stage {name}:Mine: " in result.output
    assert message in result.output


@pytest.mark.parametrize("method", ["effort", "node_effort", "node_memory"])
def test_efforts_of_nothing_leave_the_cost_unknown(own_source, method):
    source = f"{REDUCTION}\n    def {method}(self, *arguments):\n        return 0\n"
    result = own_source("plan", source, f"no_{method}", options=["--trial", "2"])
    assert result.exit_code == 0, result.output
