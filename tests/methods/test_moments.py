"""Many photos: sums in blocks against whole matrices, and fits whose memory does not grow with
photos times classes."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from sharpzo import linear
from sharpzo.methods import linear_probe, proker
from sharpzo.methods.choose import PenaltySettings
from sharpzo.methods.ladder import LadderSettings, fit_ladder
from sharpzo.methods.moments import Moments, subsample
from sharpzo.methods.proker import ProKeRSettings
from sharpzo.methods.registry import Task
from sharpzo.methods.token_ladder import TokenHead, TokenLadderSettings, fit_tokens
from sharpzo.metrics import normalise
from sharpzo.testing.toys import ToyTower
from sharpzo.types import Features

WIDTH = 12


def photos(classes, shots, seed=1, noise=0.7):
    """Photos near their texts, with tokens; and the texts."""
    fixed, draws = np.random.default_rng(0), np.random.default_rng(seed)
    text = normalise(fixed.normal(size=(classes, WIDTH)))
    labels = np.repeat(np.arange(classes), shots)
    vectors = normalise(text[labels] + noise * draws.normal(size=(len(labels), WIDTH)) / 3)
    tokens = fixed.normal(size=(classes, 2, 5))[labels] + draws.normal(size=(len(labels), 2, 5))
    names = tuple(f"class {k}" for k in range(classes))
    return text, Features(vectors.astype(np.float32), labels, names, tokens=tokens)


@pytest.mark.parametrize("shots", [1, 6])
@pytest.mark.parametrize("numbers", [2**22, 5 * WIDTH])
def test_blocks_add_up(monkeypatch, shots, numbers):
    monkeypatch.setattr(linear, "NUMBERS", numbers)
    _, train = photos(4, shots)
    found, rows = Moments.of(train, 5), train.vectors.astype(float)
    means = np.array([rows[train.labels == k].mean(axis=0) for k in range(4)])
    around = rows - (means[train.labels] if shots > 1 else rows.mean(axis=0))
    np.testing.assert_allclose(found.scatter, around.T @ around, atol=1e-12)
    np.testing.assert_allclose(found.spread, len(rows) * np.cov(rows.T, bias=True), atol=1e-12)
    np.testing.assert_allclose(found.gram, rows.T @ rows, atol=1e-12)
    np.testing.assert_allclose(found.means, [*means, means.mean(axis=0)], atol=1e-12)


def test_some_photos_stand_for_all_of_every_class(monkeypatch):
    monkeypatch.setattr(linear, "NUMBERS", 40 * WIDTH)
    in_order, mixed = np.repeat(np.arange(10), 16), np.tile(np.arange(10), 16)
    for labels in (in_order, mixed):
        chosen = subsample(labels, WIDTH, 10)
        assert np.bincount(labels[chosen]).tolist() == [4] * 10
        assert np.all(np.diff(chosen) > 0)
    assert len(subsample(in_order[:40], WIDTH, 10)) == 40


def test_few_blocks_and_many_make_one_ladder(monkeypatch):
    """The least squares are exact in any blocks; only choices are made on fewer photos."""
    text, train = photos(6, 40)
    settings = LadderSettings(gaussian=0.25, penalties=(0.5,))
    whole = fit_ladder(train, text, None, settings)
    monkeypatch.setattr(linear, "NUMBERS", 60 * WIDTH)
    part = fit_ladder(train, text, None, settings)
    scale = part.temperature / whole.temperature
    np.testing.assert_allclose(part.head.weight * scale, whole.head.weight, rtol=1e-4, atol=1e-5)
    assert scale == pytest.approx(1, abs=0.2)
    assert part.left_out == pytest.approx(whole.left_out, rel=0.2)


@pytest.mark.parametrize("validated", [False, True])
def test_memory_does_not_grow_with_photos_times_classes(monkeypatch, validated):
    classes, shots = 200, 20
    monkeypatch.setattr(linear, "NUMBERS", 2**14)
    text, train = photos(classes, shots)
    held = photos(classes, shots, seed=2)[1] if validated else None
    fits = (
        lambda: fit_ladder(train, text, held, LadderSettings(gaussian=0.25)).head.scores(shown),
        lambda: scores_by_tokens(train, text, held, shown),
    )
    shown = photos(classes, 1, seed=3)[1]
    for fit in fits:
        tracemalloc.start()
        try:
            scores = fit()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8 * len(train) * classes / 2
        assert (scores.argmax(axis=1) == shown.labels).mean() > 0.5


def scores_by_tokens(train, text, held, shown):
    ladder, reading = fit_tokens(train, text, held, TokenLadderSettings())
    return TokenHead(ladder.head, reading).scores(shown)


def test_a_photo_of_validation_counts_once_however_many_there_are(monkeypatch):
    """The penalty is that of the photos that stand for the validation photos."""
    text, train = photos(5, 8)
    _, held = photos(5, 30, seed=2)
    settings = LadderSettings(penalties=(0.01, 0.3, 100.0))
    twice = replace(
        held,
        vectors=np.repeat(held.vectors, 2, axis=0),
        labels=np.repeat(held.labels, 2),
        tokens=np.repeat(held.tokens, 2, axis=0),
    )
    whole = fit_ladder(train, text, held, settings)
    monkeypatch.setattr(linear, "NUMBERS", 150 * WIDTH)
    assert fit_ladder(train, text, twice, settings).penalty == whole.penalty


def test_a_linear_probe_of_many_photos_is_that_of_one_block(monkeypatch):
    """In blocks and float32 it ends where the whole problem does in float64."""
    _, train = photos(6, 40)
    task, settings = Task(train, None, ToyTower(classes=6)), PenaltySettings(penalty=1e-3)
    whole = linear_probe.fit(settings, task).head.scores(train)
    monkeypatch.setattr(linear, "NUMBERS", 300)
    part = linear_probe.fit(settings, task).head.scores(train)
    np.testing.assert_allclose(part, whole, atol=0.01)
    assert not np.array_equal(part, whole)


def test_proker_of_many_photos_is_close_to_the_exact_one(monkeypatch):
    """With as many landmarks as photos it is the same solution, with fewer a rougher one."""
    _, train = photos(6, 40)
    shown = photos(6, 20, seed=4)[1]
    task, settings = Task(train, None, ToyTower(classes=6, features=WIDTH)), ProKeRSettings()
    exact = proker.fit(settings, task)
    assert "landmarks" not in exact.notes
    monkeypatch.setattr(proker, "EXACT", 100)
    monkeypatch.setattr(linear, "NUMBERS", 300 * 50)
    errors = {}
    for landmarks in (240, 120, 12):
        monkeypatch.setattr(proker, "LANDMARKS", landmarks)
        found = proker.fit(settings, task)
        assert found.notes["landmarks"] == len(found.head.keys) == landmarks
        errors[landmarks] = np.abs(found.head.scores(shown) - exact.head.scores(shown)).max()
    assert errors[240] < 1e-4
    assert errors[240] < errors[120] < errors[12]
