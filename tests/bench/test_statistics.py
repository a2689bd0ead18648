"""Intervals against scipy."""

import numpy as np
import pytest

from sharpzo.bench.summary import interval, paired, t_quantile

stats = pytest.importorskip("scipy.stats")


def test_quantiles_are_students():
    for freedom in (*range(1, 40), 60, 120, 1000):
        assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=1e-3)


@pytest.mark.parametrize("n", [2, 3, 5, 12, 40])
def test_an_interval_is_the_students_of_the_mean(n):
    values = np.random.default_rng(n).normal(0.7, 0.05, n)
    low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    found = interval(values.tolist())
    assert found.half is not None
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx(
        (low, high), abs=1e-4
    )


def test_differences_are_taken_seed_by_seed():
    ours, theirs = {1: 0.5, 2: 0.7, 4: 0.9}, {1: 0.4, 2: 0.65, 3: 0.1}
    found = paired(ours, theirs)
    assert found == interval([0.5 - 0.4, 0.7 - 0.65])
    assert paired(ours, {9: 0.1}) is None
    assert paired({1: 0.5}, {1: 0.4}).half is None
