"""`convert` of skeletons: SWC into precomputed and back, the same nodes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from volflow.cli import main
from volflow.core.skeleton import Skeleton
from volflow.io.skeletons import SkeletonSet, write_skeletons

NAMES = (3, 1 << 60, (1 << 64) - 1)


def skeleton(name: int) -> Skeleton:
    random = np.random.default_rng(name % 1000)
    position = random.integers(0, 1 << 16, (20, 3)) / 4
    return Skeleton(name, position, np.arange(-1, 19), random.integers(1, 99, 20) / 2)


@pytest.fixture
def stored(tmp_path: Path) -> str:
    address = f"precomputed-skeletons://{tmp_path}/stored"
    write_skeletons(address, map(skeleton, NAMES), shard=True)
    return address


def converted(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["convert", *arguments])
    return result.exit_code, result.output


def test_precomputed_skeletons_become_swc_files_and_come_back(tmp_path: Path, stored: str) -> None:
    assert converted(stored, f"swc://{tmp_path}/swc") == (
        0,
        f"wrote 3 skeletons to swc://{tmp_path}/swc\n",
    )
    files = sorted(path.name for path in (tmp_path / "swc").iterdir())
    assert files == sorted(f"{name}.swc" for name in NAMES)
    back = f"precomputed-skeletons://{tmp_path}/back"
    assert converted(f"swc://{tmp_path}/swc?unit_nm=1", back)[0] == 0
    for address in (f"swc://{tmp_path}/swc?unit_nm=1", back):
        actual = SkeletonSet.open(address)
        assert list(actual.titles) == list(NAMES)
        for name in NAMES:
            one, expected = actual.read(name), skeleton(name)
            np.testing.assert_array_equal(one.position, expected.position)
            np.testing.assert_array_equal(one.radius, expected.radius)
            np.testing.assert_array_equal(one.parent, expected.parent)


def test_chosen_skeletons_alone(tmp_path: Path, stored: str) -> None:
    assert converted(f"{stored}?ids=3", f"swc://{tmp_path}/one.swc")[0] == 0
    assert len(SkeletonSet.open(f"swc://{tmp_path}/one.swc").titles) == 1


@pytest.mark.parametrize(
    ("source", "destination", "options", "reported"),
    [
        ("{stored}?ids=3,4", "swc://{folder}/out", [], "no skeleton 4"),
        ("{stored}", "swc://{folder}/stored", [], "stored exists; choose another path"),
        ("{folder}/nowhere", "swc://{folder}/out", [], "SRC: skeletons .*: no skeletons there"),
        ("{stored}", "swc://{folder}/out", ["--dtype", "uint8"], "--dtype applies to volumes"),
        ("{stored}", "swc://{folder}/one.swc", [], "expected one skeleton for one file; got 3"),
    ],
)
def test_bad_requests_are_reported(
    tmp_path: Path, stored: str, source: str, destination: str, options: list[str], reported: str
) -> None:
    names = {"stored": stored, "folder": tmp_path}
    code, text = converted(source.format(**names), destination.format(**names), *options)
    assert code == 2
    assert re.search(reported, " ".join(text.split()))
    assert not (tmp_path / "out").exists()


def test_a_target_that_cannot_be_written_is_reported(tmp_path: Path, stored: str) -> None:
    (tmp_path / "file").write_text("in the way")
    code, text = converted(stored, f"swc://{tmp_path}/file/out")
    assert code == 4  # the storage
    assert "file" in text
