"""Answers that are not what is stored: an error or the right voxels, never others."""

import numpy as np
import pytest

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.errors import StorageError
from volflow.io.run.records import Records
from volflow.io.store import Store
from volflow.io.volume import Volume

BOUNDS = Box((0, 0, 0), (16, 16, 16))
CASES = [
    ("precomputed", "raw", None),
    ("precomputed", "compressed_segmentation", (16, 16, 16)),
    ("precomputed", "compressed_segmentation", (8, 16, 16)),
    ("zarr", "blosc", None),
    ("zarr3", "zstd", (16, 16, 16)),
    ("n5", "gzip", None),
]


def each_answer_cut(proxy, kind, read):
    """Results of `read`, None for an error, with each of its answers cut short in turn."""
    proxy.log.clear()
    read()
    number, draw = len(proxy.log), proxy.next_fault
    assert number >= 2
    for cut in range(number):
        proxy.log.clear()

        def fault(method, path, cut=cut):
            draw(method, path)
            return kind if len(proxy.log) == cut + 1 else ""

        proxy.next_fault = fault
        try:
            yield read()
        except StorageError:
            yield None
        finally:
            proxy.next_fault = draw


@pytest.mark.parametrize("kind", ["short unsaid", "empty unsaid", "short with length", "404"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(part) for part in case))
def test_no_voxels_but_those_that_were_written(proxied, case, kind):
    proxy, bucket = proxied
    format_, encoding, shard = case
    path = f"{format_}://{bucket}/cut/{format_}{encoding}{kind[-4:]}{shard and shard[0]}"
    spec = VolumeSpec(path=path, encoding=encoding, shard=shard)
    layer = Layer("uint64", 0, "segmentation")
    volume, _ = Volume.create(spec, layer, BOUNDS, (8, 8, 8), (8, 8, 8))
    whole = np.random.default_rng(0).integers(0, 2**60, BOUNDS.shape).astype("u8")
    whole[:8, :, :8] = 0  # background is to be read as such
    volume.write(BOUNDS, whole)
    actual = list(each_answer_cut(proxy, kind, lambda: Volume.open(spec, own=True).read(BOUNDS)))
    assert any(answer is None for answer in actual)
    for answer in actual:
        if answer is not None:
            np.testing.assert_array_equal(answer, whole, strict=True)


def test_background_in_shards_is_still_read(proxied):
    _, bucket = proxied
    spec = VolumeSpec(path=f"precomputed://{bucket}/background", shard=(8, 16, 16))
    layer = Layer("uint64", 0, "segmentation")
    volume, _ = Volume.create(spec, layer, BOUNDS, (8, 8, 8), (8, 8, 8))
    whole = np.zeros(BOUNDS.shape, "u8")
    whole[8, 0, 0] = 7
    volume.write(BOUNDS, whole)
    np.testing.assert_array_equal(volume.read(BOUNDS), whole, strict=True)


@pytest.mark.parametrize("kind", ["short unsaid", "empty unsaid"])
def test_no_record_and_no_list_but_those_that_were_written(proxied, kind):
    proxy, bucket = proxied
    records = Records(f"{bucket}/cut_{kind[0]}", "records")
    records.write((0, 0, 0), {"a": np.arange(900)})
    records.write((0, 0, 1), {"a": np.arange(3)})

    def read():
        names = Store(f"{bucket}/cut_{kind[0]}").list("records/")
        return names, [records.read((0, 0, n))["a"].tolist() for n in (0, 1)]

    actual = list(each_answer_cut(proxy, kind, read))
    assert actual.count(None) == len(actual) >= 3
