import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpzo.metrics import (
    calibration_error,
    cross_entropy,
    loss_and_error,
    sigmoid_loss,
    sigmoid_loss_and_error,
    softmax,
)


@given(st.integers(1, 200), st.integers(2, 6), st.integers(0, 100))
def test_calibration_error_is_the_binned_definition(n, classes, seed):
    draws = np.random.default_rng(seed)
    probabilities = softmax(3 * draws.normal(size=(n, classes)))
    labels = draws.integers(classes, size=n)
    confidence, expected = probabilities.max(axis=1), 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if inside.any():
            right = (probabilities[inside].argmax(axis=1) == labels[inside]).mean()
            expected += inside.mean() * abs(right - confidence[inside].mean())
    assert calibration_error(probabilities, labels) == pytest.approx(expected, abs=1e-9)


def test_certain_and_wrong_is_as_bad_as_it_gets():
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([1])) == 1


def test_the_error_is_the_derivative_of_the_loss():
    logits, labels = np.random.default_rng(1).normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    moved = np.random.default_rng(2).normal(size=(5, 3))
    loss, error = loss_and_error(logits, labels)
    ahead, behind = (cross_entropy(logits + mu * moved, labels) for mu in (1e-5, -1e-5))
    assert loss == cross_entropy(logits, labels)
    assert (error * moved).sum() / 5 == pytest.approx((ahead - behind) / 2e-5, rel=1e-7)


def test_the_loss_of_sigmoids_and_its_error():
    draws = np.random.default_rng(3)
    logits, labels = 20 * draws.normal(size=(6, 4)), np.array([0, 1, 2, 3, 1, 1])
    signs = 2 * np.eye(4)[labels] - 1
    wanted = np.log1p(np.exp(-signs * logits)).sum(axis=1).mean()
    loss, error = sigmoid_loss_and_error(logits, labels)
    assert loss == pytest.approx(wanted)
    batch = np.stack([logits, logits + 1])
    assert sigmoid_loss(batch, labels)[0] == pytest.approx(wanted)
    step = 1e-6
    for place in np.ndindex(logits.shape):
        moved = logits.copy()
        moved[place] += step
        slope = (sigmoid_loss(moved, labels) - loss) / step
        assert slope == pytest.approx(error[place] / len(labels), abs=1e-5)
    assert np.isfinite(sigmoid_loss(np.array([[1e4, -1e4]], np.float32), np.array([1])))
