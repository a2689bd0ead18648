"""The ``release`` preset against its mechanics written out naively (what the authors' script
computes), and every mechanic broken once: the comparison has to notice.
"""

from dataclasses import replace

import numpy as np
import pytest

from sharpzo.methods import METHODS
from sharpzo.optim import Cma, CmaSettings, SharpZo
from sharpzo.rng import generator

from .problems import drive

DIM, POPULATION, GENERATIONS, UPDATES, SEED = 5, 40, 3, 6, 1
RELEASE = METHODS["sharpzo"].presets["release"].search


def short(how=RELEASE):
    return replace(how, switch=replace(how.switch, generation=GENERATIONS))


def loss(x):
    """Not quadratic, so that a point or a step that is a little off shows."""
    return np.log(1 + (x - 1) ** 2).sum(axis=1) + 0.1 * np.sin(3 * x).sum(axis=1)


def mean_loss(rows):
    """The program averages its rows before the loss sees them."""
    return loss(np.atleast_2d(rows).mean(axis=0)[None])[0]


def program():
    """Points after each generation and update, and the forwards of each."""
    es = Cma(DIM, CmaSettings(population_size=40, sigma=0.4, bound=5.0), SEED, np.zeros(DIM))
    population = generator(SEED, "first population").random((POPULATION, DIM))
    mu, points, forwards = 1e-3, [], []
    for _ in range(GENERATIONS):
        asked = es.ask().points
        spent = 0
        gradient = np.zeros((POPULATION, DIM))
        for i in range(DIM):
            plus, minus = population.copy(), population.copy()
            plus[:, i] += mu
            minus[:, i] -= mu
            gradient[:, i] = (mean_loss(plus) - mean_loss(minus)) / (2 * mu)
            spent += 2
        shift = (0.1 * gradient / (np.linalg.norm(gradient) + 1e-12)).mean(axis=0)
        es.tell(np.array([loss((x + shift)[None])[0] for x in asked]))
        population = es.draws(direction=1)  # a second ask without a tell
        points.append(population.mean(axis=0))
        forwards.append(spent + len(asked))
    w = population.mean(axis=0)
    velocity = gradient  # never cleared
    for t in range(UPDATES):
        u = generator(SEED, "zo", step=t).standard_normal((POPULATION, DIM))
        slope = (mean_loss(w + mu * u) - mean_loss(w - mu * u)) / (2 * mu)
        velocity = velocity + slope * u
        w = w - 1e-3 * velocity  # from the first update on a matrix of 40 rows
        points.append(w.mean(axis=0))
        forwards.append(2)
    return np.array(points), forwards


def ours(how):
    search = SharpZo(DIM, short(how), seed=SEED)
    points, forwards = [], []
    spent = 0
    while len(points) < GENERATIONS + UPDATES:
        step = search.step
        spent += len(search.ask().points)
        drive(search, loss, 1)
        if search.step > step:
            points.append(search.point)
            forwards.append(spent)
            spent = 0
    return np.array(points), forwards


def test_release_is_the_program():
    points, forwards = ours(RELEASE)
    expected, expected_forwards = program()
    np.testing.assert_allclose(points, expected, rtol=1e-9, atol=1e-11)
    assert forwards == expected_forwards


def nested(part, **changes):
    return replace(RELEASE, **{part: replace(getattr(RELEASE, part), **changes)})


@pytest.mark.parametrize(
    "broken",
    [
        nested("sharpness", normalise="mean"),  # eps = rho g/|g|, without 1/sqrt(40)
        nested("sharpness", centre="mean"),  # g at theta: no U[0, 1), no fresh draws
        nested("sharpness", recorded="shifted"),  # tell X + eps
        nested("sharpness", rho=0.05),
        nested("sharpness", mu=1e-2),
        nested("sharpness", refresh_every=2),
        nested("cma", sigma=0.2),
        nested("cma", bound=0.5),
        nested("cma", active=False),
        replace(RELEASE, hand_over="mean"),
        replace(RELEASE, start_std=0.02),
        nested("zo", inherit=False),
        nested("zo", momentum=0.99),
        nested("zo", rows=1),
        nested("zo", mu=0.1),
        nested("zo", learning_rate=2e-3),
        nested("zo", score="release", keep=0.1, mu_refresh=1e-3),  # the pruning of 'zo-pruned'
    ],
)
def test_every_mechanic_shows(broken):
    points, forwards = ours(broken)
    expected, expected_forwards = program()
    same = np.allclose(points, expected, rtol=1e-9, atol=1e-11)
    assert not (same and forwards == expected_forwards)


def test_a_generation_is_1064_forwards_and_an_update_2():
    search = SharpZo(512, replace(RELEASE, switch=replace(RELEASE.switch, generation=1)), SEED)
    spent = []
    for _ in range(3):
        spent.append(len(search.ask().points))
        drive(search, loss, 1)
    assert spent == [1024, 40, 2]
    # sd 1/sqrt(40) of the rows' mean: the perturbation is mu / sqrt(40) a coordinate.
    plus, minus = search.ask().points
    assert np.std(plus - minus) / 2 == pytest.approx(1e-3 / np.sqrt(40), rel=0.15)


def test_nothing_chooses_and_the_script_s_figures_are_kept():
    settings = METHODS["sharpzo"].presets["release"]
    assert (settings.choose, settings.measure_mu) == (False, False)
    assert (settings.steps, settings.forwards) == (200_000, None)
    assert (settings.dim, settings.std) == (512, 1.0)
    assert (settings.views, settings.view_scale) == (1, (0.5, 1.0))
    how = settings.search
    assert (how.cma.sigma, how.cma.bound, how.cma.population_size) == (0.4, 5.0, 40)
    assert (how.cma.laziness, how.zo.patience, how.switch.patience) == (1.0, None, None)
    assert how.switch.generation == 500


def test_stage_one_never_stops_early():
    # The program never asks pycma whether it has converged.
    search = SharpZo(2, replace(RELEASE, switch=replace(RELEASE.switch, generation=300)), SEED)
    while search.stage == "sharp-cma":
        search.tell(np.ones(len(search.ask().points)))
    assert search.step == 300
