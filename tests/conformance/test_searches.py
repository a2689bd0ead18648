"""Every search here passes the suite that is shipped for others'."""

import numpy as np
import pytest

from sharpzo.optim import (
    Cma,
    CmaSettings,
    EvolutionSettings,
    FastSharpnessSettings,
    FastZoSettings,
    GaussNewton,
    GaussNewtonSettings,
    LmMa,
    MeZo,
    MeZoSettings,
    SepCma,
    SharpCma,
    SharpnessSettings,
    SharpZo,
    SharpZoFast,
    SharpZoFastSettings,
    SharpZoSettings,
    SparseZo,
    Spsa,
    SpsaSettings,
    SwitchSettings,
    ZoSettings,
)
from sharpzo.testing import SEARCH_CHECKS, check_search, feature_bowl, features

CMA = CmaSettings(population_size=6)
PLAIN = EvolutionSettings(population_size=6)
SHARP = SharpnessSettings(directions=2, refresh_every=2)
BOTH = SharpZoSettings(
    cma=CMA, sharpness=SHARP, switch=SwitchSettings(generation=6), zo=ZoSettings(learning_rate=0.02)
)
FAST = SharpZoFastSettings(
    CMA,
    FastSharpnessSettings(directions=3, refresh_every=2),
    SwitchSettings(generation=4),
    FastZoSettings(learning_rate=0.02, queries=2, refresh=3, directions=3),
)
DENSE = ZoSettings(learning_rate=0.05, score="dense")
MEZO = {
    variant: MeZoSettings(variant, learning_rate=0.02, momentum=0.5)
    for variant in ("plain", "sign", "momentum", "conservative", "adam")
}
ZIP = SpsaSettings(directions=2, a=0.05)
FGN = GaussNewtonSettings(directions=3, window=5)
GC = SpsaSettings(directions=2, a=0.05, clip=False, momentum=0.5)
SEARCHES = {
    "cma-es": (
        lambda dim, seed: Cma(dim, CMA, seed),
        lambda state: Cma.from_state(CMA, state),
    ),
    "sep-cma-es": (
        lambda dim, seed: SepCma(dim, PLAIN, seed),
        lambda state: SepCma.from_state(PLAIN, state),
    ),
    "lm-ma-es": (
        lambda dim, seed: LmMa(dim, PLAIN, seed),
        lambda state: LmMa.from_state(PLAIN, state),
    ),
    "sharp-cma-es": (
        lambda dim, seed: SharpCma(dim, CMA, SHARP, seed),
        lambda state: SharpCma.from_state(CMA, SHARP, state),
    ),
    "sparse-zo": (
        lambda dim, seed: SparseZo(dim, DENSE, seed),
        lambda state: SparseZo.from_state(DENSE, state),
    ),
    **{
        f"zo-sgd {variant}": (
            lambda dim, seed, how=how: MeZo(dim, how, seed),
            lambda state, how=how: MeZo.from_state(how, state),
        )
        for variant, how in MEZO.items()
    },
    "spsa": (
        lambda dim, seed: Spsa(dim, ZIP, seed),
        lambda state: Spsa.from_state(ZIP, state),
    ),
    "spsa-gc": (
        lambda dim, seed: Spsa(dim, GC, seed),
        lambda state: Spsa.from_state(GC, state),
    ),
    "sharpzo": (
        lambda dim, seed: SharpZo(dim, BOTH, seed),
        lambda state: SharpZo.from_state(BOTH, state),
    ),
    "sharpzo-fast": (
        lambda dim, seed: SharpZoFast(dim, FAST, seed),
        lambda state: SharpZoFast.from_state(FAST, state),
    ),
    "fgn": (
        lambda dim, seed: GaussNewton(dim, feature_bowl, FGN, seed),
        lambda state: GaussNewton.from_state(feature_bowl, FGN, state),
        features,
    ),
}


@pytest.mark.parametrize("check", SEARCH_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", SEARCHES)
def test_search(name, check):
    check(*SEARCHES[name])


class Careless(Cma):
    """A CMA-ES with one fault at a time."""

    fault = ""

    def ask(self):
        found = super().ask()
        return found + np.random.normal(size=found.shape) if self.fault == "random" else found  # noqa: NPY002

    def tell(self, losses):
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
        check_search(
            lambda dim, seed: faulty(dim, CMA, seed), lambda state: faulty.from_state(CMA, state)
        )


class Forgetful(GaussNewton):
    """FGN whose state leaves a direction out."""

    def state(self):
        state = super().state()
        return state | {"past": np.zeros_like(state["past"])}


class Meddling(GaussNewton):
    """FGN that writes into what it is told."""

    def tell(self, answer):
        super().tell(answer)
        if not isinstance(answer, np.ndarray):
            answer.derivatives[0] = 0


@pytest.mark.parametrize(
    ("faulty", "sentence"), [(Forgetful, "restored search"), (Meddling, "tell changed")]
)
def test_the_suite_finds_faults_of_searches_that_read_features(faulty, sentence):
    def make(dim, seed):
        return faulty(dim, feature_bowl, FGN, seed)

    with pytest.raises(AssertionError, match=sentence):
        check_search(make, lambda state: faulty.from_state(feature_bowl, FGN, state), features)
