"""Profiles by name, by file and by address; options take precedence."""

from __future__ import annotations

import pytest

from volflow.engine.executors.profile import Profile, find_profile
from volflow.errors import PlanError


def test_options_take_precedence_over_a_profile_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("cluster: local\nworkers: 3\ntimeout: 60\nstall: 70\non_stall: end\n")
    expected = Profile(cluster="local", workers=3, timeout=60, stall=70, on_stall="end")
    assert find_profile(str(path)).model_dump() == expected.model_dump()
    assert find_profile(str(path), stall=0, on_stall="report").stall == 0
    assert find_profile(str(path), stall=5).on_stall == "end"
    for wrong in ({"stall": -1.0}, {"on_stall": "bark"}, {"timeout": -1.0}, {"workers": 0}):
        with pytest.raises(PlanError, match=f"options: {next(iter(wrong))}: expected"):
            find_profile(str(path), **wrong)
    with pytest.raises(PlanError, match="options: worker: unknown key 'worker'; did you mean"):
        find_profile(str(path), worker=2)
    assert find_profile(str(path), workers=1).workers == 1
    assert find_profile(str(path), timeout=0).timeout == 0
    assert find_profile("none").model_dump() == Profile(cluster="none").model_dump()
    assert find_profile("tcp://1.2.3.4:8786").cluster == "tcp://1.2.3.4:8786"
    assert find_profile("local").cluster == "local"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cluster: local\nworker: 3\n", r"mine.yaml:2: worker: unknown key 'worker'"),
        ("cluster: local\nworkers: 0\n", r"mine.yaml:2: workers: expected greater than"),
        ("cluster: [\n", "not YAML"),
        ("", "expected keys and values"),
    ],
)
def test_a_wrong_profile_is_an_error_with_its_line(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(PlanError, match=message):
        find_profile(str(path))
