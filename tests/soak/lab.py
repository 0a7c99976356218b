"""All that the cases of a soak have in common: inputs, undisturbed results, and clusters."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.io.servers import BUCKET, s3_server
from tests.soak.case import Case
from tests.soak.drivers import Nursery, environment, open_nursery
from tests.soak.executors import Scheduler, SlurmSite
from tests.soak.pipelines import RECIPES, Variant
from tests.soak.places import Place, count
from volflow.io import address


class Reference(NamedTuple):
    """An undisturbed run."""

    sums: dict[str, str]
    """A checksum of each file of the results."""
    top: set[str]
    """The names in the run's folder."""
    blocks: int
    """Blocks of all steps."""
    voxels: dict[str, str]
    """A checksum of the voxels of each layer that does not depend on the blocks."""


@dataclass
class Lab:
    """The inputs, clusters and undisturbed runs that all cases share."""

    folder: Path
    nursery: Nursery
    scheduler: Scheduler
    slurm: SlurmSite
    stack: contextlib.ExitStack

    def __post_init__(self) -> None:
        self.token = secrets.token_hex(4)
        self.endpoint = ""
        self._inputs: dict[str, str] = {}
        self._references: dict[tuple[str, str, Variant], Reference] = {}

    def address(self, store: str, folder: Path) -> str:
        """The address of the run of a case."""
        if store == "disk":
            return str(folder / "run")
        return f"s3://{BUCKET}/{folder.name}"

    def open_store(self) -> None:
        """Start an S3 server, and have this process and all drivers to come ask there."""
        if not self.endpoint:
            self.endpoint = self.stack.enter_context(s3_server())
            os.environ.update(self._store_environment())
            self.scheduler.more = self._store_environment()
            address.open_kvstore.cache_clear()

    def inputs(self, store: str) -> str:
        """The address of the volumes that pipelines read; written when they are first needed."""
        if store not in self._inputs:
            name = str(self.folder / "inputs") if store == "disk" else f"s3://{BUCKET}/inputs"
            command = [sys.executable, "-m", "tests.soak.pipelines", name]
            subprocess.run(command, env=environment(), check=True)
            self._inputs[store] = name
        return self._inputs[store]

    def cluster(self, executor: str, folder: Path) -> tuple[list[str], dict[str, str]]:
        """The options and environment variables of a driver for an executor."""
        variables = self._store_environment() if self.endpoint else {}
        if executor == "tcp":
            return ["--cluster", self.scheduler.ready()], variables
        if executor == "slurm":
            configuration = self.slurm.ready()
            variables["SLURM_CONF"] = configuration
            return ["--cluster", self.slurm.profile(folder)], variables
        return [
            "--cluster",
            executor,
            *(["--workers", "1"] if executor == "local" else []),
        ], variables

    def reference(self, store: str, pipeline: str, variant: Variant) -> Reference:
        """The result of an undisturbed run, which is run when it is first needed."""
        key = (store, pipeline, variant)
        if key not in self._references:
            self._references[key] = self._undisturbed(key)
        return self._references[key]

    def leftovers(self, executor: str) -> list[str]:
        """Remains of a case on a cluster that stays."""
        if executor == "tcp":
            return self.scheduler.leftovers()
        return self.slurm.leftovers() if executor == "slurm" else []

    def _undisturbed(self, key: tuple[str, str, Variant]) -> Reference:
        store, pipeline, variant = key
        kind = f"reference-{store}-{pipeline}-{variant.parameter}-{variant.block}"
        case = Case(self, 0, kind, "none", store, pipeline)
        case.end(case.start(variant))
        place = Place(case.run)
        layers = RECIPES[pipeline].layers
        voxels = {layer: place.voxels(layer) for layer in layers}
        results = {n: v for n, v in place.sums().items() if n.startswith("results/")}
        results.pop("results/total.json", None)  # the toy's sum counts the blocks, too
        voxels |= results
        top = {name.partition("/")[0] for name in place.names()}
        reference = Reference(place.sums(), top, count(place.marked()), voxels)
        if case.complaints or not reference.sums:
            raise RuntimeError(f"an undisturbed run failed: {case.complaints}; see {case.folder}")
        self._require_same_voxels(key, reference)
        return reference

    def _require_same_voxels(self, key: tuple[str, str, Variant], reference: Reference) -> None:
        """Blocks of another shape give the same voxels and results.

        Raises
        ------
        RuntimeError
            If they do not.
        """
        store, pipeline, variant = key
        for (place, name, other), before in self._references.items():
            same = (place, name, other.parameter) == (store, pipeline, variant.parameter)
            if same and before.voxels != reference.voxels:
                raise RuntimeError(f"{pipeline}: {variant} and {other} give different voxels")

    def _store_environment(self) -> dict[str, str]:
        keys: dict[str, Any] = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret"}
        return {**keys, "AWS_ENDPOINT_URL": self.endpoint}


@contextlib.contextmanager
def open_lab(folder: Path, stores: bool = True) -> Iterator[Lab]:
    """Start what all cases need; the clusters are started with the first case that uses them.

    Without `stores` no case may run on S3.
    """
    with contextlib.ExitStack() as stack:
        nursery = stack.enter_context(open_nursery(folder / "nursery.log"))
        (folder / "pool").mkdir()
        scheduler = Scheduler(folder / "pool", f"pool-{secrets.token_hex(4)}")
        stack.callback(scheduler.close)
        lab = Lab(folder, nursery, scheduler, SlurmSite(stack), stack)
        if stores:  # before any worker starts, which asks there by its environment
            lab.open_store()
        yield lab
