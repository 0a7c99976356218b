"""Skeletons, tables, YAML files and checkpoints, by other programs or as text."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from safetensors.numpy import save_file

from tests.fuzz.damage import Damage
from tests.fuzz.kind import METADATA, SHARD_INDEX, TEXT, TOLD, VOXELS, Content, Kind, is_shard_index
from volflow.checkpoints.find import find_network
from volflow.checkpoints.header import KEY, Header, read_header
from volflow.config import pipeline
from volflow.config.bundled import bundled
from volflow.engine.executors.profile import find_profile
from volflow.errors import PlanError
from volflow.io.skeletons import SkeletonSet
from volflow.io.tables.partners import read_partners
from volflow.train.config.pretraining import load_pretraining
from volflow.train.config.training import load as load_training

FEWER = "fewer skeletons are a set, too"


# --- skeletons -----------------------------------------------------------------------------------


def _swc(seed: int) -> str:
    rng = np.random.default_rng(seed)
    lines = ["# OFFSET 0 0 100.5", "# id type x y z radius parent"]
    for number in range(1, 31):
        x, y, z = (round(float(v), 2) for v in rng.uniform(100, 9000, 3))
        parent = -1 if number == 1 else int(rng.integers(max(1, number - 3), number))
        lines.append(f"{number} 3 {x} {y} {z} {round(float(rng.uniform(5, 90)), 1)} {parent}")
    return "\n".join(lines) + "\n"


def _swc_folder(folder: Path) -> None:
    (folder / "traced").mkdir()
    for number in (3, 17, 20):
        (folder / "traced" / f"{number}.swc").write_text(_swc(number))


def _swc_zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "traced.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in (3, 17):
            archive.writestr(zipfile.ZipInfo(f"{number}.swc"), _swc(number))


def _skeleton(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    position = rng.uniform(100, 9000, (40, 3)).astype("<f4")
    edges = np.stack([np.arange(39), np.arange(1, 40)], axis=1).astype("<u4")
    radius = rng.uniform(5, 90, 40).astype("<f4")
    parts = (position, edges, radius)
    return struct.pack("<II", 40, 39) + b"".join(part.tobytes() for part in parts)


def _precomputed(pack: str, folder: Path) -> None:
    place = folder / "skeletons"
    place.mkdir()
    radius = {"id": "radius", "data_type": "float32", "num_components": 1}
    transform = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
    info: dict[str, Any] = {
        "@type": "neuroglancer_skeletons",
        "transform": transform,
        "vertex_attributes": [radius],
    }
    if pack == "sharded":
        info["sharding"] = {
            "@type": "neuroglancer_uint64_sharded_v1", "hash": "murmurhash3_x86_128",
            "preshift_bits": 0, "minishard_bits": 1, "shard_bits": 1,
            "data_encoding": "gzip", "minishard_index_encoding": "gzip",
        }  # fmt: skip
        base = {"driver": "file", "path": f"{place}/"}
        spec = {"driver": "neuroglancer_uint64_sharded", "base": base, "metadata": info["sharding"]}
        store = ts.KvStore.open(spec).result()
        for name in range(1, 9):
            store.write(struct.pack(">Q", name), _skeleton(name)).result()
    else:
        for name in (1, 2, 3):
            body = _skeleton(name)
            ending = ".gz" if pack == "gz" else ""
            packed = gzip.compress(body, mtime=0) if ending else body
            (place / f"{name}{ending}").write_bytes(packed)
    (place / "info").write_text(json.dumps(info))


def _read_skeletons(place: str, folder: Path, intact: Content | None) -> dict[str, Any]:
    stored = SkeletonSet.open(place.format(folder))
    skeletons, _ = stored.read_all()
    content: dict[str, Any] = {"ids": list(stored.titles), "warnings": stored.warnings}
    for one in skeletons:
        content[f"{one.name}.position"] = one.position
        content[f"{one.name}.parent"] = one.parent
        content[f"{one.name}.radius"] = one.radius
    return content


def _text(damage: Damage, warnings: tuple[str, ...]) -> str:
    return FEWER if damage.how == "deleted" else TEXT


def _cut_text(damage: Damage, warnings: tuple[str, ...]) -> str:
    """Only at the end of a line is the beginning of a text not known as one."""
    return TOLD if warnings else TEXT if damage.after.endswith(b"\n") else ""


def _skeleton_file(damage: Damage, warnings: tuple[str, ...]) -> str:
    if damage.name == "info":
        return METADATA
    return FEWER if damage.how == "deleted" else VOXELS


def _packed(damage: Damage, warnings: tuple[str, ...]) -> str:
    """Gzip has a checksum; but a whole file, or shard, may be missing."""
    if damage.name == "info":
        return METADATA
    if is_shard_index(damage, 2):
        return SHARD_INDEX
    return FEWER if damage.how == "deleted" else ""


# --- tables --------------------------------------------------------------------------------------


def _partners(folder: Path) -> None:
    rng = np.random.default_rng(5)
    text = io.StringIO()
    text.write("pre_z,pre_y,pre_x,post_z,post_y,post_x,pre_neuron,post_neuron\n")
    for _ in range(25):
        sites = ",".join(f"{v:.1f}" for v in rng.uniform(10, 9000, 6))
        text.write(f"{sites},{rng.integers(1, 10**12)},{rng.integers(1, 10**12)}\n")
    (folder / "pairs.csv").write_text(text.getvalue())


def _read_partners(folder: Path, intact: Content | None) -> dict[str, Any]:
    table = read_partners(str(folder / "pairs.csv"))
    columns = {"line": table.line, "pre": table.pre, "post": table.post, "neurons": table.neurons}
    return {**columns, "warnings": table.warnings}


# --- YAML and checkpoints ------------------------------------------------------------------------


def _copied(name: str, source: Path, folder: Path) -> None:
    (folder / name).write_bytes(source.read_bytes())


def _read_yaml(
    load: Callable[[str], Any], name: str, folder: Path, intact: Content | None
) -> dict[str, Any]:
    return {"content": repr(load(str(folder / name))).replace(str(folder), "")}


def _any_text(damage: Damage, warnings: tuple[str, ...]) -> str:
    return TEXT


def _yaml(name: str, source: Path, load: Callable[[str], Any]) -> Kind:
    make, read = partial(_copied, "file.yaml", source), partial(_read_yaml, load, "file.yaml")
    return Kind(name, make, read, _any_text, _any_text)


HEADER = Header(
    network="resunet3d",
    arguments={"out_channels": 3, "widths": [2, 3], "pools": [[2, 2, 2]]},
    out_channels=3,
    offsets=((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
    voxel_size_nm=(10, 10, 10),
    receptive_field=(9, 9, 9),
    halo=(4, 4, 4),
    total_stride=(2, 2, 2),
    input_tile=(16, 16, 16),
    output_tile=(8, 8, 8),
)


def _checkpoint(folder: Path) -> None:
    from volflow.checkpoints.safetensors_file import sha256

    path = folder / "tiny.safetensors"
    tensors = {"a": np.arange(300, dtype=np.float32), "b": np.ones((3, 5), np.float32)}
    header = HEADER
    for _ in range(2):  # the header does not change the tensors, of which it has the hash
        save_file(tensors, path, {KEY: header.model_dump_json()})
        header = header.model_copy(update={"weights_sha256": sha256(path)})


def _read_checkpoint(folder: Path, intact: Content | None) -> dict[str, Any]:
    path = str(folder / "tiny.safetensors")
    try:
        network = find_network(path, None, None)
    except ValueError as error:  # of the options of a step, whose errors plan collects
        raise PlanError(str(error)) from error
    return {"header": repr(read_header(path)), "content": repr(network.content)}


def _header(damage: Damage, warnings: tuple[str, ...]) -> str:
    """Tensors have a hash, the header has none."""
    size = 8 + int.from_bytes(damage.before[:8], "little")
    return METADATA if damage.start < size else ""


def _sets(name: str, make: Callable[[Path], None], place: str, *unknowable: Any) -> Kind:
    return Kind(name, make, partial(_read_skeletons, place), *unknowable)


PRECOMPUTED = "precomputed-skeletons://{}/skeletons"
PIPELINES, PROFILES = bundled("pipelines"), bundled("deploy")

TEXTS = [
    _sets("swc", _swc_folder, "swc://{}/traced", _text, _cut_text),
    _sets("swc in a zip", _swc_zip, "{}/traced.zip"),
    _sets("skeletons", partial(_precomputed, ""), PRECOMPUTED, _skeleton_file),
    _sets("skeletons gz", partial(_precomputed, "gz"), PRECOMPUTED, _packed),
    replace(
        _sets("skeletons sharded", partial(_precomputed, "sharded"), PRECOMPUTED, _packed),
        by_folder=True,
    ),
    Kind("partners csv", _partners, _read_partners, _text, _cut_text, weight=6),
    _yaml("pipeline yaml", PIPELINES["segment_and_score"], pipeline.load),
    _yaml("profile yaml", PROFILES["slurm"], find_profile),
    _yaml("training yaml", bundled("pipelines/train")["fib25"], load_training),
    _yaml("pretraining yaml", bundled("pipelines/pretrain")["segneuron"], load_pretraining),
    Kind("checkpoint", _checkpoint, _read_checkpoint, _header, weight=6),
]
