"""The `score_skeletons` stage: how far along traced neurites a segmentation is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, Triple, zyx
from volflow.core.stage import Layer, NodeOutput, PreviousRound, Record, Reduction
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
    """ERL, tERL, bERL and nERL of `segmentation` along `skeletons`, splits and mergers with places.

    With `mito` (labels, any but 0 is a mitochondrion) and `clefts` (a label to each) there is
    bERL, with `nuclei` (a label to each) nERL. Each block reads the labels under its own nodes,
    all at once; the result is the same whatever the blocks. A node outside the bounds or the mask
    is on background.
    """

    metrics: ClassVar[tuple[str, ...]] = METRICS
    wants: ClassVar[dict[str, Layer]] = {
        "segmentation": Layer(kind="segmentation", channels=0),
        "skeletons": Layer(kind="skeletons"),
        "mito": Layer(kind="segmentation", channels=0),
        "clefts": Layer(kind="segmentation", channels=0),
        "nuclei": Layer(kind="segmentation", channels=0),
    }

    rule: MergeRule = "length"
    """When a segment shared by several skeletons is a merger, but in plain ERL: `length`: all but
    the longest run more than tau nm in it; `nodes`: the second most has tau nodes in it; `pairs`:
    more than tau pairs of nodes."""
    tau: NotNegative = TAU_NM
    """What the rule tolerates: nanometres, nodes or pairs."""
    epsilon: NotNegative | None = None
    """Nanometres that a split at a mitochondrion costs; default: twice the median edge."""
    charge: Charge = "literal"
    """Who pays for it: the segment that holds the mitochondrion's node (literal), or both."""
    veto: Veto = "minority"
    """Whose nodes at a synapse make a tolerated merger count: all but the longest run's, or any."""
    fit: Fit = "geometric"
    """How near to the disk of a cleft a node at a synapse is; `literal`: as the paper prints it."""
    gap_nm: NotNegative = GAP_NM
    """From the middle of a cleft into the neurite; not used by `literal`."""
    d0: Positive | None = None
    """Nanometres, the unit of distance in nERL; default: the radius of each nucleus."""
    mito_spacing_nm: NotNegative = 40.0
    """Voxels of mitochondria are looked at on a lattice this fine; 0: all of them."""
    cleft_thinning: Annotated[int, Field(ge=1)] = 1
    """Of so many voxels of clefts one is kept, chosen by a hash of its place; 1: all of them."""
    worst: Annotated[int, Field(ge=0, le=10_000)] = 100
    """How many of the worst splits and mergers are told, with their places."""

    def memory(self, shape: Triple) -> int:
        return 64 * int(np.prod(shape))

    def node_memory(self, shape: Triple) -> int:
        # the engine counts the nodes; clefts, where they are read, are some voxels in a thousand
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
    ) -> NodeOutput:
        own = skeletons["own"]
        at = tuple(skeletons["voxel"][own].T)
        seen = ~skeletons["outside"][own]
        found: Record = {
            "node": skeletons["node"][own],
            "skeleton": skeletons["skeleton"][own],
            "parent": skeletons["parent"][own],
            "position": skeletons["position"][own],
            "radius": skeletons["radius"][own],
            "label": np.where(seen, segmentation[at], 0).astype("uint64"),
            "outside": np.array([np.count_nonzero(~seen)], "int64"),
            "resolution": skeletons["resolution"],
        }
        resolution = _nm(skeletons)
        if mito is not None:
            stride = zyx([max(1, int(self.mito_spacing_nm // side)) for side in resolution])
            points = voxel_centres_nm(lattice_voxels(mito, block.write, stride), resolution)
            found["mito_node"] = mito_node_numbers(skeletons, points)
        if clefts is not None:
            voxel, cleft = sampled_voxels(clefts, block.write, self.cleft_thinning)
            found |= {"cleft_voxel": voxel, "cleft": cleft}
        if nuclei is not None:
            found["node_nucleus"] = np.where(seen, nuclei[at], 0).astype("uint64")
            found |= nuclei_sums(nuclei, block.write)
        return NodeOutput(found, {})

    def join(self, block: Block, round_name: str, children: Sequence[Record]) -> NodeOutput:
        return NodeOutput(join_tables(children), {})

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
            self.rule, self.tau, self.epsilon, self.charge, self.veto, self.d0, self.worst
        )
        found = skeleton_scores(
            forest, table.label, options, mito=mito, synapse=synapse, nuclei=nuclei
        )
        if not radii and {"mito_node", "cleft"} & record.keys():
            found["not_computed"]["berl"] = NO_RADII
        return found | {"outside_nodes": int(record["outside"].sum())}


def _nm(record: Record) -> tuple[float, float, float]:
    """Sides of a voxel, as nodes are told them."""
    z, y, x = record["resolution"].tolist()
    return z, y, x
