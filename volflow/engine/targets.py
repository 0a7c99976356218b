"""Creation of the volumes that a step writes, and removal of markers that are no longer valid."""

from __future__ import annotations

from collections.abc import Callable

from volflow.engine.job import PlannedStep, Target
from volflow.io.run.ledger import Ledger, owner, set_owner
from volflow.io.store import Store
from volflow.io.volume import Volume


def prepare(run: str, step: PlannedStep) -> None:
    """Create the volumes of a step, and delete markers that describe other bytes.

    The owner of a layer is the step and digest that wrote its voxels. If it is not this step with
    this digest, the step's markers are deleted first, then the owner is set, and only then is
    anything written. Markers are deleted before voxels, too: however the driver is killed, no
    marker describes missing voxels.
    """
    ledger = Ledger(run)
    foreign = False
    for target in step.targets:
        _, fresh = create(target, lambda: ledger.purge_step(step.name))
        foreign |= fresh or owner(target.spec.path, target.scale) != step.digest
    ledger.purge_step(step.name, keep_digest=None if foreign else step.digest)
    for target in step.targets:
        set_owner(target.spec.path, step.digest, target.scale)
    Store(run).delete_prefix(f"records/{step.name}/", keep=f"{step.digest}/")


def create(target: Target, forget: Callable[[], None]) -> tuple[Volume, bool]:
    """Open or create the volume of a target; returns it and whether its voxels are new."""
    return Volume.create(
        target.spec,
        target.layer,
        target.bounds,
        target.resolution,
        target.chunk,
        scale=target.scale,
        before_deletion=forget,
    )
