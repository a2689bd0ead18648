"""The closed form against the problem that it solves, and what names without photos get."""

from dataclasses import replace

import numpy as np
import pytest

from sharpzo.data.demo import CLASS_NAMES
from sharpzo.errors import ArtifactError
from sharpzo.methods import ladder
from sharpzo.methods.gda import gaussian
from sharpzo.methods.ladder import LadderSettings, fit_ladder, other_names, recorded_rows
from sharpzo.methods.moments import Moments
from sharpzo.metrics import normalise
from sharpzo.testing.toys import ToyTower
from sharpzo.types import Features

NAMES = CLASS_NAMES[:5]
TEXT = normalise(np.random.default_rng(0).normal(size=(5, 12)))
ONE = LadderSettings(penalties=(0.7,), temperatures=(1.0,))


def photos(shots, seed=1, classes=range(5)):
    rng = np.random.default_rng(seed)
    labels = np.repeat(list(classes), shots)
    middles = 2 * TEXT + np.random.default_rng(9).normal(size=(5, 12))
    vectors = normalise(middles[labels] + rng.normal(size=(len(labels), 12)))
    return Features(vectors.astype(np.float32), labels, NAMES)


def test_the_offsets_minimise_what_the_page_says():
    train = photos(4)
    head = fit_ladder(train, TEXT, None, ONE).head
    sharp, vectors = ONE.sharpness, train.vectors.astype(float)
    factor, shift = np.polyfit((vectors @ TEXT.T).ravel(), np.eye(5)[train.labels].ravel(), 1)
    offsets = head.weight / sharp - factor * TEXT
    scores = vectors @ (factor * TEXT + offsets).T + shift
    gradient = (scores - np.eye(5)[train.labels]).T @ vectors + 0.7 * offsets
    np.testing.assert_allclose(gradient, 0, atol=1e-4)
    np.testing.assert_allclose(head.scores(train), sharp * scores, atol=1e-4)


def test_photos_are_left_out_one_by_one_without_fitting_again(monkeypatch):
    """The penalty chosen without validation photos is the one of the lowest explicit error."""
    train, penalties = photos(3), (0.03, 0.3, 1.0, 3.0, 30.0)
    vectors, one_hot = train.vectors.astype(float), np.eye(5)[train.labels]
    factor, shift = np.polyfit((vectors @ TEXT.T).ravel(), one_hot.ravel(), 1)
    left = one_hot - factor * vectors @ TEXT.T - shift

    def error(penalty):
        total = 0.0
        for i in range(len(train)):
            rest = np.arange(len(train)) != i
            gram = vectors[rest].T @ vectors[rest] + penalty * np.eye(12)
            offsets = np.linalg.solve(gram, vectors[rest].T @ left[rest])
            total += ((left[i] - vectors[i] @ offsets) ** 2).sum()
        return total

    best = min(penalties, key=error)
    assert best not in (penalties[0], penalties[-1])  # or the test could not fail
    chosen = fit_ladder(train, TEXT, None, replace(ONE, penalties=penalties)).penalty
    assert chosen == best


def test_with_one_photo_a_class_the_expert_is_silent():
    both = replace(ONE, gaussian=0.25)
    one, four = photos(1), photos(4)
    assert np.array_equal(
        fit_ladder(one, TEXT, None, ONE).head.weight, fit_ladder(one, TEXT, None, both).head.weight
    )
    assert not np.allclose(
        fit_ladder(four, TEXT, None, ONE).head.weight,
        fit_ladder(four, TEXT, None, both).head.weight,
    )


@pytest.mark.parametrize("gaussian", [0.0, 0.25])
def test_names_without_photos_keep_the_order_of_their_texts(gaussian):
    fitted = fit_ladder(photos(4), TEXT, photos(2, 5), LadderSettings(gaussian=gaussian))
    kept = {**fitted.arrays(), **fitted.head.arrays()}
    text = normalise(np.random.default_rng(3).normal(size=(4, 12)))
    shown = photos(20, 7)
    new = other_names(kept, text, np.full(4, -1)).scores(shown)
    cosines = shown.vectors @ text.T
    assert np.array_equal(new.argsort(axis=1), cosines.argsort(axis=1))
    mixed = other_names(kept, np.concatenate([text[:2], TEXT[:1]]), np.array([-1, -1, 0]))
    np.testing.assert_allclose(mixed.scores(shown)[:, :2], new[:, :2], rtol=1e-4)
    np.testing.assert_allclose(
        mixed.scores(shown)[:, 2], fitted.head.scores(shown)[:, 0], rtol=1e-4, atol=1e-5
    )


def test_a_class_without_photos_is_no_more_than_its_name():
    fitted = fit_ladder(photos(4, classes=(0, 1, 3, 4)), TEXT, None, replace(ONE, gaussian=0.25))
    kept = {**fitted.arrays(), **fitted.head.arrays()}
    as_name = other_names(kept, TEXT[2:3], np.array([-1]))
    np.testing.assert_allclose(fitted.head.weight[2], as_name.weight[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fitted.head.bias[2], as_name.bias[0], rtol=1e-4, atol=1e-5)


def test_a_text_that_misleads_still_orders_names_without_photos():
    """Even where photos lie opposite to their texts, the factor on cosines stays above zero."""
    vectors = np.repeat(-TEXT, 3, axis=0).astype(np.float32)
    train = Features(vectors, np.repeat(np.arange(5), 3), NAMES)
    fitted = fit_ladder(train, TEXT, None, ONE)
    assert fitted.unseen[2] > 0
    assert np.array_equal(fitted.head.scores(train).argmax(axis=1), train.labels)


def test_an_artefact_without_its_arrays_is_told():
    with pytest.raises(ArtifactError, match="unseen_weight"):
        other_names(fit_ladder(photos(2), TEXT, None, ONE).head.arrays(), TEXT, np.zeros(5, int))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [(b"cat\xff", "array 'names' is no text"), (b"cat\0dog\0owl\0cow", "4 names of 3 classes")],
)
def test_damaged_names_are_refused(names, sentence):
    arrays = {"names": np.frombuffer(names, np.uint8), "bias": np.zeros(3, np.float32)}
    with pytest.raises(ArtifactError, match=sentence):
        recorded_rows(arrays, ToyTower(3))


def as_if_equal(monkeypatch):
    """Without equations 3 and 4."""
    monkeypatch.setattr(ladder, "balance", lambda own, labels, counts: 0.0)
    monkeypatch.setattr(ladder, "excess_variance", lambda counts: 0.0)


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_a_class_of_few_photos_is_not_passed_over(monkeypatch, weight):
    """Over draws, so that no path of rounded numbers decides."""
    found = {"raised": [], "as fitted": []}
    settings = LadderSettings(gaussian=weight)
    for seed in range(20):
        many, shown = photos(16, seed), photos(40, 100 + seed)
        train = many.take(np.r_[0:2, 16:80])  # two photos of the first class
        for name in found:
            if name == "as fitted":
                as_if_equal(monkeypatch)
            right = fit_ladder(train, TEXT, None, settings).head.scores(shown)
            right = right.argmax(axis=1) == shown.labels
            recalls = [right[shown.labels == k].mean() for k in range(5)]
            found[name].append((recalls[0], np.mean(recalls)))
            monkeypatch.undo()
    rare, balanced = (np.mean(found["raised"], 0) - np.mean(found["as fitted"], 0)).tolist()
    assert rare > 0.2
    assert balanced > 0.02


def test_the_expert_is_given_back_what_an_error_of_the_mean_takes():
    """What a photo loses to its class by the mean of n photos, against that of very many."""
    rng, lost, expected = np.random.default_rng(0), [], []
    middles = np.random.default_rng(1).normal(size=(5, 4))  # they span the space
    labels = np.repeat(np.arange(5), [2, 40, 40, 40, 40])
    for _ in range(200):
        rows = middles[labels] + rng.normal(size=(len(labels), 4))
        moments = Moments.of(Features(rows, labels, NAMES), 5)
        weight, _, away = gaussian(moments, len(rows))
        shown = middles[0] + rng.normal(size=(200, 4))
        means = np.array([rows[labels == k].mean(axis=0) for k in range(5)])
        precision = np.linalg.lstsq(means, weight, rcond=None)[0]
        near = (shown - means[0]) @ precision * (shown - means[0])
        true = (shown - middles[0]) @ precision * (shown - middles[0])
        lost.append((near - true).sum(axis=1).mean() / 2)
        expected.append(away / 2)
    assert np.mean(lost) == pytest.approx(np.mean(expected), rel=0.15)


def test_equal_numbers_of_photos_change_nothing(monkeypatch):
    """To the bit, also where some names have no photo."""
    for train in (photos(1), photos(7), photos(3, classes=(0, 2, 3))):
        one = fit_ladder(train, TEXT, None, LadderSettings(gaussian=0.25)).head
        as_if_equal(monkeypatch)
        other = fit_ladder(train, TEXT, None, LadderSettings(gaussian=0.25)).head
        monkeypatch.undo()
        assert np.array_equal(one.weight, other.weight)
        assert np.array_equal(one.bias, other.bias)
