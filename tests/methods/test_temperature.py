"""A temperature that few photos choose stays near its prior, and its prior near the truth."""

from dataclasses import replace

import numpy as np
import pytest

from sharpzo.data.demo import CLASS_NAMES
from sharpzo.methods.choose import centre, choose_temperature, spread
from sharpzo.methods.ladder import LadderSettings, fit_ladder
from sharpzo.metrics import normalise, softmax
from sharpzo.types import Features

NAMES = CLASS_NAMES[:5]
TEXT = normalise(np.random.default_rng(0).normal(size=(5, 12)))
GRID = LadderSettings().temperatures


def photos(shots, seed, noise=1.0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(5), shots)
    middles = 2 * TEXT + np.random.default_rng(9).normal(size=(5, 12))
    vectors = normalise(middles[labels] + noise * rng.normal(size=(len(labels), 12)))
    return Features(vectors.astype(np.float32), labels, NAMES)


@pytest.mark.parametrize("truth", [0.3, 8.0])
def test_more_photos_lead_further_from_the_prior(truth):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(400, 5)) * 3
    labels = (logits / truth + rng.gumbel(size=logits.shape)).argmax(axis=1)  # calibrated there
    distance = []
    for copies in (1, 4, 16, 64):  # the same evidence, more of it
        held_out = np.tile(logits[:40], (copies, 1)), np.tile(labels[:40], copies)
        chosen = choose_temperature(GRID, 1.6, 0.2, held_out)
        assert chosen in GRID
        distance.append(abs(np.log(chosen / 1.6)))
    assert distance == sorted(distance)
    assert distance[-1] > distance[0]
    found = choose_temperature(GRID, 1.6, 0.2, (logits, labels))
    assert abs(np.log(found / truth)) < abs(np.log(1.6 / truth))


def test_a_few_right_answers_do_not_choose_the_lowest_temperature():
    """Cross-entropy alone falls with the temperature as long as every photo is classified."""
    settings = LadderSettings(gaussian=0.25)
    fitted = fit_ladder(photos(4, 1, 0.2), TEXT, photos(1, 2, 0.2), settings)
    assert fitted.temperature > 4 * min(GRID)
    strangers = normalise(np.random.default_rng(3).normal(size=(200, 12))).astype(np.float32)
    logits = fitted.head.scores(Features(strangers, np.zeros(200, int), NAMES))
    assert softmax(logits).max(axis=1).max() < 0.999


def test_without_validation_the_scale_of_the_logits_does_not_matter():
    train, shown = photos(3, 1), photos(5, 2)
    usual, wider = [
        softmax(fit_ladder(train, TEXT, None, LadderSettings(sharpness=s)).head.scores(shown))
        for s in (20.0, 60.0)
    ]
    np.testing.assert_allclose(usual, wider, atol=1e-4)


def test_the_prior_knows_how_training_photos_look_when_left_out():
    """Its centre is that of scores from fits without the photo, a and b apart."""
    train, penalty = photos(3, 1), 0.7
    vectors, one_hot = train.vectors.astype(float), np.eye(5)[train.labels]
    factor, shift = np.polyfit((vectors @ TEXT.T).ravel(), one_hot.ravel(), 1)
    left = one_hot - factor * vectors @ TEXT.T - shift
    scores = np.empty((len(train), 5))
    for i in range(len(train)):
        rest = np.arange(len(train)) != i
        gram = vectors[rest].T @ vectors[rest] + penalty * np.eye(12)
        offsets = np.linalg.solve(gram, vectors[rest].T @ left[rest])
        scores[i] = factor * vectors[i] @ TEXT.T + shift + vectors[i] @ offsets
    settings = LadderSettings(penalties=(penalty,))
    found = fit_ladder(train, TEXT, None, settings).temperature
    assert found == pytest.approx(centre(settings.sharpness * spread(scores), 3))


@pytest.mark.parametrize("temperatures", [(1.0,), (30.0, 50.0)])
def test_the_temperature_stays_in_its_range(temperatures):
    settings = replace(LadderSettings(gaussian=0.25), temperatures=temperatures)
    for held in (None, photos(2, 5)):
        fitted = fit_ladder(photos(4, 1), TEXT, held, settings)
        assert min(temperatures) <= fitted.temperature <= max(temperatures)


@pytest.mark.parametrize("validated", [False, True])
def test_one_class_has_no_spread_and_no_trouble(validated):
    train = Features(photos(4, 1).vectors[:4], np.zeros(4, int), NAMES[:1])
    held = train if validated else None
    fitted = fit_ladder(train, TEXT[:1], held, LadderSettings(gaussian=0.25))
    assert np.isfinite(fitted.head.weight).all()
    assert fitted.temperature in GRID
