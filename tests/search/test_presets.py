import pytest

from sharpzo.errors import InputError
from sharpzo.search import SharpZo
from sharpzo.search.presets import PRESETS, preset

from .problems import drive, quadratic

# sharpzo.md section 4, copied by hand: sigma, mu_cge, T_c, eta, std(A), bound.
TABLE = """
pets 0.1 1e-3 100 1e-3 0.2 5
flowers 0.4 1e-3 500 1e-3 0.2 5
fgvc 0.2 1e-3 400 1e-3 0.2 none
dtd 0.4 1e-5 300 1e-3 1 5
eurosat 0.4 1e-3 500 1e-3 1 5
cars 1.0 1e-3 100 1e-3 0.2 5
food101 0.1 1e-3 100 1e-3 0.2 none
sun397 0.4 1e-3 400 1e-1 0.2 5
caltech 0.4 1e-3 200 1e-3 0.2 5
ucf101 0.1 1e-3 200 1e-3 0.2 5
imagenet 1.0 1e-5 200 1e-1 1 none
"""


@pytest.mark.parametrize("row", TABLE.split("\n")[1:-1])
def test_table_8(row):
    name, *values = row.split()
    sigma, mu, generation, eta, std, bound = (None if v == "none" else float(v) for v in values)
    run = preset(f"paper/{name}")
    how = run.settings
    assert (how.cma.sigma, how.cma.bound, run.std) == (sigma, bound, std)
    assert (how.sharpness.mu, how.switch.generation, how.zo.learning_rate) == (mu, generation, eta)
    # Common to all.
    assert how.cma.population_size == 40
    assert (how.sharpness.rho, how.sharpness.estimator) == (0.1, "cge")
    assert (how.sharpness.normalise, how.sharpness.centre) == ("mean", "mean")
    assert (how.sharpness.recorded, how.sharpness.refresh_every) == ("shifted", 1)
    assert (how.zo.mu, how.zo.mu_refresh, how.zo.refresh, how.zo.queries) == (1e-3, 1e-5, 200, 1)
    assert (how.zo.keep, how.zo.score, how.zo.momentum, how.zo.rows) == (0.5, "z", 0.0, 1)
    assert (how.hand_over, how.start_std, how.switch.patience) == ("mean", 0.02, None)
    assert (run.dim, run.tokens, run.shots, run.steps) == (512, 4, 16, 20_000)


def test_release():
    run = preset("release")
    how = run.settings
    assert (run.std, run.steps, how.cma.sigma, how.cma.bound) == (1.0, 200_000, 0.4, 5.0)
    assert (how.sharpness.normalise, how.sharpness.centre) == ("population", "population")
    assert (how.sharpness.recorded, how.hand_over) == ("samples", "population")
    assert (how.zo.rows, how.zo.momentum, how.zo.inherit) == (40, 1.0, True)
    assert (how.zo.score, how.start_std) == ("dense", 0.0)


@pytest.mark.parametrize("name", [n for n in PRESETS if n.startswith(("paper/", "release"))])
def test_cost_of_a_generation(name):
    search = SharpZo(512, PRESETS[name].settings, seed=1)
    sizes = []
    for _ in range(4):
        sizes.append(len(search.ask()))
        drive(search, quadratic, 1)
    assert sizes == [1024, 40, 1024, 40]


# peers.md section 4.3, copied by hand: sigma, box, std(A).
CRAFT = """
caltech 1 5 0.2
flowers 1 5 0.2
cars 1 5 0.2
sun397 1 5 0.2
ucf101 1 5 0.2
fgvc 0.02 none 0.2
food101 1 none 0.2
pets 0.02 5 0.2
dtd 0.02 5 1
eurosat 0.02 5 1
imagenet 1 none 1
"""


@pytest.mark.parametrize("row", CRAFT.split("\n")[1:-1])
def test_craft(row):
    name, *values = row.split()
    sigma, bound, std = (None if v == "none" else float(v) for v in values)
    run = preset(f"craft/{name}")
    how = run.settings
    assert (how.cma.sigma, how.cma.bound, run.std) == (sigma, bound, std)
    imagenet = name == "imagenet"
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
