"""Published settings say what is printed, and a published generation costs what it costs."""

import pytest

from sharpzo.methods import find
from sharpzo.optim import SharpZo

SHARPZO, CMA_ES = find("sharpzo").presets, find("cma-es").presets
PAPER = [name for name in SHARPZO if name.startswith("paper/")]


@pytest.mark.parametrize("name", PAPER)
def test_what_all_data_sets_have_in_common(name):
    run = SHARPZO[name]
    how = run.search
    assert how.cma.population_size == 40
    assert (how.sharpness.rho, how.sharpness.estimator) == (0.1, "cge")
    assert (how.sharpness.normalise, how.sharpness.centre) == ("mean", "mean")
    assert (how.sharpness.recorded, how.sharpness.refresh_every) == ("samples", 1)
    assert (how.zo.mu, how.zo.mu_refresh, how.zo.refresh, how.zo.queries) == (1e-3, 1e-5, 200, 1)
    assert (how.zo.keep, how.zo.score, how.zo.momentum, how.zo.rows) == (0.5, "z", 0.0, 1)
    assert (how.hand_over, how.start_std, how.switch.patience) == ("mean", 0.02, None)
    assert (run.dim, run.steps, run.choose, run.views) == (512, 20_000, False, 1)


@pytest.mark.parametrize("name", [*PAPER, "release"])
def test_cost_of_a_generation(name):
    search = SharpZo(512, SHARPZO[name].search, seed=1)
    sizes = []
    for _ in range(4):
        points = search.ask().points
        sizes.append(len(points))
        search.tell((points**2).sum(axis=1))
    assert sizes == [1024, 40, 1024, 40]


def test_craft_reports_a_fresh_population_and_imagenet_the_best_candidate():
    for name in (name for name in CMA_ES if name.startswith("craft/")):
        run, imagenet = CMA_ES[name], name == "craft/imagenet"
        assert run.forwards == (4000 if imagenet else 8000)
        assert run.search.centre == ("best" if imagenet else "population")
        assert run.view_scale == (0.08 if imagenet else 0.5, 1.0)
        assert (run.search.cma.population_size, run.dim, run.steps) == (40, 512, None)
        assert (run.choose, run.views, run.alpha) == (False, 1, None)


def test_bbt():
    run = CMA_ES["bbt"]
    how = run.search.cma
    assert (how.population_size, how.sigma, how.bound) == (20, 1.0, None)
    assert (run.dim, run.forwards, run.alpha, run.std) == (500, 8000, 1.0, None)
    assert (run.choose, run.validate_every, run.views) == (True, 100, 0)
