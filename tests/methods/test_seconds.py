"""The clock of a search runs from its first forward, whatever that forward was for."""

import dataclasses

import numpy as np
import pytest

from sharpzo import PromptClassifier
from sharpzo.budget import Budget
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.photo import as_photo
from sharpzo.methods import METHODS, fit
from sharpzo.methods.searching import SearchingSettings
from sharpzo.testing.methods import toy_task
from sharpzo.testing.toys import ToyImageTower, ToyTower
from sharpzo.types import Reason

FORWARD = 10.0  # seconds: more than any forward counts for
# Backpropagation needs the weights of a real tower; it runs the same loop.
SEARCHES = [
    name
    for name, method in METHODS.items()
    if isinstance(method.settings, SearchingSettings) and not name.startswith("coop")
]


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """Time that passes in the towers alone."""
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    for tower in (ToyTower, ToyImageTower):
        quick = tower.forward

        def slow(self, inputs, quick=quick):
            clock.now += FORWARD * len(inputs)
            return quick(self, inputs)

        monkeypatch.setattr(tower, "forward", slow)
    return clock


@pytest.mark.parametrize("name", SEARCHES)
def test_every_forward_counts(clock, name):
    received = []
    budget = Budget(seconds=60 * FORWARD)  # of forwards alone, no step size would be measured
    settings = METHODS[name].configure(None, {"batch": 2} if name == "blackvip" else None)
    task = dataclasses.replace(toy_task(METHODS[name]), budget=budget, listen=received.append)
    begun = clock.now
    fitted = fit(METHODS[name], settings, task)
    assert all(step.seconds >= step.forwards for step in received)
    assert fitted.seconds == clock.now - begun
    assert fitted.reason is Reason.SECONDS or name == "blackvip"  # which plans its steps


def test_a_slow_tower_leaves_no_time_after_the_step_size(clock):
    """12 forwards measure it, and 8 are allowed."""
    method = METHODS["zo-sgd"]
    task = dataclasses.replace(toy_task(method), budget=Budget(seconds=8 * FORWARD))
    fitted = fit(method, method.settings, task)
    assert (fitted.reason, fitted.steps) == (Reason.SECONDS, 0)


@pytest.mark.filterwarnings("ignore:the untuned model is right")  # on noise
def test_compiling_the_text_tower_counts(monkeypatch):
    """The photos are encoded before; then every second is the budget's."""
    from sharpzo.towers.tower import OnnxTextTower

    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    open_session = OnnxTextTower._session

    def slowly(self, tangents):
        clock.now += 0.0 if tangents in self._sessions else 60.0
        return open_session(self, tangents)

    monkeypatch.setattr(OnnxTextTower, "_session", slowly)
    pixels = np.random.default_rng(1).integers(256, size=(4, 28, 28, 3)).astype(np.uint8)
    photos = tuple(as_photo(one, f"photo {i}") for i, one in enumerate(pixels))
    names = ("cat", "dog")
    few = Dataset(names, LabelledPhotos(photos, np.array([0, 0, 1, 1]), names), None, None, "noise")
    budget = Budget(seconds=59.0, steps=1)
    classifier = PromptClassifier("cma-es", budget=budget, threads=1).fit(few)
    assert classifier.fit_.seconds == 60.0
    assert (classifier.fit_.reason, classifier.fit_.steps) == (Reason.SECONDS, 0)
