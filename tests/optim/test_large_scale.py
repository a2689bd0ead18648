"""Strategies for many dimensions: separable CMA-ES by pycma, LM-MA-ES by dense algebra."""

import math

import cma as pycma
import numpy as np
import pytest
from cma.sampler import GaussDiagonalSampler

from sharpzo.errors import InputError
from sharpzo.optim import Cma, CmaSettings, EvolutionSettings, LmMa, SepCma
from sharpzo.types import Reason

from .problems import (
    assert_as_fast,
    assert_same,
    drive,
    ellipsoid,
    rosenbrock,
    sphere,
    through_files,
)

BOTH = pytest.mark.parametrize("strategy", [SepCma, LmMa])


class SamplesOfCma(SepCma):
    """Draws the numbers that `Cma` draws."""

    stage = "cma"


def test_in_one_dimension_nothing_is_left_out():
    """C is its diagonal and (d + 2) / 3 is 1: the trajectory of CMA-ES itself."""
    dense = Cma(1, CmaSettings(sigma=0.5, active=False), seed=3, start=np.array([2.0]))
    ours = SamplesOfCma(1, EvolutionSettings(sigma=0.5), seed=3, start=np.array([2.0]))
    for _ in range(30):
        np.testing.assert_allclose(ours.ask().points, dense.ask().points, rtol=1e-9)
        for search in (ours, dense):
            drive(search, sphere, 1)
        assert ours.sigma == pytest.approx(dense.sigma, rel=1e-9)


@pytest.mark.parametrize("dim", [2, 30])
def test_the_diagonal_is_updated_as_pycma_updates_one(dim):
    search = SepCma(dim, EvolutionSettings(sigma=0.5), seed=1, start=np.full(dim, 0.7))
    c = search._constants
    sampler = GaussDiagonalSampler(dim, {})
    for _ in range(60):
        _, y = search._sample()
        losses = ellipsoid(search.ask().points)
        best = np.argsort(losses)[: c.mu]
        before = search.state()["path_c"]
        search.tell(losses)
        path = search.state()["path_c"]
        stalled = np.array_equal(path, (1 - c.c_c) * before)  # h_sigma = 0
        rates = [c.c_1, *(c.c_mu * c.weights[: c.mu])]
        sampler.update([path, *y[best]], rates, stalled * c.c_1 * c.c_c * (2 - c.c_c))
        np.testing.assert_allclose(search.state()["variances"], sampler.C, rtol=1e-12)
        sampler.C = search.state()["variances"].copy()


def start_of(dim, seed):
    return np.random.default_rng(seed).uniform(-3, 3, dim)


def evaluations(strategy, objective, start, seed, target=1e-8, most=100_000):
    search = strategy(len(start), EvolutionSettings(sigma=0.5), seed, start)
    spent = 0
    while search.best[1] > target and search.stopped is None and spent < most:
        drive(search, objective, 1)
        spent += search.population_size
    return spent if search.best[1] <= target else math.inf


def pycma_evaluations(objective, start, seed, target=1e-8):
    options = {"verbose": -9, "seed": seed + 1, "CMA_diagonal": True}
    es = pycma.CMAEvolutionStrategy(start, 0.5, options)
    best = math.inf
    while best > target and not es.stop():
        candidates = es.ask()
        losses = objective(np.array(candidates))
        es.tell(candidates, list(losses))
        best = min(best, losses.min())
    return es.countevals if best <= target else math.inf


@pytest.mark.parametrize("objective", [sphere, ellipsoid])
def test_evaluations_to_target_as_pycmas_diagonal_mode(objective):
    """pycma's update is multiplicative and its rates are others; the figures are close."""
    starts = [start_of(10, seed) for seed in range(4)]
    ours = [evaluations(SepCma, objective, w, s) for s, w in enumerate(starts)]
    theirs = [pycma_evaluations(objective, w, s) for s, w in enumerate(starts)]
    assert_as_fast(ours, theirs, within=0.25)


def test_the_transformation_is_the_product_of_its_factors():
    """y = M z with M = prod_j [(1 - c_j) I + c_j m_j m_j^T], the last generation's paths."""
    dim = 12
    search = LmMa(dim, EvolutionSettings(sigma=0.5), seed=2, start=np.ones(dim))
    for generation in range(15):
        matrix = np.eye(dim)
        for j, path in enumerate(search.state()["paths"][:generation]):
            rate = 1 / (1.5**j * dim)
            matrix = ((1 - rate) * np.eye(dim) + rate * np.outer(path, path)) @ matrix
        z, y = search._sample()
        np.testing.assert_allclose(y, z @ matrix.T, rtol=1e-9, atol=1e-12)
        drive(search, ellipsoid, 1)


def test_one_generation_by_hand():
    """Algorithm 1 of the paper, line by line, for d = 100."""
    dim = 100
    many = 18  # an even one: Hansen's weights and the paper's are the same
    search = LmMa(dim, EvolutionSettings(many, sigma=0.5), seed=2, start=np.ones(dim))
    drive(search, ellipsoid, 3)
    before, sigma = search.state(), search.sigma
    assert len(before["paths"]) == 4 + math.floor(3 * math.log(dim))
    z, y = search._sample()
    losses = ellipsoid(search.ask().points)
    best = np.argsort(losses)[: many // 2]
    w = math.log(many // 2 + 0.5) - np.log(np.arange(1, many // 2 + 1))
    w /= w.sum()
    mu_w = 1 / (w**2).sum()
    search.tell(losses)
    after = search.state()
    wanted = before["mean"] + sigma * w @ y[best]
    np.testing.assert_allclose(after["mean"], wanted, rtol=1e-12, atol=1e-12)
    rates = {"path_sigma": 2 * many / dim}
    for name, rate in rates.items():
        wanted = (1 - rate) * before[name] + math.sqrt(mu_w * rate * (2 - rate)) * w @ z[best]
        np.testing.assert_allclose(after[name], wanted, rtol=1e-12, atol=1e-12)
    for i in range(len(before["paths"])):
        rate = many / (4**i * dim)
        wanted = (1 - rate) * before["paths"][i]
        wanted += math.sqrt(mu_w * rate * (2 - rate)) * w @ z[best]
        np.testing.assert_allclose(after["paths"][i], wanted, rtol=1e-9, atol=1e-12)
    length = after["path_sigma"] @ after["path_sigma"]
    change = rates["path_sigma"] / 2 * (length / dim - 1)
    assert search.sigma == pytest.approx(sigma * math.exp(min(1, change)), rel=1e-12)


def test_lm_ma_follows_a_bent_valley():
    """From 0, away from the other minimum; plain descent is nowhere near by then."""
    for seed in range(3):
        assert evaluations(LmMa, rosenbrock, np.zeros(10), seed, most=30_000) < 30_000


@BOTH
def test_they_converge_and_say_so(strategy):
    search = strategy(5, EvolutionSettings(sigma=0.5), seed=1, start=np.ones(5))
    while search.stopped is None:
        drive(search, sphere, 1)
    assert search.stopped is Reason.CONVERGED
    assert search.best[1] < 1e-10


@BOTH
def test_the_box_holds(strategy):
    """At any sigma, and the corner of the least loss is found from one that fits the box."""
    for sigma in (2.0, 0.5):
        search = strategy(4, EvolutionSettings(sigma=sigma, bound=1.0), seed=1)
        for _ in range(150):
            assert np.abs(search.ask().points).max() <= 1
            drive(search, lambda x: -x.sum(axis=1), 1)
    assert search.point.min() > 0.9


@BOTH
def test_a_state_is_complete_at_any_size(strategy):
    how = EvolutionSettings(sigma=0.5)
    straight = strategy(300, how, seed=4)
    drive(straight, ellipsoid, 8)
    resumed = strategy(straight.dim, how).restore(through_files(straight.state()))
    for search in (straight, resumed):
        drive(search, ellipsoid, 8)
    assert_same(straight.state(), resumed.state())


def test_wrong_settings():
    for wrong in ({"population_size": 1}, {"sigma": 0.0}, {"bound": -1.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            EvolutionSettings(**wrong)
