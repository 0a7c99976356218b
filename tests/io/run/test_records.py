import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from imagecodecs import zstd_encode

from volflow.errors import StorageError
from volflow.io.run.records import Records, decode, encode
from volflow.io.store import Store

columns = hnp.arrays(
    st.sampled_from(["u1", "<u4", ">u8", "i8", "f4", ">f8", "?", "S3", "U2"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=80),
)
records = st.dictionaries(st.text(max_size=6), columns, max_size=4)


@settings(max_examples=60, deadline=None)
@given(records)
def test_what_is_encoded_is_decoded(record):
    actual = decode(encode(record))
    assert list(actual) == list(record)
    for name, column in record.items():
        assert actual[name].dtype == column.dtype.newbyteorder("<")
        assert actual[name].shape == column.shape
        assert actual[name].tobytes() == column.astype(actual[name].dtype).tobytes()
        assert actual[name].flags.writeable


def test_the_same_columns_make_the_same_bytes():
    column = np.arange(5000, dtype="u8") ** 3
    record = {"a": column, "b": column[::2]}
    again = {"a": column.astype(">u8"), "b": np.ascontiguousarray(column[::2])}
    assert encode(record) == encode(again)


def test_sorted_ids_are_packed():
    ids = np.arange(100_000, dtype="u8") * 7 + 2**55
    assert len(encode({"id": ids})) < ids.nbytes / 4


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "u8"])
def test_integers_at_the_ends_of_each_width_come_back(dtype):
    whole = np.iinfo(dtype)
    for bits in (7, 8, 15, 16, 31, 32, 63):
        for end in (-(2**bits) - 1, -(2**bits), 2**bits - 1, 2**bits):
            column = np.zeros(400, "object")
            column[::7], column[3::7] = end, 1
            if not whole.min <= end <= whole.max:
                continue
            actual = decode(encode({"a": column.astype(dtype)}))["a"]
            np.testing.assert_array_equal(actual, column.astype(dtype), err_msg=f"{end}")
            assert actual.dtype == dtype


def test_small_numbers_in_wide_columns_cost_what_narrow_ones_do():
    counts = np.random.default_rng(0).integers(0, 2**11, 50_000)
    narrow, wide = (len(encode({"a": counts.astype(dtype)})) for dtype in ("u2", "i8"))
    assert abs(wide - narrow) <= 8  # the names of the types in the header
    assert wide < 1.9 * len(counts)


def test_a_column_packed_in_its_own_type_is_read():
    column = np.arange(1000, dtype="<u8")
    body = encode({"a": column})
    (length,) = struct.unpack_from("<I", body, 12)
    (entry,) = json.loads(body[16 : 16 + length])
    assert entry[3] == "zstd:<u2"
    packed = bytes(zstd_encode(column.view("u1").reshape(-1, 8).T.tobytes(), level=1))
    header = json.dumps([["a", "<u8", [1000], "zstd", len(packed)]]).encode()
    rest = struct.pack("<I", len(header)) + header + packed
    earlier = struct.pack("<4sII", b"VFR1", zlib.crc32(rest), len(rest)) + rest
    np.testing.assert_array_equal(decode(earlier)["a"], column)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=20))
def test_bytes_come_back(items):
    column = np.empty(len(items), object)
    column[:] = items
    numbers = np.arange(len(items))
    actual = decode(encode({"a": numbers, "b": column, "c": numbers}))
    assert actual["b"].dtype == object
    assert actual["b"].tolist() == items
    np.testing.assert_array_equal(actual["c"], numbers)


def test_objects_are_refused():
    with pytest.raises(ValueError, match=r"column 'a': expected a 1D array of bytes; got objects"):
        encode({"a": np.array([{}], object)})
    with pytest.raises(ValueError, match=r"column 'a': expected numbers.*; got datetime64"):
        encode({"a": np.array(["2020"], "datetime64[Y]")})


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_changed_or_lost_byte_is_found(data):
    body = encode({"a": np.arange(300, dtype="u4"), "b": np.zeros((0, 2), "f4")})
    place = data.draw(st.integers(0, len(body) - 1))
    change = data.draw(st.integers(1, 255))
    damaged = bytearray(body)
    damaged[place] ^= change
    for broken in (bytes(damaged), body[:place], body + b"x"):
        with pytest.raises(ValueError, match=r"bytes|beginning|checksum"):
            decode(broken)


def test_a_record_is_read_back_missing_or_damaged(tmp_path):
    records, other = Records(str(tmp_path), "records/a/d/up.0"), Records(str(tmp_path), "records/b")
    records.write((1, 2, 3), {"a": np.arange(3)})
    other.write((1, 2, 3), {})
    np.testing.assert_array_equal(records.read((1, 2, 3))["a"], [0, 1, 2])
    with pytest.raises(StorageError, match=r"records/a/d/up\.0/1_2_4 is missing"):
        records.read((1, 2, 4))
    store = Store(str(tmp_path))
    body = store.read("records/a/d/up.0/1_2_3")
    store.write("records/a/d/up.0/1_2_3", body[:-1])
    with pytest.raises(StorageError, match=r"up\.0/1_2_3 is damaged: expected .* bytes, got"):
        records.read((1, 2, 3))
    records.delete_all()
    with pytest.raises(StorageError, match="is missing"):
        records.read((1, 2, 3))
    assert other.read((1, 2, 3)) == {}
