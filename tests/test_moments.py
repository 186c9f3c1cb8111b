"""Mean and variance: equal to NumPy's in float64, whatever the shards."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.moments import mean_and_std, merge, of_values

RNG = np.random.default_rng(4)


@given(cuts=st.lists(st.integers(0, 40), max_size=5), mean=st.sampled_from([0.0, -500.0, 1e6]))
def test_merging_equals_one_pass_over_everything(cuts: list[int], mean: float) -> None:
    values = (RNG.standard_normal((40, 3)) + mean).astype(np.float32)
    edges = [0, *sorted(cuts), 40]
    parts = [of_values([values[a:b]], 3).to_dict() for a, b in itertools.pairwise(edges)]
    merged = merge(parts)
    assert merged
    got_mean, got_std = mean_and_std(merged)
    exact = values.astype(np.float64)
    np.testing.assert_allclose(got_mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(got_std, exact.std(axis=0), rtol=1e-9)


def test_nothing_to_merge() -> None:
    assert merge([]) is None
    merged = merge([of_values([], 2).to_dict()] * 2)
    assert merged
    assert mean_and_std(merged) == ([0.0, 0.0], [0.0, 0.0])


def test_the_order_of_the_shards_does_not_matter() -> None:
    values = (RNG.standard_normal((500, 3)) * [1, 50, 1e-3] + [0, 1e4, -7]).astype(np.float32)
    parts = [of_values([part], 3).to_dict() for part in np.array_split(values, 20)]
    first = merge(parts)
    assert first
    for _ in range(5):
        shuffled = merge([parts[i] for i in RNG.permutation(20)])
        assert shuffled
        np.testing.assert_allclose(shuffled.mean, first.mean, rtol=1e-12)
        np.testing.assert_allclose(shuffled.m2, first.m2, rtol=1e-9)
