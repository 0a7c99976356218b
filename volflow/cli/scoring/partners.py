"""`volflow score --partners`: tables of synaptic partners, compared when the volumes are done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from volflow.config.pipeline import Pipeline
from volflow.core.geometry import Box
from volflow.errors import StorageError, VolflowError
from volflow.io.label_lookup import labels_at
from volflow.io.skeletons.placed_nodes import Resolution, voxels_of
from volflow.io.tables.partners import PartnerTable, read_partners
from volflow.io.volume import Volume
from volflow.metrics.detections.partners import (
    PARTNER_DISTANCE,
    Partners,
    match_partners,
    partner_errors,
    require_inside,
)

if TYPE_CHECKING:
    from volflow.engine.job import Plan

WORST = 100  # missed and spurious partners that are told, of each
OPTIONS = {"found": "--partners", "truth": "--true-partners"}
NOWHERE: Resolution = (1.0, 1.0, 1.0)  # without a volume a place is told in nanometres


@dataclass(frozen=True)
class PartnerTables:
    """What `volflow score` was given of partners: addresses, and nanometres."""

    found: str
    truth: str
    distance: float = PARTNER_DISTANCE


@dataclass(frozen=True)
class Pairing:
    """Two tables, read and checked, and what is needed to compare them.

    Attributes
    ----------
    found, truth : PartnerTable
    distance : float
        Nanometres.
    labels : Volume or None
        The truth's neurons.
    bounds : Box or None
        Pairs that are not wholly inside are left out; None where no volume is scored.
    resolution : 3 float
        Of the bounds, nanometres.
    """

    found: PartnerTable
    truth: PartnerTable
    distance: float
    labels: Volume | None
    bounds: Box | None
    resolution: Resolution

    def result(self) -> dict[str, Any]:
        """Rates of the found partners, what was matched by, and the errors with places in nm."""
        named = self.truth.neurons is not None or self.labels is not None
        (truth, line), (found, found_line) = self._partners(self.truth), self._partners(self.found)
        detection = match_partners(truth, found, self.distance)
        rates = detection.scores()
        errors = partner_errors(truth, found, detection, WORST)
        lines = {"false_negatives": line, "false_positives": found_line}
        return {
            **{name: value for name, value in rates.items() if name != "mean"},
            "mean_distance_nm": rates["mean"],
            "distance_nm": self.distance,
            "truth_partners": len(truth),
            "found_partners": len(found),
            "truth_outside": len(self.truth) - len(truth),
            "found_outside": len(self.found) - len(found),
            "neurons": named,
            "errors": {
                name: [{"line": int(lines[name][row.pop("row")]), **row} for row in rows]
                for name, rows in errors.items()
            },
        }

    def addresses(self) -> dict[str, str]:
        """Where what was compared is stored, by what it is."""
        told = {"partners": self.found.address, "true partners": self.truth.address}
        return told if self.labels is None else {**told, "truth": self.labels.address}

    def _partners(self, table: PartnerTable) -> tuple[Partners, np.ndarray]:
        """The pairs inside the bounds with their neurons, and their lines."""
        kept = np.ones(len(table), bool)
        voxels = [voxels_of(sites, self.resolution) for sites in (table.pre, table.post)]
        if self.bounds is not None:
            for voxel in voxels:
                kept &= ((voxel >= self.bounds.start) & (voxel < self.bounds.stop)).all(axis=1)
        pre, post = table.pre[kept], table.post[kept]
        if table.neurons is not None:
            neurons = table.neurons[kept]
        elif self.labels is not None:
            sites = np.concatenate([voxel[kept] for voxel in voxels])
            neurons = labels_at(self.labels, sites).reshape(2, -1).T
        else:
            return Partners(pre, post), table.line[kept]
        return Partners(pre, post, neurons[:, 0], neurons[:, 1]), table.line[kept]


def read_tables(
    asked: PartnerTables, has_truth: bool, problems: list[str]
) -> tuple[PartnerTable, PartnerTable] | None:
    """The found and the true table; None, and why, where they cannot be compared.

    Parameters
    ----------
    asked : PartnerTables
    has_truth : bool
        Whether there is a volume in which neurons can be looked up.
    mistakes : list of str
        Is added to.
    """
    tables: list[PartnerTable] = []
    for side, option in OPTIONS.items():
        try:
            tables.append(read_partners(getattr(asked, side)))
        except (StorageError, OSError) as error:
            problems.append(f"{option}: {error}")
    if len(tables) < len(OPTIONS):
        return None
    found, truth = tables
    if not len(truth):
        problems.append(f"--true-partners {asked.truth}: it holds no partners to be found")
    if (found.neurons is None) != (truth.neurons is None) and not has_truth:
        without = "--partners" if found.neurons is None else "--true-partners"
        problems.append(
            f"{without} tells no neurons and the other table does: give --truth, in which they are "
            f"looked up, or take the columns away"
        )
    return found, truth


def open_labels(pipeline: Pipeline, problems: list[str]) -> Volume | None:
    """The volume `truth` of a pipeline, if it has one and it can be opened and looked up in."""
    spec = pipeline.volumes.get("truth")
    if spec is None:
        return None
    try:
        volume = Volume.open(spec)
    except (VolflowError, ValueError, OSError) as error:
        problems.append(f"--truth {spec.path}: cannot be opened: {error}")
        return None
    if volume.channels or volume.dtype.kind not in "ui":
        problems.append(
            f"--truth {spec.path}: expected labels; got {volume.dtype} with {volume.channels} "
            f"channels"
        )
        return None
    return volume


def misplaced(table: PartnerTable, option: str, bounds: Box, resolution: Resolution) -> str:
    """What is wrong with where a table's sites lie; empty if at least half are in the bounds."""
    sites = np.concatenate([table.pre, table.post])
    voxel = voxels_of(sites, resolution)
    inside = ((voxel >= bounds.start) & (voxel < bounds.stop)).all(axis=1)
    if not len(sites) or inside.mean() >= 0.5:
        return ""
    sides = np.array(resolution)
    start, stop = (np.array(bounds.start) - 0.5) * sides, (np.array(bounds.stop) - 0.5) * sides
    try:
        require_inside(f"{option} {table.address}", sites, start, stop)
    except ValueError as error:
        return f"{error}; unit_nm of the address says what the numbers mean"
    return ""


def make_pairing(
    asked: PartnerTables,
    volumes: Mapping[str, str],
    pipeline: Pipeline | None,
    plan: Plan | None,
    problems: list[str],
) -> Pairing | None:
    """Tables read and checked against the volumes; None, and why, where they cannot be compared.

    Parameters
    ----------
    asked : PartnerTables
    volumes : mapping of str to str
        Addresses as they were given.
    pipeline : Pipeline or None
        That says how volumes are read; None where it could not be made.
    plan : Plan or None
        None where only tables are compared, or where it could not be made.
    mistakes : list of str
        Is added to.
    """
    tables = read_tables(asked, "truth" in volumes, problems)
    if tables is None or pipeline is None or problems:
        return None
    labels = open_labels(pipeline, problems)
    bounds, resolution = None, NOWHERE
    if plan is not None:
        bounds, resolution = plan.bounds, plan.resolution
    elif labels is not None:
        bounds = Box.parse(pipeline.bounds) if pipeline.bounds else labels.bounds
        known = pipeline.resolution or labels.resolution
        if known is None:
            problems.append(
                f"--truth {labels.address} does not say how large its voxels are: give "
                f"--set volumes.truth.resolution=[z,y,x], in nm"
            )
            return None
        resolution = known
    if bounds is not None:
        whole = bounds if labels is None else labels.bounds
        placed = zip(OPTIONS.values(), tables, strict=True)
        told = [misplaced(table, option, whole, resolution) for option, table in placed]
        problems += filter(None, told)
    return None if problems else Pairing(*tables, asked.distance, labels, bounds, resolution)
