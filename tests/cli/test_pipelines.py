"""`pipelines`: every bundled pipeline with what it reads and writes."""

from __future__ import annotations

import json

from volflow.cli.pipelines import summary
from volflow.config.bundled import bundled


def test_every_bundled_pipeline_is_listed(volflow):
    result = volflow("pipelines", "--json")
    documents = {each["name"]: each for each in json.loads(result.stdout)}
    assert set(documents) == set(bundled("pipelines"))
    for name, document in documents.items():
        assert len(document["summary"]) > 20, name
        assert document["writes"], name
        assert document["steps"], name
    assert documents["segment"]["reads"] == ["affinity"]
    assert documents["segment"]["writes"] == ["fragments", "segmentation"]
    assert documents["synth"]["reads"] == []
    assert documents["fib25_and_score"]["reads"] == ["em", "truth"]
    assert documents["demo"]["steps"][0] == "synth"


def test_the_list_has_two_lines_for_each(volflow):
    lines = volflow("pipelines").stdout.splitlines()
    assert len(lines) == 2 * len(bundled("pipelines"))
    place = next(number for number, line in enumerate(lines) if line.startswith("segment  "))
    assert lines[place + 1] == "    reads affinity; writes fragments, segmentation"


def test_the_summary_is_the_first_sentence_of_the_head():
    assert summary("# One: two\n# three, 0.5 nm. Four.\n\nrun: x\n") == "One: two three, 0.5 nm."
    assert summary("# From a to b:\n#\n#     volflow run x\n") == "From a to b."
