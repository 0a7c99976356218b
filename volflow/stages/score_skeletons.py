"""The `score_skeletons` stage: expected run lengths of a segmentation along traced skeletons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, Triple, zyx
from volflow.core.stage import Layer, PreviousRound, Record, Reduction, Up
from volflow.metrics.limits import Limited
from volflow.metrics.skeletons.berl import Charge, Veto
from volflow.metrics.skeletons.node_tables import (
    NodeTable,
    find_nuclei,
    join_tables,
    lattice_voxels,
    mito_node_numbers,
    nuclei_sums,
    sampled_voxels,
    voxel_centres_nm,
)
from volflow.metrics.skeletons.nodes_at_synapses import GAP_NM, Fit, synapse_nodes
from volflow.metrics.skeletons.run_length import MergeRule
from volflow.metrics.skeletons.scores import TAU_NM, SkeletonOptions, skeleton_scores

SCORES = ("erl", "terl", "berl", "nerl", "nerl_norm")
METRICS = (
    *SCORES, *(f"{name}_ratio" for name in SCORES), "splits", "merges", "merges_classic",
    "omitted_edges", "omitted_length_nm", "background_nodes", "outside_nodes",
)  # fmt: skip
NO_RADII = "the skeletons have no radii"

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class ScoreSkeletons(Limited, Reduction):
    """ERL, tERL, bERL and nERL of `segmentation` along `skeletons`, with splits and mergers.

    bERL needs `mito` and `clefts`, nERL needs `nuclei`. Each block reads the labels at its own
    nodes; the result does not depend on the blocks. Nodes outside the bounds or the mask count as
    background.

    Inputs
    ------
    segmentation : integers, (Z, Y, X)
        The segmentation to evaluate; 0 is background.
    skeletons : skeletons
        Traced skeletons of neurites.
    mito : integers, (Z, Y, X), optional
        Mitochondria; 0 is background.
    clefts : integers, (Z, Y, X), optional
        Synaptic clefts, a label each; 0 is background.
    nuclei : integers, (Z, Y, X), optional
        Nuclei, a label each; 0 is background.

    Outputs
    -------
    result : JSON
        The scores, and the worst splits and mergers with their positions.

    References
    ----------
    See `docs/metrics-skeletons.md`.
    """

    metrics: ClassVar[tuple[str, ...]] = METRICS
    on_all_sections: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {
        "segmentation": Layer(kind="segmentation", channels=0),
        "skeletons": Layer(kind="skeletons"),
        "mito": Layer(kind="segmentation", channels=0),
        "clefts": Layer(kind="segmentation", channels=0),
        "nuclei": Layer(kind="segmentation", channels=0),
    }

    rule: MergeRule = "length"
    """When a segment shared by several skeletons counts as a merger (in plain ERL it always does).
    length: the runs of all skeletons but the longest exceed `tau` nm; nodes: the second largest
    number of nodes is at least `tau`; pairs: there are more than `tau` pairs of nodes."""
    tau: NotNegative = TAU_NM
    """Tolerance of the rule: nanometres, nodes or pairs, by `rule`."""
    epsilon: NotNegative | None = None
    """Cost in nanometres of a split at a mitochondrion (bERL); default: twice the median edge."""
    charge: Charge = "literal"
    """The segment that is charged for a split at a mitochondrion: the one with the mitochondrion's
    node (literal), or both."""
    veto: Veto = "minority"
    """The nodes at synapses that turn a tolerated merger into an error: those of all skeletons but
    the one with the longest run (minority), or any."""
    fit: Fit = "geometric"
    """Criterion for a node at a synapse, by its distance to the disk of a cleft; literal: the
    formula as printed in the paper."""
    gap_nm: NotNegative = GAP_NM
    """Distance in nanometres from the centre of a cleft into the neurite; not used by `literal`."""
    d0: Positive | None = None
    """Unit of distance in nERL in nanometres; default: the radius of each nucleus."""
    mito_spacing_nm: NotNegative = 40.0
    """Spacing in nanometres of the lattice on which voxels of mitochondria are sampled; 0: all."""
    cleft_thinning: Annotated[int, Field(ge=1)] = 1
    """One in this many voxels of clefts is used, chosen by a hash of its position; 1: all."""
    worst: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Number, up to 10,000, of the worst splits and mergers to report with their positions."""

    def memory(self, shape: Triple) -> int:
        return 64 * int(np.prod(shape))

    def node_memory(self, shape: Triple) -> int:
        # The engine counts the nodes; clefts, if they are read, are a few voxels in a thousand.
        return (64 << 20) + int(np.prod(shape)) // (1024 * self.cleft_thinning)

    def leaf(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        round_name: str,
        previous: PreviousRound | None,
        *,
        segmentation: np.ndarray,
        skeletons: Record,
        mito: np.ndarray | None = None,
        clefts: np.ndarray | None = None,
        nuclei: np.ndarray | None = None,
    ) -> Up:
        own = skeletons["own"]
        voxels = tuple(skeletons["voxel"][own].T)
        inside = ~skeletons["outside"][own]
        columns: Record = {
            "node": skeletons["node"][own],
            "skeleton": skeletons["skeleton"][own],
            "parent": skeletons["parent"][own],
            "position": skeletons["position"][own],
            "radius": skeletons["radius"][own],
            "label": np.where(inside, segmentation[voxels], 0).astype("uint64"),
            "outside": np.array([np.count_nonzero(~inside)], "int64"),
            "resolution": skeletons["resolution"],
        }
        resolution = _nm(skeletons)
        if mito is not None:
            stride = zyx([max(1, int(self.mito_spacing_nm // side)) for side in resolution])
            points = voxel_centres_nm(lattice_voxels(mito, block.write, stride), resolution)
            columns["mito_node"] = mito_node_numbers(skeletons, points)
        if clefts is not None:
            voxel, cleft = sampled_voxels(clefts, block.write, self.cleft_thinning)
            columns |= {"cleft_voxel": voxel, "cleft": cleft}
        if nuclei is not None:
            columns["node_nucleus"] = np.where(inside, nuclei[voxels], 0).astype("uint64")
            columns |= nuclei_sums(nuclei, block.write)
        return Up(columns, {})

    def join(self, block: Block, round_name: str, children: Sequence[Record]) -> Up:
        return Up(join_tables(children), {})

    def result(self, roots: Sequence[Record]) -> dict[str, Any]:
        table = NodeTable.of(join_tables(roots))
        record, forest = table.record, table.forest
        resolution = _nm(record)
        mito = synapse = None
        radii = bool((forest.radius > 0).any())
        if radii and "mito_node" in record:
            mito = np.zeros(len(forest), bool)
            mito[record["mito_node"]] = True
        if radii and "cleft" in record:
            points = voxel_centres_nm(record["cleft_voxel"], resolution)
            synapse = synapse_nodes(
                forest, points, record["cleft"], fit=self.fit, gap_nm=self.gap_nm
            )
        nuclei = find_nuclei(table, resolution) if "nucleus" in record else None
        options = SkeletonOptions(
            rule=self.rule,
            tau=self.tau,
            epsilon=self.epsilon,
            charge=self.charge,
            veto=self.veto,
            d0=self.d0,
            worst=self.worst,
        )
        scores = skeleton_scores(
            forest, table.label, options, mito=mito, synapse=synapse, nuclei=nuclei
        )
        if not radii and {"mito_node", "cleft"} & record.keys():
            scores["not_computed"]["berl"] = NO_RADII
        return scores | {"outside_nodes": int(record["outside"].sum())}


def _nm(record: Record) -> tuple[float, float, float]:
    """The voxel size z, y, x in nm, as recorded with the nodes."""
    z, y, x = record["resolution"].tolist()
    return z, y, x
