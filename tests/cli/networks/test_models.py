"""`volflow models`: the cards of networks, and of those whose header is incomplete."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.networks import checkpoint
from volflow.checkpoints.find import bundled_networks, bundled_section_networks, find_network
from volflow.checkpoints.model_card import parse_card
from volflow.checkpoints.section_header import SectionHeader

CARD = """# small

| | |
|---|---|
| data | one volume |
| licence of the data | CC BY-NC 4.0 (the consortium); see its page |
| licence of the weights | MIT |
| validation | VI 0.5 bits; on a good day |

| another | table |
|---|---|
| licence | none |
"""


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched in place of the shipped weights, with one network."""
    monkeypatch.setattr("volflow.checkpoints.find.WEIGHTS", tmp_path)
    checkpoint(tmp_path / "small.safetensors")
    return tmp_path


NAMES = [*sorted(bundled_networks()), *sorted(bundled_section_networks())]


def test_every_bundled_network_has_a_card_with_a_licence_and_a_score(volflow):
    actual = json.loads(volflow("models", "--json").stdout)
    assert [one["name"] for one in actual] == NAMES
    for one in actual:
        assert one["licence"], one["name"]
        assert one["score"], one["name"]
        assert one["header"]["weights_sha256"]
        assert one["card"].startswith(f"# {one['name']}")
        channels = one["header"].get("out_channels", 1)  # of sections: masks or boxes of an object
        assert sum(one["heads"].values()) == channels


def test_the_table_has_a_line_for_each(volflow):
    head, *lines = volflow("models").stdout.splitlines()
    assert head.split("  ")[0] == "network"
    assert [line.split()[0] for line in lines] == NAMES
    (reported,) = [line for line in lines if line.startswith("fib25-lsd ")]
    assert " affinity, lsd  " in reported
    assert "  10 x 10 x 10 " in reported


def test_a_name_or_a_path_tells_the_card_and_the_header(volflow):
    path = bundled_networks()["fib25-lsd"]
    text = volflow("models", "fib25-lsd").stdout
    assert path.with_suffix(".md").read_text().strip() in text
    assert "total_stride: [8, 8, 8]" in text
    assert volflow("models", path).stdout == text


@pytest.mark.parametrize("network", ["iicats", "quasidense"])
def test_networks_of_sections_are_listed_and_refused_by_predict(volflow, weights, network):
    folder = weights / "sections"
    folder.mkdir()
    header = SectionHeader(network=network, voxel_size_nm=(30, 10, 10), weights_sha256="0" * 64)
    tensors = {"a": np.zeros(3, np.float32)}
    path = folder / "walker.safetensors"
    save_file(tensors, path, {"volflow.sections": header.model_dump_json()})
    path.with_suffix(".md").write_text(CARD.replace("small", "walker"))
    lines = volflow("models").stdout.splitlines()
    kind = {"iicats": "next mask", "quasidense": "boxes"}[network]
    assert any(line.startswith("walker") and kind in line for line in lines), lines
    by_name = volflow("models", "walker").stdout
    assert "VI 0.5 bits" in by_name
    assert volflow("models", path).stdout == by_name
    with pytest.raises(ValueError, match="it is for the stage track, as follower or detector"):
        find_network("walker", None, None)


def test_it_reads_without_torch():
    code = (
        "import sys\n"
        "from volflow.cli import main\n"
        "main(['models'], standalone_mode=False)\n"
        "main(['models', 'fib25-lsd', '--json'], standalone_mode=False)\n"
        "assert not {'torch', 'dask', 'numba'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_a_checkpoint_without_a_card_says_so(volflow, weights):
    assert volflow("models").stdout.count("no card") == 2
    reported = volflow("models", weights / "small.safetensors").stdout
    assert "small has no card: its data, licence and score are unknown" in reported
    (actual,) = json.loads(volflow("models", "--json").stdout)
    assert (actual["card"], actual["non_commercial"], actual["licence"]) == (None, None, "")


def test_a_non_commercial_licence_is_marked(volflow, weights):
    (weights / "small.md").write_text(CARD)
    assert "NON-COMMERCIAL: CC BY-NC 4.0  VI 0.5 bits\n" in volflow("models").stdout
    assert volflow("models", "small").stdout.startswith("not for commercial use")
    assert json.loads(volflow("models", "small", "--json").stdout)["non_commercial"] is True


@pytest.mark.parametrize(
    ("licence", "forbidden"),
    [
        ("CC BY-NC-SA 4.0", True),
        ("free for non-commercial use", True),
        ("Noncommercial research only", True),
        ("CC BY 4.0", False),
        ("MIT, as volflow; sync with the NCMIR page", False),
        ("", None),
    ],
)
def test_which_licences_are_non_commercial(licence: str, forbidden: bool | None):
    assert parse_card(f"| | |\n|---|---|\n| licence | {licence} |\n").non_commercial is forbidden


def test_only_the_first_table_counts():
    assert set(parse_card(CARD).rows) == {
        "data", "licence of the data", "licence of the weights", "validation"
    }  # fmt: skip


def test_the_header_names_the_card(volflow, weights):
    checkpoint(weights / "small.safetensors", card="other.md")
    (weights / "other.md").write_text(CARD)
    assert volflow("models", "small").stdout.startswith("not for commercial use")


def test_an_unknown_name_ends_with_2(volflow):
    result = volflow("models", "fib25-ls")
    assert result.exit_code == 2
    assert "there is no network 'fib25-ls'; did you mean 'fib25-lsd'?" in result.stderr


def test_a_damaged_checkpoint_is_reported_and_hides_no_other(volflow, weights):
    whole = (weights / "small.safetensors").read_bytes()
    (weights / "bad.safetensors").write_bytes(whole[:-1])
    result = volflow("models")
    assert result.exit_code == 4
    assert "small" in result.stdout
    assert "bad.safetensors: " in result.stderr
    assert "cut off" in result.stderr
