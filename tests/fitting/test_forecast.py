"""The forecast for twice the photos, against twice the photos."""

import numpy as np

from sharpzo.fitting.forecast import MOST, forecast
from sharpzo.methods import Task, find, fit
from sharpzo.metrics import normalise
from sharpzo.testing.toys import ToyTower
from sharpzo.types import Features

LADDER = find("ladder+gda")


def photos(tower, shots, seed):
    rng = np.random.default_rng(seed)
    many, width = tower.untuned.shape
    labels = np.repeat(np.arange(many), shots)
    middles = np.random.default_rng(5).normal(size=(many, width))
    vectors = normalise(middles[labels] + 2.0 * rng.normal(size=(len(labels), width)))
    return Features(vectors.astype(np.float32), labels, tower.class_names)


def test_the_mean_forecast_is_within_two_points():
    """Over 12 draws, as each of few photos is noisy."""
    tower, forecasts, gains = ToyTower(), [], []
    shown = photos(tower, 300, 99)
    for seed in range(12):
        twice = photos(tower, 16, seed)
        train = twice.take(np.arange(len(twice)) % 2 == 0)
        found = forecast(LADDER, LADDER.settings, train, tower, seed)
        forecasts.append(found["gain"])
        once, more = (
            (fit(LADDER, LADDER.settings, Task(p, None, tower)).head.scores(shown).argmax(axis=1)
             == shown.labels).mean()
            for p in (train, twice)
        )  # fmt: skip
        gains.append(more - once)
    assert abs(np.mean(forecasts) - np.mean(gains)) < 0.02
    assert np.mean(gains) > 0.01


def test_where_there_is_none():
    tower = ToyTower()
    few, many = photos(tower, 7, 1), photos(tower, MOST // len(tower.class_names) + 1, 1)
    for train in (few, many):
        assert forecast(LADDER, LADDER.settings, train, tower, 1) is None
    train = photos(tower, 8, 1)
    one, other = (forecast(LADDER, LADDER.settings, train, tower, 1) for _ in range(2))
    assert one == other
    assert one["classes"][0] in tower.class_names
