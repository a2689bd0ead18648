"""Every search here passes the suite that is shipped for others'."""

import numpy as np
import pytest

from sharpzo.optim import (
    Cma,
    CmaSettings,
    EvolutionSettings,
    GaussNewton,
    GaussNewtonSettings,
    LmMa,
    MeZo,
    MeZoSettings,
    SepCma,
    SharpCma,
    SharpnessSettings,
    SharpZo,
    SharpZoSettings,
    SparseZo,
    Spsa,
    SpsaSettings,
    SwitchSettings,
    ZoSettings,
)
from sharpzo.testing import SEARCH_CHECKS, check_search, feature_bowl
from sharpzo.types import LossesAt

CMA = CmaSettings(population_size=6)
PLAIN = EvolutionSettings(population_size=6)
SHARP = SharpnessSettings(directions=2, refresh_every=2)
BOTH = SharpZoSettings(
    cma=CMA, sharpness=SHARP, switch=SwitchSettings(generation=6), zo=ZoSettings(learning_rate=0.02)
)
EXACT = SharpZoSettings(
    CMA,
    SharpnessSettings(estimator="jvp", directions=3, refresh_every=2),
    SwitchSettings(generation=4),
    ZoSettings(learning_rate=0.02, queries=2, refresh=3, exact=True, directions=3),
)
DENSE = ZoSettings(learning_rate=0.05, score="dense")
MEZO = {
    variant: MeZoSettings(variant, learning_rate=0.02, momentum=0.5)
    for variant in ("plain", "sign", "momentum", "conservative", "adam")
} | {"exact": MeZoSettings(learning_rate=0.02, queries=2, exact=True)}
ZIP = SpsaSettings(directions=2, a=0.05)
FGN = GaussNewtonSettings(directions=3, window=5)
GC = SpsaSettings(directions=2, a=0.05, clip=False, momentum=0.5)
SEARCHES = {
    "cma-es": lambda dim, seed: Cma(dim, CMA, seed),
    "sep-cma-es": lambda dim, seed: SepCma(dim, PLAIN, seed),
    "lm-ma-es": lambda dim, seed: LmMa(dim, PLAIN, seed),
    "sharp-cma-es": lambda dim, seed: SharpCma(dim, CMA, SHARP, seed),
    "sparse-zo": lambda dim, seed: SparseZo(dim, DENSE, seed),
    **{
        f"zo-sgd {variant}": (lambda dim, seed, how=how: MeZo(dim, how, seed))
        for variant, how in MEZO.items()
    },
    "spsa": lambda dim, seed: Spsa(dim, ZIP, seed),
    "spsa-gc": lambda dim, seed: Spsa(dim, GC, seed),
    "sharpzo": lambda dim, seed: SharpZo(dim, BOTH, seed),
    "sharpzo jvp": lambda dim, seed: SharpZo(dim, EXACT, seed),
    "fgn": lambda dim, seed: GaussNewton(dim, feature_bowl, FGN, seed),
}


@pytest.mark.parametrize("check", SEARCH_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", SEARCHES)
def test_search(name, check):
    check(SEARCHES[name])


class Careless(Cma):
    """A CMA-ES with one fault at a time."""

    fault = ""

    def ask(self):
        points = super().ask().points
        if self.fault == "random":
            points += np.random.normal(size=points.shape)  # noqa: NPY002
        return LossesAt(points)

    def tell(self, losses, slopes=()):
        if self.fault == "sorts":
            losses.sort()
        if self.fault == "broadcasts":
            losses = np.resize(losses, self.population_size)
        super().tell(losses)

    def state(self):
        state = super().state()
        if self.fault == "forgets":
            state["path_sigma"] = np.zeros_like(state["path_sigma"])
        return state


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("random", "gave other candidates"),
        ("sorts", "changed the losses"),
        ("broadcasts", "losses were taken"),
        ("forgets", "restored search"),
    ],
)
def test_the_suite_finds_faults(fault, sentence):
    faulty = type("Faulty", (Careless,), {"fault": fault})
    with pytest.raises(AssertionError, match=sentence):
        check_search(lambda dim, seed: faulty(dim, CMA, seed))


class Forgetful(GaussNewton):
    """FGN whose state leaves a direction out."""

    def state(self):
        state = super().state()
        return state | {"past": np.zeros_like(state["past"])}


class Meddling(GaussNewton):
    """FGN that writes into what it is told."""

    def tell(self, values, derivatives):
        super().tell(values, derivatives)
        derivatives[:1] = 0


@pytest.mark.parametrize(
    ("faulty", "sentence"), [(Forgetful, "restored search"), (Meddling, "tell changed")]
)
def test_the_suite_finds_faults_of_searches_that_read_features(faulty, sentence):
    def make(dim, seed):
        return faulty(dim, feature_bowl, FGN, seed)

    with pytest.raises(AssertionError, match=sentence):
        check_search(make)
