import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpzo.metrics import calibration_error, harmonic_mean, softmax


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


def test_harmonic_mean():
    assert harmonic_mean(0.5, 0.5) == 0.5
    assert harmonic_mean(0.9, 0.0) == harmonic_mean(0.0, 0.0) == 0
