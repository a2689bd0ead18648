import cma as pycma
import numpy as np
import pytest

from sharpzo.errors import InputError
from sharpzo.optim import Cma, CmaSettings
from sharpzo.types import Reason

from .problems import assert_as_fast, drive, ellipsoid, rosenbrock, sphere


def reference(search, sigma, **options):
    """A pycma that starts from exactly C = I, as ours does."""
    dim = search.dim
    options = {"popsize": search.population_size, "verbose": -9, "seed": 1, **options}
    es = pycma.CMAEvolutionStrategy(search.point, sigma, options)
    es.sm.C, es.sm.B, es.sm.D = np.eye(dim), np.eye(dim), np.ones(dim)
    return es


# Every pair of two of the three is there.
@pytest.mark.parametrize(
    ("dim", "active", "objective"),
    [
        (2, True, sphere), (2, False, ellipsoid), (2, True, rosenbrock),
        (10, False, sphere), (10, True, ellipsoid), (10, False, rosenbrock),
        (40, True, sphere), (40, False, ellipsoid), (40, True, rosenbrock),
        (40, False, sphere), (40, True, ellipsoid),
    ],
)  # fmt: skip
def test_equal_samples_give_equal_updates(dim, active, objective):
    settings = CmaSettings(sigma=0.5, active=active)
    search = Cma(dim, settings, seed=3, start=np.full(dim, 0.7))
    es = reference(search, 0.5, CMA_active=active)
    for _ in range(200 if dim > 2 else 40):
        candidates = search.ask().points
        losses = objective(candidates)
        es.ask()
        es.tell(list(candidates), list(losses), check_points=False)
        search.tell(losses)
        scale = np.abs(search._covariance).max()
        assert np.abs(es.mean - search.point).max() / search.sigma < 1e-10
        assert np.abs(es.sm.C - search._covariance).max() / scale < 1e-10
        assert abs(es.sigma / search.sigma - 1) < 1e-10


def evaluations(objective, dim, seed, target=1e-8):
    start = np.random.default_rng(seed).uniform(-3, 3, dim)
    search = Cma(dim, CmaSettings(sigma=0.5), seed=seed, start=start)
    while search.best[1] > target and search.stopped is None:
        search.tell(objective(search.ask().points))
    return search.step * search.population_size if search.best[1] <= target else np.inf


def pycma_evaluations(objective, dim, seed, target=1e-8):
    start = np.random.default_rng(seed).uniform(-3, 3, dim)
    es = pycma.CMAEvolutionStrategy(start, 0.5, {"verbose": -9, "seed": seed + 1})
    best = np.inf
    while best > target and not es.stop():
        candidates = es.ask()
        losses = objective(np.array(candidates))
        es.tell(candidates, list(losses))
        best = min(best, losses.min())
    return es.countevals if best <= target else np.inf


@pytest.mark.parametrize("objective", [sphere, ellipsoid])
def test_evaluations_to_target_as_pycma_small(objective):
    ours = [evaluations(objective, 10, s) for s in range(5)]
    theirs = [pycma_evaluations(objective, 10, s) for s in range(5)]
    assert_as_fast(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [sphere, ellipsoid, rosenbrock])
@pytest.mark.parametrize("dim", [10, 40])
def test_evaluations_to_target_as_pycma(objective, dim):
    ours = [evaluations(objective, dim, s) for s in range(20)]
    theirs = [pycma_evaluations(objective, dim, s) for s in range(20)]
    assert_as_fast(ours, theirs)


def test_candidates_are_the_stated_law():
    search = Cma(3, CmaSettings(population_size=4000, sigma=0.5), start=np.array([1.0, 2.0, 3.0]))
    candidates = search.ask().points
    assert candidates.shape == (4000, 3)
    assert candidates.dtype == np.float64
    np.testing.assert_allclose(candidates.mean(axis=0), [1, 2, 3], atol=0.04)
    np.testing.assert_allclose(np.cov(candidates.T), 0.25 * np.eye(3), atol=0.03)


def test_candidates_follow_the_learned_covariance():
    search = Cma(4, CmaSettings(population_size=2000), seed=1)
    drive(search, ellipsoid, 3)
    candidates = search.ask().points
    expected = search.sigma**2 * search._covariance
    np.testing.assert_allclose(
        np.cov(candidates.T), expected, atol=0.15 * np.abs(np.diag(expected)).max()
    )


def test_box_holds_candidates_and_point():
    search = Cma(5, CmaSettings(sigma=0.5, bound=1.5), seed=1)
    for _ in range(80):
        candidates = search.ask().points
        assert np.abs(candidates).max() <= 1.5
        search.tell(np.sum((candidates - 9) ** 2, axis=1))
    assert np.abs(search.point).max() <= 1.5
    np.testing.assert_allclose(search.best[0], 1.5, atol=0.05)


def test_shift_moves_candidates_only_or_samples_too():
    shift = np.array([0.5, -1.0, 0.25])
    settings = CmaSettings(sigma=0.3)
    plain, told, recorded = (Cma(3, settings, seed=5) for _ in range(3))
    told.shift_by(shift, recorded=False)
    recorded.shift_by(shift, recorded=True)
    np.testing.assert_allclose(told.ask().points, plain.ask().points + shift)
    np.testing.assert_allclose(recorded.ask().points, plain.ask().points + shift)
    losses = np.arange(plain.population_size, dtype=float)
    for search in (plain, told, recorded):
        search.tell(losses)
    # Not recorded: the ranking alone reaches the update.
    assert told.point.tobytes() == plain.point.tobytes()
    assert told.sigma == plain.sigma
    # Recorded: theta is the weighted mean of the shifted points (eq. 3), and drifts along.
    np.testing.assert_allclose(recorded.point, plain.point + shift, atol=1e-12)
    assert recorded.sigma > plain.sigma


def test_recorded_shift_enters_mean_and_paths_as_pycma_would_have_it():
    search = Cma(6, CmaSettings(sigma=0.5), seed=5, start=np.ones(6))
    es = reference(search, 0.5)
    for generation in range(60):
        shift = 0.3 * search.sigma * np.sin(generation + np.arange(6.0))
        search.shift_by(shift, recorded=True)
        candidates = search.ask().points
        losses = ellipsoid(candidates)
        es.ask()
        es.tell(list(candidates), list(losses), check_points=False)
        search.tell(losses)
        scale = np.abs(search._covariance).max()
        assert np.abs(es.mean - search.point).max() / search.sigma < 1e-10
        assert np.abs(es.sm.C - search._covariance).max() / scale < 1e-10
        assert abs(es.sigma / search.sigma - 1) < 1e-10


def test_non_finite_losses_rank_last():
    one, other = Cma(4, seed=2), Cma(4, seed=2)
    losses = sphere(one.ask().points)
    worst = np.argsort(losses)[-2:]
    broken = losses.copy()
    broken[np.sort(worst)] = np.nan, -np.inf
    large = losses.copy()
    large[np.sort(worst)] = 1e9, 1e9
    one.tell(broken)
    other.tell(large)
    assert one.point.tobytes() == other.point.tobytes()
    assert one.sigma == other.sigma
    assert one.stopped is None
    assert np.isfinite(one.best[1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_finite_loss_stops_without_an_update(value):
    search = Cma(3, seed=1)
    drive(search, sphere, 2)
    before = search.state()
    search.tell(np.full(search.population_size, value))
    assert search.stopped is Reason.DIVERGED
    assert search.step == 2
    assert before["mean"].tobytes() == search.state()["mean"].tobytes()


def test_equal_losses_converge_in_the_end_and_break_nothing():
    search = Cma(6, seed=1)
    while search.stopped is None:
        assert search.step < 200
        search.tell(np.ones(search.population_size))
    assert search.stopped is Reason.CONVERGED
    assert search.step >= 10
    assert np.isfinite(search.point).all()


def test_ties_go_to_the_earlier_candidate():
    search = Cma(3, CmaSettings(population_size=60), seed=1)
    weights, candidates = search._constants.weights, search.ask().points
    search.tell(np.ones(60))
    np.testing.assert_allclose(search.point, weights[:30] @ candidates[:30], atol=1e-14)


def test_dimension_one():
    search = Cma(1, CmaSettings(sigma=0.5), start=np.array([3.0]))
    while search.stopped is None:
        assert search.step < 2000
        search.tell(sphere(search.ask().points))
    assert search.best[1] < 1e-10


def test_a_linear_slope_overflows_nothing():
    search = Cma(3, CmaSettings(sigma=1.0), seed=1)
    for _ in range(1500):
        if search.stopped is not None:
            break
        search.tell(search.ask().points[:, 0])
    assert np.isfinite(search.point).all()
    assert search.sigma > 1e20


def test_condition_number_stops():
    settings = CmaSettings(max_condition=100.0)
    search = Cma(5, settings, seed=1, start=np.ones(5))
    while search.stopped is None:
        search.tell(ellipsoid(search.ask().points))
    assert search.stopped is Reason.CONVERGED
    assert search.notes["condition"] > 100


def test_small_deviations_stop():
    coarse, fine = (Cma(4, CmaSettings(tol_x=t, tol_fun=1e-300), seed=1) for t in (1e-2, 1e-6))
    for search in (coarse, fine):
        while search.stopped is None:
            search.tell(sphere(search.ask().points - 1))
    assert coarse.stopped is Reason.CONVERGED
    assert coarse.step < fine.step < 1000
    assert coarse.sigma > fine.sigma


def test_steps_lost_in_rounding_stop():
    search = Cma(4, CmaSettings(sigma=1e-7), seed=1, start=np.full(4, 1e10))
    search.tell(np.arange(float(search.population_size)))
    assert search.stopped is Reason.CONVERGED


def test_eigendecomposition_is_lazy(monkeypatch):
    count = []
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda a: count.append(1) or eigh(a))
    search = Cma(150, CmaSettings(population_size=12), seed=1)
    assert 2 < search._constants.eigen_gap < 3
    drive(search, sphere, 31)
    assert len(count) == 10
    count.clear()
    rare = Cma(150, CmaSettings(population_size=12, laziness=4.0), seed=1)
    drive(rare, sphere, 31)
    assert len(count) == 3


def test_wrong_inputs_are_sentences():
    search = Cma(3)
    with pytest.raises(InputError, match=r"shape \(2,\) and .* needs \(7,\)"):
        search.tell(np.ones(2))
    with pytest.raises(InputError, match=r"start has the shape \(2,\)"):
        Cma(3, start=np.ones(2))
    with pytest.raises(InputError, match="not finite"):
        Cma(2, start=np.array([1.0, np.nan]))
    with pytest.raises(InputError, match="dim is 0"):
        Cma(0)
    with pytest.raises(InputError, match="outside the box"):
        Cma(2, CmaSettings(bound=1.0), start=np.array([0.0, 3.0]))
    for wrong in (
        {"sigma": 0.0},
        {"sigma": np.nan},
        {"population_size": 1},
        {"bound": -1.0},
        {"laziness": 0.0},
    ):
        with pytest.raises(InputError, match="give"):
            CmaSettings(**wrong)
