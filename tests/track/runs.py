"""Tracking stages run in memory, phase by phase, as the engine runs them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tests.harness import Memory, copied, run_stage
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.stage import Chain, Columns, Record
from volflow.stages.link_tracks import LinkTracks
from volflow.stages.relabel import Relabel
from volflow.stages.track import Track


def run_chain(
    stage: Chain, memory: Memory, bounds: Box, wires: Mapping[str, str], out: Mapping[str, str]
) -> None:
    """Run every phase of a chain; its outputs are stored under the names of `out`."""
    shape = stage.block_on(bounds, (1, 1, 1))
    laid = BlockGrid(bounds, shape, stage.halo_on(bounds, shape))
    assert stage.check(laid) == []
    states: dict[Triple, Record] = {}
    memory.arrays[out.get("tracks", "tracks")] = (np.zeros(bounds.shape, np.uint64), bounds.start)
    for phase in stage.phases(laid):
        for block in reversed(list(phase.grid)):  # slabs in any order
            inputs = {name: memory.read(wires[name], block.read) for name in wires}
            before = phase.grid.previous(block.index)
            state = None if before is None else copied(states[before])
            onward = stage.step(block, state, **inputs)
            states[block.index] = copied(onward.state)
            for name, declared in stage.outputs.items():
                stored = out.get(name, name)
                if isinstance(declared, Columns):
                    record = copied(onward.outputs[name])
                    assert {c: v.dtype.name for c, v in record.items()} == dict(declared.dtypes)
                    memory.records[stored, block.index] = record
                else:
                    memory.write(stored, block.write, onward.outputs[name])


def linked(
    affinity: np.ndarray, bounds: Box, both_ways: bool = False, **parameters: object
) -> tuple[np.ndarray, Memory]:
    """Objects from tracks of slabs and tiles, uint64 (Z, Y, X), and all that was stored."""
    memory = Memory({"affinity": (affinity, bounds.start)})
    wires = {"affinity": "affinity"}
    run_chain(Track(**parameters), memory, bounds, wires, {})
    if both_ways:
        out = {"tracks": "tracks_back", "beyond": "beyond_back", "cells": "cells_back"}
        run_chain(Track(**parameters, reverse=True), memory, bounds, wires, out)
    names = {"slab", "tile", "part", "slab_overlap", "margin"} & parameters.keys()
    kind = LinkTracks if both_ways else OneWay
    link = kind(**{name: parameters[name] for name in names})
    grid = BlockGrid(bounds, link.block_on(bounds, (1, 1, 1)))
    run_stage(link, grid, memory, {})
    run_stage(Relabel(), grid, memory, {"fragments": "tracks"})
    return memory.arrays["segmentation"][0], memory


class OneWay(LinkTracks):
    """The stage as it is without the optional inputs."""

    def leaf(self, block, round_name, previous, *, tracks, beyond):  # type: ignore[override]
        return super().leaf(block, round_name, previous, tracks=tracks, beyond=beyond)
