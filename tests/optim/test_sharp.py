import numpy as np
import pytest

from sharpzo.errors import InputError
from sharpzo.optim import Cma, CmaSettings, SharpCma, SharpnessSettings
from sharpzo.rng import generator
from sharpzo.types import Reason

from .problems import drive, quadratic

CMA = CmaSettings(population_size=8, sigma=0.3)
LITERAL = SharpnessSettings(estimator="cge", refresh_every=1, recorded="shifted")
RELEASE = SharpnessSettings(
    estimator="cge", refresh_every=1, normalise="population", centre="population"
)
START = np.array([3.0, -1.0, 0.5])


def test_paper_gradient_is_taken_at_theta_and_the_radius_is_rho():
    search = SharpCma(3, CMA, LITERAL, seed=1, start=START)
    probes = search.ask().points
    np.testing.assert_allclose(probes.mean(axis=0), START)
    search.tell(quadratic(probes))
    true = 2 * (START - 1)
    np.testing.assert_allclose(search.gradient, true, rtol=1e-6)
    np.testing.assert_allclose(search.shift(), 0.1 * true / np.linalg.norm(true), rtol=1e-6)
    assert np.linalg.norm(search.shift()) == pytest.approx(0.1)
    assert search.notes["shift"] == pytest.approx(0.1)


def test_the_literal_reading_tells_the_shifted_population():
    search = SharpCma(3, CMA, LITERAL, seed=1, start=START)
    drive(search, quadratic, 1)
    plain = Cma(3, CMA, seed=1, start=START)
    np.testing.assert_allclose(search.ask().points, plain.ask().points + search.shift())
    shift = search.shift()
    losses = np.arange(8.0)
    search.tell(losses)
    plain.tell(losses)
    np.testing.assert_allclose(search.cma.mean, plain.point + shift, atol=1e-12)


def test_every_generation_of_the_paper_costs_2d_and_the_population():
    search = SharpCma(5, CMA, LITERAL)
    sizes = []
    for _ in range(6):
        sizes.append(len(search.ask().points))
        drive(search, quadratic, 1)
    assert sizes == [10, 8, 10, 8, 10, 8]
    assert search.step == 3


def test_refresh_schedule_and_rge():
    settings = SharpnessSettings(estimator="rge", directions=3, refresh_every=4)
    search = SharpCma(5, CMA, settings, seed=2)
    sizes, shifts = [], []
    while search.step < 9:
        sizes.append(len(search.ask().points))
        drive(search, quadratic, 1)
        shifts.append(search.shift())
    assert sizes == [6, 8, 8, 8, 8, 6, 8, 8, 8, 8, 6, 8]
    assert (shifts[0] == shifts[4]).all()
    assert (shifts[4] != shifts[5]).any()
    assert np.linalg.norm(shifts[5]) == pytest.approx(settings.rho)


def test_no_estimator_is_plain_cma_bit_for_bit():
    search = SharpCma(4, CMA, SharpnessSettings(estimator="none"), seed=3)
    plain = Cma(4, CMA, seed=3)
    for _ in range(10):
        assert search.ask().points.tobytes() == plain.ask().points.tobytes()
        drive(search, quadratic, 1)
        drive(plain, quadratic, 1)
    assert search.point.tobytes() == plain.point.tobytes()


def test_release_shift_has_the_radius_rho_by_root_population():
    search = SharpCma(3, CMA, RELEASE, seed=1)
    drive(search, quadratic, 1)
    assert np.linalg.norm(search.shift()) == pytest.approx(0.1 / np.sqrt(8))
    # As the program does it: P equal rows divided by their Frobenius norm, then the row mean.
    rows = np.tile(search.gradient, (8, 1))
    theirs = (0.1 * rows / (np.linalg.norm(rows) + 1e-12)).mean(axis=0)
    np.testing.assert_allclose(search.shift(), theirs, rtol=1e-9)


def test_release_first_gradient_is_at_the_mean_of_uniform_noise():
    search = SharpCma(3, CmaSettings(population_size=400), RELEASE, seed=1)
    first = search.point
    assert ((first > 0.4) & (first < 0.6)).all()
    np.testing.assert_allclose(search.ask().points.mean(axis=0), first)
    assert (search.cma.mean == 0).all()  # theta is not touched by it


def test_release_later_gradients_are_at_the_mean_of_fresh_draws():
    search = SharpCma(3, CMA, RELEASE, seed=1)
    drive(search, quadratic, 2)
    assert search.step == 1
    point = search.point
    z = generator(1, "cma", step=1, direction=1).standard_normal((8, 3))
    fresh = search.cma.sigma * search.cma._transform(z)
    np.testing.assert_allclose(point, search.cma.mean + fresh.mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(search.ask().points.mean(axis=0), point)
    assert np.linalg.norm(fresh.mean(axis=0)) > 1e-3


def test_release_losses_are_shifted_but_the_samples_are_told():
    search = SharpCma(3, CMA, RELEASE, seed=1)
    drive(search, quadratic, 1)
    plain = Cma(3, CMA, seed=1)
    np.testing.assert_allclose(search.ask().points, plain.ask().points + search.shift())
    losses = quadratic(search.ask().points)
    search.tell(losses)
    plain.tell(losses)
    assert search.cma.mean.tobytes() == plain.point.tobytes()


def test_the_point_may_be_the_best_candidate():
    settings = SharpnessSettings(estimator="none", centre="best")
    search = SharpCma(3, CMA, settings, seed=1, start=START)
    assert (search.point == START).all()  # before any loss
    candidates = search.ask().points
    search.tell(np.where(np.arange(8) == 5, -1.0, 1.0))
    assert search.point.tobytes() == candidates[5].tobytes()


def test_zero_gradient_gives_no_shift():
    search = SharpCma(3, CMA, LITERAL)
    search.tell(np.ones(6))
    assert (search.shift() == 0).all()
    assert np.isfinite(search.ask().points).all()


def test_one_bad_probe_costs_its_coordinate_all_bad_ones_the_run():
    search = SharpCma(3, CMA, LITERAL, start=START)
    losses = quadratic(search.ask().points)
    losses[1] = np.nan
    search.tell(losses)
    assert search.gradient[1] == 0
    assert (search.gradient[[0, 2]] != 0).all()
    assert search.stopped is None
    other = SharpCma(3, CMA, LITERAL, start=START)
    other.tell(np.full(6, np.inf))
    assert other.stopped is Reason.DIVERGED


def test_probes_count_for_best():
    search = SharpCma(3, CMA, SharpnessSettings(estimator="cge", mu=0.5), start=START)
    probes = search.ask().points
    search.tell(np.where(np.arange(6) == 4, -7.0, 1.0))
    assert search.best[1] == -7.0
    np.testing.assert_allclose(search.best[0], probes[4])


@pytest.mark.parametrize(
    "wrong",
    [
        {"rho": 0.0},
        {"estimator": "spsa"},
        {"mu": -1.0},
        {"refresh_every": 0},
        {"directions": 2.5},
        {"normalise": "rows"},
        {"centre": "median"},
        {"recorded": "both"},
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is .*; give"):
        SharpnessSettings(**wrong)


@pytest.mark.parametrize("diagonal", [False, True])
def test_shift_from_the_samples_costs_nothing_and_points_uphill(diagonal):
    how = SharpnessSettings(rho=0.5, estimator="samples", refresh_every=1)
    for seed in range(5):
        search = SharpCma(3, CmaSettings(population_size=40, diagonal=diagonal), how, seed, START)
        assert not search.shift().any()  # nothing is known before the first population
        asked = search.ask().points
        assert len(asked) == 40
        search.tell(quadratic(asked))
        assert np.linalg.norm(search.shift()) == pytest.approx(0.5)
        assert search.shift() @ (START - 1) > 0  # the quadratic's minimum is at 1
        np.testing.assert_allclose(search.ask().points - search.shift(), search.cma.draws(0))


def test_told_the_shifted_points_theta_climbs():
    """Why `paper/*` shifts the losses alone: the literal reading ends high above the minimum."""
    ends = {}
    for recorded in ("samples", "shifted"):
        how = SharpnessSettings(rho=0.3, estimator="cge", refresh_every=1, recorded=recorded)
        ends[recorded] = []
        for seed in range(3):
            search = SharpCma(16, CmaSettings(population_size=12, sigma=0.3), how, seed)
            drive(search, quadratic, 2 * 60)  # sixty generations
            ends[recorded].append(quadratic(search.cma.mean[None])[0])
    assert min(ends["shifted"]) > 3 * max(ends["samples"])
