"""`volflow score --partners`: two tables of synaptic partners, compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from volflow.config.pipeline import Pipeline
from volflow.core.geometry import Box, Resolution
from volflow.errors import StorageError, VolflowError
from volflow.io.address import Address
from volflow.io.inputs import open_input
from volflow.io.label_lookup import labels_at
from volflow.io.skeletons.placed_nodes import voxels_of
from volflow.io.skeletons.units import FEWEST, SHORT
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

WORST = 100  # missed and spurious partners that are listed, of each
PREDICTED, TRUE = "--partners", "--true-partners"
NANOMETRES: Resolution = (1.0, 1.0, 1.0)  # without a volume a voxel is a nanometre


@dataclass(frozen=True)
class PartnerTables:
    """Addresses of the predicted and the true table, and the largest distance of a match in nm."""

    predicted: str
    truth: str
    distance: float = PARTNER_DISTANCE


@dataclass(frozen=True)
class Pairing:
    """Two tables, read and checked, with the volumes that are needed to compare them.

    Attributes
    ----------
    predicted, truth : PartnerTable
    distance : float
        Largest distance of a match, in nanometres.
    labels : Volume or None
        The true neurons.
    bounds : Box or None
        Pairs that are not wholly inside are left out; None where no volume is scored.
    resolution : 3 float
        Nanometres per voxel of the bounds, z y x.
    """

    predicted: PartnerTable
    truth: PartnerTable
    distance: float
    labels: Volume | None
    bounds: Box | None
    resolution: Resolution

    def result(self) -> dict[str, Any]:
        """Rates of the predicted partners, the options, and the errors with places in nm."""
        truth, true_lines = self._partners(self.truth)
        predicted, predicted_lines = self._partners(self.predicted)
        detection = match_partners(truth, predicted, self.distance)
        rates = detection.scores()
        errors = partner_errors(truth, predicted, detection, WORST)
        lines = {"false_negatives": true_lines, "false_positives": predicted_lines}
        return {
            **{name: value for name, value in rates.items() if name != "mean"},
            "mean_distance_nm": rates["mean"],
            "distance_nm": self.distance,
            "truth_partners": len(truth),
            "found_partners": len(predicted),
            "truth_outside": len(self.truth) - len(truth),
            "found_outside": len(self.predicted) - len(predicted),
            "neurons": self.truth.neurons is not None or self.labels is not None,
            "errors": {
                name: [{"line": int(lines[name][row.pop("row")]), **row} for row in rows]
                for name, rows in errors.items()
            },
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on tables that may be cut short."""
        return (*self.predicted.warnings, *self.truth.warnings)

    def addresses(self) -> dict[str, str]:
        """Addresses of the compared tables, and of the true neurons, by their names in a report."""
        tables = {"partners": self.predicted.address, "true partners": self.truth.address}
        return tables if self.labels is None else {**tables, "truth": self.labels.address}

    def _partners(self, table: PartnerTable) -> tuple[Partners, np.ndarray]:
        """The pairs inside the bounds with their neurons, and their lines in the file."""
        inside = np.ones(len(table), bool)
        voxels = [voxels_of(sites, self.resolution) for sites in (table.pre, table.post)]
        if self.bounds is not None:
            for voxel in voxels:
                inside &= ((voxel >= self.bounds.start) & (voxel < self.bounds.stop)).all(axis=1)
        pre, post = table.pre[inside], table.post[inside]
        if table.neurons is not None:
            neurons = table.neurons[inside]
        elif self.labels is not None:
            sites = np.concatenate([voxel[inside] for voxel in voxels])
            neurons = labels_at(self.labels, sites).reshape(2, -1).T
        else:
            return Partners(pre, post), table.line[inside]
        return Partners(pre, post, neurons[:, 0], neurons[:, 1]), table.line[inside]


def make_pairing(
    tables: PartnerTables,
    volumes: Mapping[str, str],
    pipeline: Pipeline | None,
    plan: Plan | None,
    problems: list[str],
) -> Pairing | None:
    """Tables read and checked against the volumes; None, with problems, if they do not compare.

    Parameters
    ----------
    tables : PartnerTables
    volumes : mapping of str to str
        Addresses as given on the command line.
    pipeline : Pipeline or None
        Declares how volumes are read; None where it could not be made.
    plan : Plan or None
        None where only tables are compared, or where it could not be made.
    problems : list of str
        Problems known so far; extended.
    """
    pair = _read_tables(tables, "truth" in volumes, problems)
    if pair is None or pipeline is None or problems:
        return None
    labels = _open_truth(pipeline, problems)
    bounds, resolution = None, NANOMETRES
    if plan is not None:
        bounds, resolution = plan.bounds, plan.resolution
    elif labels is not None:
        bounds = Box.parse(pipeline.bounds) if pipeline.bounds else labels.bounds
        known = pipeline.resolution or labels.resolution
        if known is None:
            problems.append(
                f"--truth {labels.address}: unknown voxel size; give "
                f"--set volumes.truth.resolution=[z,y,x], in nm"
            )
            return None
        resolution = known
    if bounds is not None:
        whole = bounds if labels is None else labels.bounds
        for option, table in zip((PREDICTED, TRUE), pair, strict=True):
            problem = _misplacement(table, option, whole, resolution)
            problems += [problem] if problem else []
    return None if problems else Pairing(*pair, tables.distance, labels, bounds, resolution)


def _read_tables(
    tables: PartnerTables, has_truth: bool, problems: list[str]
) -> tuple[PartnerTable, PartnerTable] | None:
    """The predicted and the true table; None, with problems, if one cannot be read.

    `has_truth` is whether there is a volume in which neurons can be looked up.
    """
    pair: list[PartnerTable] = []
    for option, address in ((PREDICTED, tables.predicted), (TRUE, tables.truth)):
        try:
            pair.append(read_partners(address))
        except (StorageError, OSError) as error:
            problems.append(f"{option}: {error}")
    if len(pair) < 2:
        return None
    predicted, truth = pair
    if not len(truth):
        problems.append(f"{TRUE} {tables.truth}: the table is empty; expected partners")
    if (predicted.neurons is None) != (truth.neurons is None) and not has_truth:
        without = PREDICTED if predicted.neurons is None else TRUE
        problems.append(
            f"{without} has no columns of neurons and the other table has: give --truth, in which "
            f"they are looked up, or remove the columns"
        )
    return predicted, truth


def _open_truth(pipeline: Pipeline, problems: list[str]) -> Volume | None:
    """The labels `truth` of a pipeline; None if there are none, or with a problem."""
    spec = pipeline.volumes.get("truth")
    if spec is None:
        return None
    try:
        volume = open_input(spec)
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


def _suspicion(table: PartnerTable, voxel: np.ndarray, resolution: Resolution) -> str:
    """The reason for which the unit of a table is probably wrong; "" if there is none."""
    if "unit_nm" in dict(Address.parse(table.address).query) or len(table) < FEWEST:
        return ""
    advice = "state the unit of the positions with ?unit_nm= (1: nanometres)"
    if not (voxel != voxel[0]).any():
        return f"all {len(voxel)} sites are in one voxel; {advice}"
    length = float(np.median(np.sqrt(((table.pre - table.post) ** 2).sum(axis=1))))
    if 0 < length < SHORT * min(resolution):
        return f"the median distance of partners is {length:.3g} nm, far below a voxel; {advice}"
    return ""


def _misplacement(table: PartnerTable, option: str, bounds: Box, resolution: Resolution) -> str:
    """The problem of a table with fewer than half of its sites in the bounds; empty otherwise."""
    sites = np.concatenate([table.pre, table.post])
    voxel = voxels_of(sites, resolution)
    inside = ((voxel >= bounds.start) & (voxel < bounds.stop)).all(axis=1)
    if not len(sites):
        return ""
    if inside.mean() >= 0.5:
        text = _suspicion(table, voxel, resolution)
        return f"{option} {table.address}: {text}" if text else ""
    sides = np.array(resolution)
    start, stop = (np.array(bounds.start) - 0.5) * sides, (np.array(bounds.stop) - 0.5) * sides
    try:
        require_inside(f"{option} {table.address}", sites, start, stop)
    except ValueError as error:
        return f"{error}; `unit_nm` of the address sets the unit of its numbers"
    return ""
