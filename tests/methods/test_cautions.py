"""Where the untuned model only guesses, a prompt that all classes share is no help."""

import dataclasses
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import BACKPROPAGATES
from sharpzo.budget import Budget
from sharpzo.methods import METHODS, find, fit
from sharpzo.methods.searching import cautions, hopeless
from sharpzo.metrics import binomial_tail
from sharpzo.testing.methods import toy_task
from sharpzo.types import Features

METHOD = find("sharpzo")


class Scripted:
    """Answers written into the photos' vectors."""

    def scores(self, photos):
        return photos.vectors


def photos(labels, answers, classes):
    """Photos of these classes that the scripted model takes for those."""
    names = tuple(f"class {k}" for k in range(classes))
    return Features(np.eye(classes, dtype=np.float32)[answers], np.array(labels), names)


def balanced(classes, each, right):
    """``each`` photos per class, ``right`` recognised, the others taken for the next class."""
    labels = np.repeat(np.arange(classes), each)
    order = np.random.default_rng(1).permutation(len(labels))
    answers = (labels + 1) % classes
    answers[order[:right]] = labels[order[:right]]
    return photos(labels, answers, classes)


@pytest.mark.parametrize(
    ("classes", "each", "right", "guesses"),
    [
        (102, 20, 61, True),  # significantly better than guessing, and no better in effect
        (102, 20, 400, False),
        (10, 20, 20, True),
        (10, 20, 45, False),
        (10, 20, 0, True),
        (3, 5, 6, True),  # may be luck
        (3, 5, 13, False),
    ],
)
def test_what_counts_as_guessing(classes, each, right, guesses):
    sentence = hopeless(METHOD, Scripted(), [balanced(classes, each, right)])
    assert (sentence is not None) == guesses
    if sentence:
        assert f"{right:,} of {classes * each:,} training and validation photos" in sentence
        assert f"guessing on about {each}" in sentence


def test_the_most_frequent_class_is_no_knowledge():
    labels = [0] * 90 + [1] * 10
    assert hopeless(METHOD, Scripted(), [photos(labels, [0] * 100, 2)])
    assert hopeless(METHOD, Scripted(), [photos(labels, labels, 2)]) is None
    assert hopeless(METHOD, Scripted(), [photos([0] * 9, [0] * 9, 2)])


def test_validation_photos_count_and_test_photos_do_not():
    received = []
    bad, good = balanced(10, 5, 5), balanced(10, 5, 50)
    for encoded, warned in (
        ({"training": bad, "validation": good}, False),
        ({"training": bad, "validation": bad}, True),
        ({"training": bad, "test": good}, True),
        ({"training": bad}, True),
    ):
        assert bool(cautions(METHOD, Scripted(), encoded, received.append)) == warned
    assert len(received) == 3
    assert not cautions(find("fgn-csc"), Scripted(), {"training": bad}, received.append)
    with pytest.warns(UserWarning, match=r"ladder\+tokens or fgn-csc"):
        cautions(METHOD, Scripted(), {"training": bad})


@pytest.mark.parametrize("name", [name for name in METHODS if name not in BACKPROPAGATES])
def test_a_method_that_leaves_one_context_says_so(name):
    """And no other; what it leaves is looked at, not its name."""
    settings = METHODS[name].configure(None, {"batch": 2} if name == "blackvip" else None)
    task = dataclasses.replace(toy_task(METHODS[name]), budget=Budget(forwards=30))
    fitted = fit(METHODS[name], settings, task)
    assert METHODS[name].shared_context == ("context" in fitted.arrays)
    assert METHODS["coop"].shared_context != METHODS["coop-csc"].shared_context


@given(st.integers(0, 40), st.integers(1, 40), st.integers(0, 10))
def test_tails_of_the_binomial(hits, trials, tenths):
    p = tenths / 10
    exact = sum(comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(hits, trials + 1))
    assert binomial_tail(hits, trials, p) == pytest.approx(exact, abs=1e-12)


def test_tails_of_many_trials():
    assert binomial_tail(10_000, 20_000, 0.5) == pytest.approx(0.5, abs=0.01)
