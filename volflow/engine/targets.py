"""Creation of the volumes that a step writes, and removal of markers that are no longer valid."""

from __future__ import annotations

from collections.abc import Callable

from volflow.engine.job import PlannedStep, Target
from volflow.engine.phases.annotations import withdraw_annotations
from volflow.engine.phases.objects_by_id import withdraw_objects
from volflow.io.run.ledger import Ledger
from volflow.io.run.owners import layer_owner, require_free, require_owner, set_owner, taken_by
from volflow.io.run.records import is_record
from volflow.io.store import Store
from volflow.io.volume import Volume


def prepare(run: str, step: PlannedStep) -> None:
    """Create the volumes of a step, and delete markers that describe other bytes.

    The owner of a layer is the step and digest that wrote its voxels. If it is not this step with
    this digest, the step's markers are deleted first, then the owner is set, and only then is
    anything written. Markers are deleted before voxels, too: however the driver is killed, no
    marker describes missing voxels.

    Raises
    ------
    RunHeld
        If another run whose driver is alive owns one of the layers; nothing is changed then.
    """
    require_free_layers(run, step)
    ledger = Ledger(run)
    foreign = False
    complete = {}
    for target in step.targets:
        _, fresh = create(target, lambda: ledger.purge_step(step.name))
        owner = layer_owner(target.spec.path, target.scale)
        ours = not fresh and owner is not None and owner.digest == step.digest
        complete[target] = ours and owner is not None and owner.complete
        foreign |= not ours
    ledger.purge_step(step.name, keep_digest=None if foreign else step.digest)
    for target in step.targets:
        finished = complete[target] and not foreign
        set_owner(target.spec.path, step.digest, target.scale, run=run, complete=finished)
    Store(run).delete_prefix(f"records/{step.name}/", keep=f"{step.digest}/", only=is_record)


def require_free_layers(run: str, step: PlannedStep) -> None:
    """Check that no other run whose driver is alive owns a layer that a step writes.

    Raises
    ------
    RunHeld
        If one does.
    """
    for target in step.targets:
        require_free(target.spec.path, target.scale, run)


def set_complete(run: str, step: PlannedStep, complete: bool) -> None:
    """Record with each layer of a step whether all of its blocks are written.

    Objects by id and annotations are withdrawn until they are; the step's result brings them back.

    Raises
    ------
    RunHeld
        If another run has taken one of the layers.
    """
    for target in step.targets:
        require_owner(target.spec.path, step.digest, target.scale, run)
        set_owner(target.spec.path, step.digest, target.scale, run=run, complete=complete)
    if not complete:
        withdraw_objects(run, step)
        withdraw_annotations(run, step)


def taken_layers(run: str, step: PlannedStep) -> list[str]:
    """The layers of a step that hold other voxels by now, a sentence each."""
    reasons = (taken_by(t.spec.path, step.digest, t.scale, run) for t in step.targets)
    return [reason for reason in reasons if reason]


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
