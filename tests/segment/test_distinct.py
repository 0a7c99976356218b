import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volflow.segment.distinct import distinct_labels


@given(st.lists(st.integers(0, 5), max_size=60), st.sampled_from(["uint8", "uint32", "uint64"]))
def test_the_labels_are_those_that_occur_but_0(values, dtype):
    labels = distinct_labels(np.array(values, dtype))
    assert labels.tolist() == sorted(set(values) - {0})
    assert labels.dtype == np.uint64


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 3, 4)])
def test_the_shape_does_not_count(shape):
    assert distinct_labels(np.full(shape, 2**63, np.uint64)).tolist() == [2**63] * (shape[0] > 0)
