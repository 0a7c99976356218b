"""Every exit code of `run` and `retry`, by the kind of what ends them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.io.servers import refusing_port
from volflow.cli import EXIT_CODES
from volflow.engine.api import make_plan
from volflow.engine.outline import write_outline
from volflow.errors import StorageError, StorageFull
from volflow.io.run.lock import RunLock
from volflow.io.store import Store

ROOT = Path(__file__).parents[2]
CODES = (0, 1, 2, 3, 4, 5, 6, 130)
STAGES = "tests.cli.exit_stages"


@pytest.mark.parametrize("verb", ["run", "retry"])
class TestCodes:
    """One case for each code and kind of cause."""

    @pytest.fixture
    def begin(self, volflow, toy, tmp_path, verb):
        """Call the verb for a pipeline; for `retry` it is that of a run that did nothing yet."""

        def call(*options, how=None, second=None):
            steps = [{"use": "tests.engine.toys:Index", "name": "index"}]
            if how is not None:
                (tmp_path / "sick").touch()
                own = {"how": how, "sick": str(tmp_path / "sick")}
                steps = [{"use": f"{STAGES}:Ending", "name": "index", "with": own}]
            if second is not None:
                steps.append({"use": f"{STAGES}:{second}", "name": "second"})
            pipeline = toy(steps=steps)
            if verb == "retry" and not (tmp_path / "run/pipeline.yaml").exists():
                write_outline(make_plan(str(pipeline)))
            return volflow(verb, tmp_path / "run" if verb == "retry" else pipeline, *options)

        return call

    def test_0_done(self, begin):
        assert begin().exit_code == 0

    def test_1_a_bug(self, begin, monkeypatch):
        def broken(*_arguments, **_options):
            raise RuntimeError("seventeen")

        monkeypatch.setattr("volflow.engine.api.execute", broken)
        result = begin()
        assert result.exit_code == 1
        assert "please report" in result.stderr

    @pytest.mark.parametrize(
        "options",
        [
            ["--set", "steps.index.seconds=many"],
            ["--workers", "0"],
            ["--cluster", "lcal"],
            ["--unknown"],
        ],
    )
    def test_2_wrong_as_written(self, begin, tmp_path, options):
        result = begin(*options)
        assert result.exit_code == 2
        assert "Traceback" not in result.output
        assert not (tmp_path / "run/ledger").exists()

    @pytest.mark.parametrize("stage", ["BrokenResult", "BrokenUnmet"])
    def test_2_a_stage_that_raises_after_its_blocks(self, begin, stage):
        result = begin(second=stage)
        assert result.exit_code == 2
        assert f"step 'second': stage {STAGES}:{stage}" in result.stderr
        assert "finished blocks stay done" in result.stderr

    @pytest.mark.parametrize("how", ["raise", "exit", "lie"])
    def test_3_blocks_failed(self, begin, tmp_path, how):
        result = begin(how=how, second="Unmet")
        assert result.exit_code == 3
        assert "1 block failed" in result.stderr
        assert "not started: second" in result.stderr
        (tmp_path / "sick").unlink()
        assert begin(second="Unmet").exit_code == 5

    def test_4_another_driver(self, begin, tmp_path):
        with RunLock(str(tmp_path / "run")):
            result = begin()
        assert result.exit_code == 4
        assert "is held by process" in result.stderr

    def test_4_no_cluster(self, begin):
        with refusing_port() as port:
            result = begin("--cluster", f"tcp://127.0.0.1:{port}")
        assert result.exit_code == 4
        assert "Traceback" not in result.output

    @pytest.mark.parametrize("error", [StorageError("no store"), StorageFull("no space")])
    def test_4_a_store_that_fails(self, begin, monkeypatch, error):
        write = Store.write

        def failing(self, key, value):
            if key.startswith("ledger/"):
                raise error
            write(self, key, value)

        monkeypatch.setattr(Store, "write", failing)
        result = begin()
        assert result.exit_code == 4
        assert str(error) in result.stderr

    def test_5_a_limit_missed(self, begin):
        result = begin(second="Unmet")
        assert result.exit_code == 5
        assert "not met: step 'second': sum: expected more than" in result.stderr
        assert begin(second="Unmet").exit_code == 5  # with nothing left to do, too

    def test_6_stalled(self, begin, monkeypatch):
        monkeypatch.setattr("volflow.engine.monitor.watchdog.CHECK_EVERY", 0.05)
        result = begin("--stall", 1, "--on-stall", "end", how="hang")
        assert result.exit_code == 6
        assert "stalled; no block finished" in result.stderr

    def test_130_interrupted(self, begin, tmp_path):
        result = begin(how="interrupt")
        assert result.exit_code == 130
        assert "resume with: volflow retry" in result.stderr
        (tmp_path / "sick").unlink()
        assert begin().exit_code == 0


def test_help_and_readme_list_the_codes_that_are_tested():
    tested = {int(name.split("_")[1]) for name in vars(TestCodes) if name.startswith("test_")}
    readme = re.findall(r"^\| (\d+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    listed = re.findall(r"^  (\d+) ", EXIT_CODES, re.MULTILINE)
    assert set(CODES) == tested
    assert tuple(map(int, listed)) == CODES
    assert tuple(map(int, readme)) == CODES
