"""A store that fails while a finished volume is looked at costs none of its voxels."""

import numpy as np
import pytest

from tests.engine.runs import planned, toy
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.engine.driver import execute, prepare
from volflow.engine.worker.block_range import job_path
from volflow.errors import StorageError
from volflow.io.run.ledger import Ledger
from volflow.io.run.owners import owner, set_owner
from volflow.io.store import Store
from volflow.io.volume import Volume

BOUNDS = Box((0, 0, 0), (8, 8, 8))
LAYER = Layer("uint32", 0, "segmentation")
CASES = {"precomputed": (8, 8, 8), "zarr3": (8, 8, 8), "n5": None}  # and their shards


def disturbed(proxy, kind, ask):
    """Ask again and again, with another one of its requests disturbed each time."""
    plain, number = proxy.next_fault, 0
    while True:
        proxy.log.clear()

        def fault(method, path, at=number):
            proxy.kinds, proxy.faults = [kind], int(len(proxy.log) == at)
            return plain(method, path)

        proxy.next_fault = fault
        try:
            ask()
        except StorageError:
            pass
        finally:
            proxy.next_fault = plain
        if len(proxy.log) <= number:
            return
        number += 1
        yield number


@pytest.mark.parametrize("kind", ["403", "short with length"])
@pytest.mark.parametrize("format_", CASES)
def test_a_volume_is_not_made_again_because_its_store_fails(proxied, format_, kind):
    proxy, bucket = proxied
    spec = VolumeSpec(path=f"{format_}://{bucket}/kept/{kind[0]}{format_}", shard=CASES[format_])

    def create():
        return Volume.create(spec, LAYER, BOUNDS, (8, 8, 8), (4, 4, 4))

    volume, _ = create()
    voxels = np.arange(512, dtype="uint32").reshape(BOUNDS.shape) + 1
    volume.write(BOUNDS, voxels)
    set_owner(spec.path, "mine")
    count = 0
    for number in disturbed(proxy, kind, create):
        actual = Volume.open(spec, own=True)
        np.testing.assert_array_equal(actual.read(BOUNDS), voxels, strict=True)
        assert owner(spec.path) == "mine"
        count = number
    assert count >= 3
    assert not create()[1]


@pytest.mark.parametrize("format_", ["precomputed", "zarr3", "zarr", "n5"])
def test_markers_go_before_the_voxels_that_they_speak_of(tmp_path, monkeypatch, format_):
    volumes = {"index": {"path": f"{format_}://{tmp_path}/index"}}

    def plan(block):
        return planned(
            tmp_path / "run", toy("Index"), bounds="0:8,0:8,0:8", volumes=volumes, block=block
        )

    first, second = plan([8, 8, 8]), plan([4, 8, 8])
    assert execute(first).ok
    ledger, marks = Ledger(first.pipeline.run), job_path(first.steps[0].jobs[0])
    asked = []

    def refuse(store, key):
        asked.append(key)
        assert ledger.done(marks) == []
        raise StorageError("no")

    assert ledger.done(marks) == [(0, 1)]
    with monkeypatch.context() as patch:
        for name in ("delete", "delete_prefix"):
            plain = getattr(Store, name)

            def ask(store, key, plain=plain, **more):
                inside = "index" in store.location
                return refuse(store, key) if inside else plain(store, key, **more)

            patch.setattr(Store, name, ask)
        with pytest.raises(StorageError, match=r"^no$"):
            prepare(second.pipeline.run, second.steps[0])
    assert asked == ["volflow.owner.0.json"]
    assert execute(second).ok
