"""Searches that are stopped go on to the bit: presets, variants, both stages of SharpZO."""

from dataclasses import replace

import numpy as np
import pytest

from sharpzo.budget import Budget
from sharpzo.methods import METHODS, fit
from sharpzo.optim import Cma
from sharpzo.testing.methods import interrupted_searches_go_on, toy_task

SMALL = {"dim": 4, "search.cma.population_size": 6}
SECOND = SMALL | {"search.switch.generation": 2}
JVP = SECOND | {"search.zo.directions": 4, "search.zo.queries": 2,
                "search.sharpness.directions": 2}  # fmt: skip
STAGES = {
    "sharpzo": ("sharpzo", None, {"search.switch.generation": 2}),
    "projected": ("sharpzo", "projected", SECOND | {"search.sharpness.directions": 2}),
    "by patience": ("sharpzo", "projected", SECOND | {
        "search.switch.generation": None, "search.switch.patience": 1, "validate_every": 6,
        "search.sharpness.directions": 2}),
    "jvp": ("sharpzo", "jvp", JVP),
    "paper": ("sharpzo", "paper/eurosat", SECOND | {"search.zo.refresh": 3}),
    "release": ("sharpzo", "release", SECOND | {"search.zo.rows": 3}),
    "validated": ("sharpzo", None, {"search.switch.generation": 2, "search.hand_over": "validated",
                                    "validate_every": 10}),
}  # fmt: skip
OTHERS = {
    **{f"zo-sgd {name}": ("zo-sgd", name, {}) for name in ("plain", "sign", "momentum", "adam")},
    "zo-sgd conservative": ("zo-sgd", "conservative", {"validate_every": 7}),
    "minibatches": ("zo-sgd", "zo-bench/plain", {"batch": 5, "validate_every": 9}),
    "bbt": ("cma-es", "bbt", {"dim": 4, "search.cma.population_size": 6}),
    "craft": ("cma-es", "craft/eurosat", {"dim": 4, "search.cma.population_size": 6}),
    "zip": ("zip", "published", {"batch": 6, "search.directions": 2, "validate_every": 8}),
    "fgn by differences": ("fgn", None, {"difference": 0.01}),
    "stage 1": ("sharp-cma-es", None, SMALL | {"search.sharpness.directions": 2}),
}


def configured(name, preset, changes):
    method = METHODS[name]
    return replace(method, settings=method.configure(preset, changes))


@pytest.mark.parametrize("variant", [*STAGES, *OTHERS])
def test_it_goes_on(variant):
    method = configured(*(STAGES | OTHERS)[variant])
    if variant in STAGES:
        seen = []
        task = replace(toy_task(method), listen=seen.append, budget=Budget(forwards=60))
        fit(method, method.settings, task)
        assert {step.stage for step in seen} == {"sharp-cma", "sparse-zo"}
    interrupted_searches_go_on(method)


def test_the_check_finds_a_state_that_is_lost(monkeypatch):
    state = Cma.state
    monkeypatch.setattr(Cma, "state", lambda self: state(self) | {"path_sigma": np.zeros(self.dim)})
    with pytest.raises(AssertionError, match="differ"):
        interrupted_searches_go_on(configured("cma-es", "bbt", OTHERS["bbt"][2]))
