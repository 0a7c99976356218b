"""Meshes of a segmentation: the stage through the engine against bare zmesh on the same cells.

    python -m benchmarks.shape.meshes LABELS [--resolution 40,16,16] [--start 0,0,0]
        [--size 512,512,512] [--block 128,128,128] [--cell 128] [--min-size 1000]
        [--slabs 1] [--skip-zmesh] [--skip-reading]

LABELS is an address of a segmentation, of which SIZE voxels from START on are taken.

    volflow     the pipeline of one step `meshes`, reading and writing included, in this process
    zmesh       `Mesher.mesh` and `Mesher.get` on the cells of all levels, in memory; nothing is
                encoded or written

One thread, processor time; both are measured in turn, slab by slab along z. Afterwards cloud-volume
reads every mesh at every level, and it is counted how many are closed, each edge having two
triangles, once vertices at one place are one. The error of the 40 largest meshes is the distance of
their vertices and the centres of their triangles to those of the surface that is not simplified.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudvolume
import numpy as np
import zmesh
from scipy.spatial import cKDTree

import volflow
from benchmarks.shape.skeletons import numbers
from tests.shape.closed import is_closed
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Resolution, Triple, zyx
from volflow.io.meshes import MeshSet, Surface
from volflow.io.meshes.surfaces import welded
from volflow.io.volume import Volume
from volflow.segment.pyramid import pooled_labels
from volflow.shape.marching_cubes import REDUCTION
from volflow.stages.meshes import Meshes, halvings

Level = tuple[np.ndarray, int, Resolution, float]
"""Labels padded by one voxel, cubes along each side of a piece, sides of a voxel, and error."""


def by_volflow(run: Path, labels: str, block: Triple, **parameters: Any) -> float:
    """Seconds of the stage, from a volume on disk to meshes on disk."""
    document = {
        "run": str(run),
        "block": list(block),
        "volumes": {"labels": {"path": labels}},
        "steps": [{"use": "meshes", "with": parameters}],
    }
    before = time.process_time()
    result = volflow.run(document)
    assert result.ok
    print(result.results["meshes"], flush=True)
    return time.process_time() - before


def levels_of(labels: np.ndarray, stage: Meshes) -> Iterator[Level]:
    """The labels of each level, with what they are meshed by."""
    zooms = stage.level_zooms(Box((0, 0, 0), labels.shape))
    done = zyx((1, 1, 1))
    for level, zoom in enumerate(zooms):
        for step in halvings(zyx(zoom) // done):
            labels = pooled_labels(labels, step)
        done = zyx(zoom)
        z, y, x = (side * voxels for side, voxels in zip(stage.voxel_nm, zoom, strict=True))
        piece = stage.cell // 2 if level else stage.cell
        yield np.pad(labels, 1), piece, (z, y, x), max(z, y, x)


def by_zmesh(levels: list[Level]) -> float:
    """Seconds of marching cubes and simplification in all cells."""
    before = time.process_time()
    for labels, piece, side_nm, error in levels:
        for start in np.ndindex(*(-(-(side - 1) // piece) for side in labels.shape)):
            box = tuple(slice(a * piece, (a + 1) * piece + 1) for a in start)
            mesher = zmesh.Mesher(side_nm)
            mesher.mesh(np.ascontiguousarray(labels[box]))
            for label in mesher.ids():
                mesher.get(label, normals=False, reduction_factor=REDUCTION, max_error=error)
    return time.process_time() - before


def read_by_cloud_volume(run: Path, folder: Path) -> None:
    """Print how many meshes cloud-volume reads at each level, and how many of them are closed."""
    info = cloudvolume.CloudVolume.create_new_info(
        num_channels=1, layer_type="segmentation", data_type="uint64", encoding="raw",
        resolution=[1, 1, 1], voxel_offset=[0, 0, 0], chunk_size=[8, 8, 8],
        volume_size=[8, 8, 8], mesh="mesh",
    )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "info").write_text(json.dumps(info))
    shutil.copytree(run / "results/meshes/precomputed", folder / "mesh")
    volume = cloudvolume.CloudVolume(f"file://{folder}", progress=False)
    meshes = MeshSet.open(str(folder / "mesh"))
    counts: dict[int, list[int]] = {}
    for name in meshes.names:
        for level in range(len(meshes.read(name).levels)):
            mesh = volume.mesh.get(name, lod=level)
            mesh = mesh[name] if isinstance(mesh, dict) else mesh
            places = np.rint(mesh.vertices / 0.25).astype(np.int64)
            surface = Surface(*welded(places, mesh.faces.astype(np.int64)))
            count = counts.setdefault(level, [0, 0, 0])
            count[0] += 1
            count[1] += is_closed(surface)
            count[2] += len(surface.triangles)
    for level, (read, closed, triangles) in counts.items():
        print(f"level {level}: {read} meshes read, {closed} closed, {triangles:,} triangles")


def print_error(run: Path, level: Level, most: int = 40) -> None:
    """Print the distance of the largest meshes at level 0 to the surface before simplification."""
    labels, _, side_nm, error = level
    meshes = MeshSet.open(str(run / "results/meshes/precomputed"))
    names, sizes = np.unique(labels, return_counts=True)
    largest = [n for n in names[np.argsort(-sizes)].tolist() if n in set(meshes.names)][:most]
    mesher = zmesh.Mesher(side_nm)
    mesher.mesh(np.ascontiguousarray(labels))
    distances = []
    random = np.random.default_rng(0)
    for name in largest:
        raw = mesher.get(name, normals=False, reduction_factor=0)
        vertices = raw.vertices.astype(np.float64) - np.array(side_nm) / 2  # the padded voxel
        tree = cKDTree(np.concatenate([vertices, vertices[raw.faces].mean(axis=1)]))
        surface = meshes.surface(name, 0)
        centres = surface.position[surface.triangles].mean(axis=1)
        samples = np.concatenate([surface.position, centres])
        samples = samples[random.choice(len(samples), min(len(samples), 4000), replace=False)]
        distances.append(tree.query(samples)[0])
    together = np.concatenate(distances)
    p50, p99 = np.quantile(together, [0.5, 0.99])
    print(
        f"error of {len(largest)} meshes at level 0, {len(together):,} samples: "
        f"p50 {p50:.1f}, p99 {p99:.1f}, largest {together.max():.1f} nm; stated {error:g} nm"
    )


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("labels")
    parser.add_argument("--resolution", type=numbers, default=(40, 16, 16))
    parser.add_argument("--start", type=numbers, default=(0, 0, 0))
    parser.add_argument("--size", type=numbers, default=(512, 512, 512))
    parser.add_argument("--block", type=numbers, default=(128, 128, 128))
    parser.add_argument("--cell", type=int, default=128)
    parser.add_argument("--min-size", type=int, default=1000)
    parser.add_argument("--slabs", type=int, default=1)
    parser.add_argument("--skip-zmesh", action="store_true")
    parser.add_argument("--skip-reading", action="store_true")
    options = parser.parse_args()
    volume = Volume.open(VolumeSpec(path=options.labels))
    box = Box(options.start, zyx(options.start) + options.size).clip(volume.bounds)
    labels = volume.read(box).astype(np.uint64)
    names, sizes = np.unique(labels, return_counts=True)
    labels[np.isin(labels, names[sizes < options.min_size])] = 0
    labels[labels > 0] += np.uint64(1 << 54)
    stage = Meshes(resolution=options.resolution, cell=options.cell)
    parts = np.array_split(labels, options.slabs)
    print(f"{labels.shape} voxels in {len(parts)} slabs, {len(names)} labels")
    ours = bare = 0.0
    for part in parts:
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            address = stored(folder / "labels.zarr", part, options.resolution)
            tiny = stored(folder / "tiny.zarr", part[:8, :16, :16], options.resolution)
            # compiles the kernels
            by_volflow(folder / "compiled", tiny, (8, 8, 8), cell=8, levels=2)
            run, parameters = folder / "run", {"cell": options.cell, "min_size": options.min_size}
            ours += by_volflow(run, address, options.block, **parameters)
            levels = list(levels_of(part, stage))
            bare += 0.0 if options.skip_zmesh else by_zmesh(levels)
            print(f"volflow: {ours:.1f} s, zmesh: {bare:.1f} s", flush=True)
            if not options.skip_reading:
                read_by_cloud_volume(run, folder / "read")
                print_error(run, levels[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    ratio = f"ratio {ours / bare:.2f}, " if bare else ""
    print(f"{ratio}peak of this process {peak} MiB")


def stored(path: Path, labels: np.ndarray, resolution: Resolution) -> str:
    """The address of a new volume with these labels."""
    bounds, layer = Box((0, 0, 0), labels.shape), volflow.Layer("uint64", 0, "segmentation")
    spec = VolumeSpec(path=f"zarr3://{path}")
    volume, _ = Volume.create(spec, layer, bounds, resolution, (64, 64, 64))
    volume.write(bounds, np.ascontiguousarray(labels))
    return spec.path


if __name__ == "__main__":
    main()
