"""Exceptions of libraries while they read a file, as errors of volflow that name it."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from volflow.config.pipeline import VolumeSpec
from volflow.errors import PlanError, RunHeld, StorageError
from volflow.io.reading import reading
from volflow.io.volume import Volume


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("scales"), "volume /lab/em.n5: cannot be read: no entry 'scales'"),
        (TypeError("no len"), "volume /lab/em.n5: cannot be read: TypeError: no len"),
        (OSError("gone\n away"), "volume /lab/em.n5: cannot be read: gone away"),
        (ValueError(), "volume /lab/em.n5: cannot be read: ValueError"),
        (StorageError("a chunk is missing"), "volume /lab/em.n5: a chunk is missing"),
        (StorageError("volume ../em.n5: no scale 2"), "volume ../em.n5: no scale 2"),
    ],
)
def test_every_exception_names_the_file(error, message):
    with (
        pytest.raises(StorageError) as raised,
        reading("/lab/em.n5?x=1".partition("?")[0], "volume"),
    ):
        raise error
    assert str(raised.value) == message


def test_a_lack_of_memory_is_explained():
    with (
        pytest.raises(StorageError, match=r"a\.tif: .* need more memory than there is"),
        reading("a.tif"),
    ):
        np.empty((1 << 60,), np.uint8)


@pytest.mark.parametrize("error", [PlanError("steps: none"), RunHeld("run a is held")])
def test_other_errors_of_volflow_pass(error):
    with pytest.raises(type(error)) as raised, reading("/lab/em.n5"):
        raise error
    assert raised.value is error


def test_a_library_that_raises_anything_is_no_traceback(tmp_path, monkeypatch):
    path = tmp_path / "em.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = np.zeros((2, 3, 4), np.uint8)

    def visititems(*_):
        raise SystemError("b-tree")  # of no kind that anybody expects

    monkeypatch.setattr(h5py.Group, "visititems", visititems)
    with pytest.raises(StorageError, match=r"em\.h5: cannot be read: SystemError: b-tree"):
        Volume.open(VolumeSpec(path=str(path)))
