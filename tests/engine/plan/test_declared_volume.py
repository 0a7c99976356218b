"""A plan that touches nothing: for volumes that are far away, or not there yet."""

from __future__ import annotations

import numpy as np
import pytest

from volflow.engine.api import make_plan
from volflow.errors import PlanError, StorageError


@pytest.fixture
def no_store(monkeypatch):
    """Opening a store or a volume is an error."""

    def touched(*arguments, **named):
        raise StorageError("a store was touched")

    for place in ("volflow.io.store.open_kvstore", "volflow.io.volume.Volume.open"):
        monkeypatch.setattr(place, touched)
    monkeypatch.setattr("volflow.io.volume.Volume.refusal", touched)


def test_a_petavoxel_is_planned_without_touching_a_store(no_store):
    plan = make_plan("petascale", offline=True)
    assert 1e15 <= plan.bounds.size < 1.1e15
    assert plan.resolution == (40, 8, 8)
    names = [step.name for step in plan.steps]
    assert names == ["intensity", "predict", "fragments", "agglomerate", "relabel", "pyramid"]
    blocks = np.prod([-(-n // b) for n, b in zip(plan.bounds.shape, (128, 512, 512), strict=True)])
    assert plan.step("predict").blocks == blocks
    assert plan.step("predict").bytes_out == 3 * plan.bounds.size
    assert plan.step("agglomerate").blocks > blocks
    assert plan.step("predict").pool == "gpu"


def test_what_is_known_online_is_known_offline(folder):
    steps = [{"use": "fragments"}, {"use": "agglomerate", "with": {"threshold": 0.3}}]
    volumes = {"affinity": {"path": "affinity.zarr"}}
    document = {"run": "out", "block": [32, 32, 32], "volumes": volumes, "steps": steps}
    online = make_plan(document)
    declared = {**document, "bounds": str(online.bounds), "resolution": list(online.resolution)}
    offline = make_plan(declared, offline=True)
    for one, other in zip(online.steps, offline.steps, strict=True):
        assert one.blocks == other.blocks
        assert one.memory == other.memory
        assert one.bytes_out == other.bytes_out
        assert [t.layer for t in one.targets] == [t.layer for t in other.targets]


def test_offline_the_bounds_have_to_be_declared(no_store):
    document = {
        "run": "out",
        "volumes": {"affinity": {"path": "s3://far/away"}},
        "steps": [{"use": "fragments"}],
    }
    with pytest.raises(PlanError, match="give bounds: z0:z1") as reported:
        make_plan(document, offline=True)
    assert len(reported.value.problems) == 1 + any(
        "resolution" in m for m in reported.value.problems
    )
