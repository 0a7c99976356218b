"""The profile that a run stores: its name and options, never its content."""

from __future__ import annotations

import json

import pytest

from tests.engine.runs import planned, toy
from volflow.engine.driver import execute
from volflow.engine.executors.profile import Profile, Tls, find_profile
from volflow.engine.stored_profile import NAME, store_profile, stored_profile
from volflow.errors import PlanError
from volflow.io.sealed import seal_problem

SECRET = "hunter2"


def stored(folder) -> dict:
    content = json.loads((folder / NAME).read_text())
    assert seal_problem(content) == ""
    del content["checksum"]
    return content


def site(folder, name="site.yaml"):
    path = folder / name
    path.write_text(
        "cluster: slurm\npools:\n  cpu: {memory: 1 GB, walltime: '01:00:00', "
        f"environment: {{PASSWORD: {SECRET}}}}}\n"
    )
    return path


def test_a_run_continues_with_the_profile_and_the_options_of_its_last_start(tmp_path):
    store_profile(
        str(tmp_path), find_profile("local", workers=3, timeout=5.0, stall=7.0, on_stall="end")
    )
    again = stored_profile(str(tmp_path))
    assert (again.cluster, again.workers, again.timeout) == ("local", 3, 5.0)
    assert (again.stall, again.on_stall) == (7.0, "end")
    changed = stored_profile(str(tmp_path), workers=2, stall=0.0)
    assert (changed.workers, changed.timeout, changed.stall) == (2, 5.0, 0.0)


def test_a_file_is_stored_by_its_path_and_nothing_of_its_content(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    site(tmp_path)
    store_profile(str(tmp_path / "run"), find_profile("site.yaml", timeout=5.0))
    assert stored(tmp_path / "run") == {"cluster": str(tmp_path / "site.yaml"), "timeout": 5.0}
    monkeypatch.chdir("/")
    again = stored_profile(str(tmp_path / "run"))
    assert again.pools["cpu"].environment == {"PASSWORD": SECRET}
    assert again.timeout == 5.0


def test_a_file_called_like_a_bundled_profile_is_not_taken_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    site(tmp_path, "local.yaml")
    store_profile(str(tmp_path), find_profile("local.yaml"))
    assert stored(tmp_path)["cluster"] == str(tmp_path / "local.yaml")
    store_profile(str(tmp_path), find_profile("local"))
    assert stored(tmp_path) == {"cluster": "local"}


def test_a_profile_that_is_gone_is_named_with_what_to_do(tmp_path):
    path = site(tmp_path)
    store_profile(str(tmp_path), find_profile(str(path)))
    path.unlink()
    with pytest.raises(PlanError, match=r"(?s)site.yaml.*last start used.*with --cluster"):
        stored_profile(str(tmp_path))


def test_a_profile_made_in_python_is_stored_where_its_name_is_all_of_it(tmp_path):
    store_profile(str(tmp_path), Profile(cluster="local", workers=2))
    assert stored(tmp_path) == {"cluster": "local", "workers": 2}
    keys = Tls(ca="ca.pem", cert="cert.pem", key="key.pem")
    store_profile(str(tmp_path), Profile(cluster="tls://h:1", tls=keys))
    assert not (tmp_path / NAME).exists()
    assert stored_profile(str(tmp_path)).cluster == "none"


def test_a_run_stores_its_profile_when_it_starts(tmp_path):
    plan = planned(tmp_path, toy("Poison", **{"with": {"raises": [[0, 0, 1]]}}))
    assert not execute(plan, cluster=find_profile("none", timeout=60.0)).ok
    assert stored_profile(plan.pipeline.run).timeout == 60.0
    execute(plan)
    assert stored(tmp_path) == {"cluster": "none"}
