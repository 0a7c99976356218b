"""Labels renamed by a table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from volflow.segment.relabel import relabel

few_labels = hnp.arrays(
    np.uint64,
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5),
    elements=st.sampled_from([0, 1, 2, 3, 1 << 40, 2**64 - 1]),
)


@settings(max_examples=100, deadline=None)
@given(few_labels, st.integers(0, 10))
def test_every_label_gets_the_id_of_its_row(labels: np.ndarray, seed: int) -> None:
    before = np.array([1, 2, 3, 4, 1 << 40, 2**64 - 1], np.uint64)
    after = np.random.default_rng(seed).integers(0, 2**63, 6).astype(np.uint64)  # some may be 0
    names = {0: 0, **dict(zip(before.tolist(), after.tolist(), strict=True))}
    expected = np.array([names[label] for label in labels.ravel().tolist()], np.uint64)
    np.testing.assert_array_equal(relabel(labels, before, after), expected.reshape(labels.shape))


@settings(max_examples=30, deadline=None)
@given(few_labels.filter(np.any), st.data())
def test_a_missing_label_is_named(labels: np.ndarray, data: st.DataObject) -> None:
    ids = np.unique(labels[labels > 0])
    missing = data.draw(st.sampled_from(ids.tolist()))
    table = ids[ids != missing]
    with pytest.raises(ValueError, match=rf"label {missing} is missing from the table of "):
        relabel(labels, table, table)
