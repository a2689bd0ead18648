import pytest

from sharpzo.errors import InputError
from sharpzo.optim import SharpZo
from sharpzo.optim.presets import PRESETS, preset

from .problems import drive, quadratic

PAPER = [name for name in PRESETS if name.startswith("paper/")]


@pytest.mark.parametrize("name", PAPER)
def test_what_all_data_sets_have_in_common(name):
    run = preset(name)
    how = run.settings
    assert how.cma.population_size == 40
    assert (how.sharpness.rho, how.sharpness.estimator) == (0.1, "cge")
    assert (how.sharpness.normalise, how.sharpness.centre) == ("mean", "mean")
    assert (how.sharpness.recorded, how.sharpness.refresh_every) == ("samples", 1)
    assert (how.zo.mu, how.zo.mu_refresh, how.zo.refresh, how.zo.queries) == (1e-3, 1e-5, 200, 1)
    assert (how.zo.keep, how.zo.score, how.zo.momentum, how.zo.rows) == (0.5, "z", 0.0, 1)
    assert (how.hand_over, how.start_std, how.switch.patience) == ("mean", 0.02, None)
    assert (run.dim, run.tokens, run.shots, run.steps) == (512, 4, 16, 20_000)


@pytest.mark.parametrize("name", [*PAPER, "release"])
def test_cost_of_a_generation(name):
    search = SharpZo(512, PRESETS[name].settings, seed=1)
    sizes = []
    for _ in range(4):
        sizes.append(len(search.ask().points))
        drive(search, quadratic, 1)
    assert sizes == [1024, 40, 1024, 40]


def test_craft_reports_a_fresh_population_and_imagenet_the_best_candidate():
    for name in (name for name in PRESETS if name.startswith("craft/")):
        run, imagenet = preset(name), name == "craft/imagenet"
        how = run.settings
        assert run.forwards == (4000 if imagenet else 8000)
        assert how.sharpness.centre == ("best" if imagenet else "population")
        assert (how.cma.population_size, how.sharpness.estimator, run.dim) == (40, "none", 512)
        assert (how.switch.never, run.choose, run.views, run.alpha) == (True, False, 1, None)


def test_bbt():
    run = preset("bbt")
    how = run.settings
    assert (how.cma.population_size, how.cma.sigma, how.cma.bound) == (20, 1.0, None)
    assert (run.dim, run.forwards, run.alpha, run.std) == (500, 8000, 1.0, None)
    assert (run.choose, run.validate_every, run.views) == (True, 100, 0)
    assert (how.switch.never, how.sharpness.estimator) == (True, "none")


def test_unknown_name():
    with pytest.raises(InputError, match=r"no preset 'paper/mnist'.*paper/eurosat.*release"):
        preset("paper/mnist")
