"""Losses that are no use, and an engine that fails in the middle of a search."""

from dataclasses import replace

import numpy as np
import pytest

from sharpzo.budget import Budget
from sharpzo.errors import EngineError
from sharpzo.methods import METHODS, fit
from sharpzo.testing.methods import toy_task
from sharpzo.testing.toys import ToyTower
from sharpzo.types import Reason

WRONG = {
    "nan": lambda states, calls: states * np.nan,
    "inf": lambda states, calls: states * np.inf,
    "constant": lambda states, calls: states * 0 + 1,
    "exploding": lambda states, calls: states * 10.0 ** min(calls, 60),
    "one of two": lambda states, calls: states * (np.nan if calls % 2 else 1),
}


class Faulty(ToyTower):
    """After some calls something happens to the states of all candidates."""

    def __init__(self, wrong, after=12, **sizes):
        super().__init__(**sizes)
        self.wrong, self.after, self.calls = wrong, after, 0

    def variant(self, **changes):
        made = super().variant(**changes)
        made.__class__ = Faulty
        made.wrong, made.after, made.calls = self.wrong, self.after, self.calls
        return made

    def states(self, contexts):
        self.calls += 1
        found = super().states(contexts)
        return found if self.calls <= self.after else self.wrong(found, self.calls - self.after)


def searched(method, wrong, after=12):
    steps = []
    task = toy_task(METHODS[method], Faulty(wrong, after))
    settings = {"validate_every": 20}
    task = replace(task, budget=Budget(forwards=400), listen=steps.append)
    return fit(METHODS[method], METHODS[method].configure(None, settings), task), steps


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("method", ["sharpzo", "cma-es", "zo-sgd", "fgn", "zip"])
def test_the_best_point_before_is_kept(method, wrong):
    found, steps = searched(method, WRONG[wrong])
    assert all(np.isfinite(array).all() for array in found.head.arrays().values())
    assert isinstance(found.reason, Reason)
    sound = [step.validation_accuracy for step in steps if np.isfinite(step.loss)]
    assert found.validation_accuracy in (max(sound), sound[-1])  # of those that take the last
    if wrong in ("nan", "inf"):
        assert found.validation_accuracy > 0.5
    if wrong in ("nan", "inf") and found.forwards < 350:
        assert found.reason is Reason.DIVERGED


@pytest.mark.parametrize("method", ["sharpzo", "cma-es", "zo-sgd", "fgn", "zip"])
@pytest.mark.parametrize("after", [1, 12])
def test_an_engine_that_fails_ends_the_search(method, after, caplog):
    def fails(states, calls):
        raise EngineError("the runtime has no memory left")

    found, steps = searched(method, fails, after)
    assert found.reason is Reason.ENGINE
    assert found.reason.value == "the engine failed; the best point until then is kept"
    assert "the runtime has no memory left" in caplog.text
    sound = [step.validation_accuracy for step in steps]
    assert found.validation_accuracy in (max(sound), sound[-1])
    assert np.isfinite(found.head.weight).all()
