from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volflow.io.tables.columns import csv_of

numbers = st.tuples(
    st.integers(0, (1 << 64) - 1), st.integers(-5, 5), st.floats(allow_nan=False, width=64)
)


@given(st.lists(numbers, max_size=5))
def test_what_is_written_is_read_again_bit_by_bit(rows: list[tuple[int, int, float]]) -> None:
    columns = {
        "id": np.array([row[0] for row in rows], np.uint64),
        "count": np.array([row[1] for row in rows], np.int64),
        "place": np.array([row[2] for row in rows], np.float64),
    }
    head, *lines = csv.reader(io.StringIO(csv_of(columns), newline=""))
    assert head == list(columns)
    assert [(int(a), int(b), float(c)) for a, b, c in lines] == rows


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"expected columns of equal length; got \{'a': 2, 'b': 1\}"
    ):
        csv_of({"a": np.zeros(2), "b": np.zeros(1)})
