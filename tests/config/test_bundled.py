"""Bundled files, found by name from any folder."""

from __future__ import annotations

import re

import pytest

from volflow.config.bundled import bundled, find_bundled
from volflow.errors import PlanError


def test_bundled_pipelines_are_found_by_name_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    paths = {find_bundled(n, "pipelines", "pipeline") for n in ("segment", "segment.yaml")}
    assert paths == {find_bundled("pipelines/segment.yaml", "pipelines", "pipeline")}
    assert all(path.is_file() for path in paths)
    assert "local" in bundled("deploy")
    (tmp_path / "segment.yaml").write_text("mine")
    assert find_bundled("segment.yaml", "pipelines", "pipeline").read_text() == "mine"
    with pytest.raises(PlanError, match=r"there is no pipeline 'sgment'; did you mean 'segment'"):
        find_bundled("sgment", "pipelines", "pipeline")


@pytest.mark.parametrize("folder", ["pipelines", "pipelines/train", "pipelines/pretrain", "deploy"])
def test_bundled_files_name_no_folder_of_another_machine(folder):
    for path in bundled(folder).values():
        values = re.sub(r"#.*", "", path.read_text())
        assert not re.search(r"\.\./|[\s\"'/](/home|/work|/tmp|/data|~)/|shared/", values), path
