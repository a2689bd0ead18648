"""The rule against what it is a shortcut for: photos left out one by one, and dense inverses."""

from dataclasses import replace

import numpy as np
import pytest

from sharpzo.errors import InputError
from sharpzo.fitting.strangers import ALL, COUNTER, RIDGE, SHRINKAGE, find_strangers, unseen_scores
from sharpzo.metrics import normalise
from sharpzo.types import Features

WIDTH = 6
MIDDLES = np.random.default_rng(0).normal(size=(8, WIDTH))


def photos(shots, classes=range(4), seed=1, noise=0.4):
    rng = np.random.default_rng(seed)
    labels = np.repeat(list(classes), shots)
    states = MIDDLES[labels] + noise * rng.normal(size=(len(labels), WIDTH))
    vectors = normalise(states)
    return Features(vectors, labels, tuple("abcdefgh"), states=states)


def dense(x, labels, ridge, photo, total_ridge):
    """Both distances of one photo, by the definition."""
    classes = np.unique(labels)
    means = {k: x[labels == k].mean(axis=0) for k in classes}
    rest = x - np.array([means[k] for k in labels])
    inverse = np.linalg.inv(rest.T @ rest + ridge * np.eye(WIDTH))
    near = min(
        (photo - means[k]) @ inverse @ (photo - means[k]) / (1 + 1 / (labels == k).sum())
        for k in classes
    )
    away = x - x.mean(axis=0)
    inverse = np.linalg.inv(away.T @ away + total_ridge * np.eye(WIDTH))
    far = (photo - x.mean(axis=0)) @ inverse @ (photo - x.mean(axis=0)) / (1 + 1 / len(x))
    return near, far


def ridges(x, labels):
    means = np.array([x[labels == k].mean(axis=0) for k in labels])
    return [SHRINKAGE * (r**2).sum() / WIDTH for r in (x - means, x - x.mean(axis=0))]


def test_photos_are_left_out_exactly():
    train = photos(3)
    x, labels = normalise(train.states), train.labels
    ridge, total = ridges(x, labels)
    rest = np.arange(len(x))
    found = np.array([
        dense(x[rest != i], labels[rest != i], ridge, x[i], total) for i in rest
    ])  # fmt: skip
    near, far = ((found - found.mean(axis=0)) / found.std(axis=0)).T
    rule = find_strangers(train)
    np.testing.assert_allclose(rule.left_out, np.sort(-near + ALL * far), atol=1e-9)
    other = photos(2, range(8), seed=5)
    given = [dense(x, labels, ridge, one, total) for one in normalise(other.states)]
    near, far = ((np.array(given) - found.mean(axis=0)) / found.std(axis=0)).T
    np.testing.assert_allclose(rule.scores(other), -near + ALL * far, atol=1e-9)


def test_counter_examples_add_the_margin_of_a_ridge_regression():
    train, none = photos(4), photos(3, (5, 6), seed=2)
    x, y = normalise(train.states), normalise(none.states)

    def margins(rows, labels, shown):
        every = np.concatenate([rows, y])
        targets = np.eye(5)[np.r_[labels, np.full(len(y), 4)]]
        # The sides weigh what they do with all photos, also where one is left out.
        weights = np.r_[np.full(len(rows), 0.5 / len(x)), np.full(len(y), 0.5 / len(y))]
        weights *= len(x) + len(y)
        design = np.c_[every, np.ones(len(every))]
        penalty = np.diag([RIDGE] * WIDTH + [0.0])
        slopes = np.linalg.solve(
            design.T @ (weights[:, None] * design) + penalty,
            design.T @ (weights[:, None] * targets),
        )
        scores = np.c_[shown, np.ones(len(shown))] @ slopes
        return scores[:, :4].max(axis=1) - scores[:, 4]

    rest = np.arange(len(x))
    held = np.array([
        margins(x[rest != i], train.labels[rest != i], x[i : i + 1])[0] for i in rest
    ])  # fmt: skip
    other = photos(2, range(8), seed=5)
    extra = find_strangers(train, none).scores(other) - find_strangers(train).scores(other)
    expected = margins(x, train.labels, normalise(other.states))
    np.testing.assert_allclose(extra, COUNTER * (expected - held.mean()) / held.std(), atol=1e-9)


def test_strangers_are_told_and_few_known_photos_are_lost():
    lost, told, helped = [], [], []
    for seed in range(10):
        train = photos(16, seed=seed)
        rule, shown = find_strangers(train), photos(40, seed=100 + seed)
        strange = photos(40, (4, 5, 6, 7), seed=200 + seed)
        lost.append((rule.scores(shown) < rule.threshold()).mean())
        told.append((rule.scores(strange) < rule.threshold()).mean())
        better = find_strangers(train, photos(4, (4, 5), seed=300 + seed))
        helped.append((better.scores(strange) < better.threshold()).mean())
    assert 0.01 < np.mean(lost) < 0.09
    assert np.mean(helped) > np.mean(told) > 0.3
    assert rule.threshold(0.2) > rule.threshold(0.05) > rule.threshold(0) == -np.inf
    with pytest.raises(InputError, match=r"give 0 to 0\.5"):
        rule.threshold(0.7)


def test_where_there_is_no_rule():
    assert find_strangers(photos(1)) is None
    assert find_strangers(replace(photos(4), states=None)) is None
    assert unseen_scores(photos(4, (0, 1))) is None
    train = photos(16)
    assert unseen_scores(train).mean() < find_strangers(train).left_out.mean()
    two = photos(5).take(np.r_[0:5, 5:6, 10:20])  # one class has a single photo
    assert len(find_strangers(two).left_out) == 15
