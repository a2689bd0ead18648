"""Landscapes against losses computed one by one."""

import numpy as np
import pytest

from fakes import FakeTower, make_features
from sharpzo.errors import InputError
from sharpzo.metrics import calibration_error
from sharpzo.report.evidence import reliability_bins
from sharpzo.report.landscape import (
    Plane,
    context_landscapes,
    directions,
    grid,
    projection_landscapes,
)


def slow_loss(text, tower, photos):
    """Mean cross-entropy in float64, photo by photo."""
    text = text.astype(np.float64)
    text = text / np.linalg.norm(text, axis=1, keepdims=True)
    losses = []
    for x, label in zip(photos.vectors.astype(np.float64), photos.labels, strict=True):
        logits = tower.logit_scale * text @ x
        losses.append(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label])
    return float(np.mean(losses))


@pytest.fixture
def toy():
    tower = FakeTower()
    return tower, make_features(tower)


def test_directions_are_as_long_as_the_rows_they_move(toy):
    point = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.1], [0.0, 0.0, 0.0]])
    one, two = directions(point, seed=1)
    for direction in (one, two):
        assert np.linalg.norm(direction, axis=1) == pytest.approx([5.0, 0.1, 0.0])
    assert not np.allclose(one, two)
    again, _ = directions(point, seed=1)
    assert np.array_equal(one, again)
    other, _ = directions(point, seed=2)
    assert not np.allclose(one, other)


def test_a_landscape_is_a_real_grid_of_losses(toy):
    tower, photos = toy
    tuned = tower.start + 0.1
    received = []
    found = context_landscapes(
        tower, photos, {"before": tower.start, "after": tuned}, side=5, radius=0.8, seed=3,
        progress=lambda done, total: received.append((done, total)),
    )  # fmt: skip
    assert [one.forwards for one in found.values()] == [25, 25]
    assert received[-1] == (50, 50)
    after = found["after"]
    u, v = directions(tuned, seed=3)
    axis = np.linspace(-0.8, 0.8, 5)
    for i, j in ((0, 0), (2, 2), (1, 4), (4, 1)):
        context = tuned + axis[i] * u + axis[j] * v
        expected = slow_loss(tower.forward(context[None].astype(np.float32))[0], tower, photos)
        assert after.losses[i, j] == pytest.approx(expected, rel=1e-4)
    assert after.centre == after.losses[2, 2]
    near = [after.losses[i, j] for i, j in ((2, 2), (1, 2), (3, 2), (2, 1), (2, 3))]
    assert after.rise == pytest.approx(np.mean(near) - after.centre)


def test_the_landscape_of_a_projection(toy):
    tower, photos = toy
    change = 0.05 * np.random.default_rng(1).normal(size=tower.projection.shape)
    found = projection_landscapes(tower, photos, change, side=3, radius=0.5, seed=2)
    states = tower.states(tower.start[None])[0].astype(np.float64)
    lengths = np.linalg.norm(states @ tower.projection.T, axis=1, keepdims=True)
    weights = tower.projection + change
    u, v = directions(weights, seed=2)
    moved = weights - 0.5 * u + 0.5 * v
    logits = tower.logit_scale * photos.vectors @ (states @ moved.T / lengths).T
    peak = logits.max(axis=1)
    losses = (
        np.log(np.exp(logits - peak[:, None]).sum(axis=1)) + peak
        - logits[np.arange(len(photos)), photos.labels]
    )  # fmt: skip
    assert found["after"].losses[0, 2] == pytest.approx(losses.mean(), rel=1e-6)
    untuned = slow_loss(tower.forward(tower.start[None])[0], tower, photos)
    assert found["before"].centre == pytest.approx(untuned, rel=1e-5)


def test_a_plane_goes_through_its_point(toy):
    tower, _ = toy
    plane = Plane(tower.start, seed=1)
    assert np.array_equal(plane(np.zeros((1, 2)))[0], tower.start)
    u, _ = directions(tower.start, seed=1)
    assert np.allclose(plane(np.array([[1.0, 0.0]]))[0] - tower.start, u, atol=1e-6)


@pytest.mark.parametrize("side", [1, 4])
def test_a_grid_needs_a_middle(side):
    with pytest.raises(InputError, match="middle"):
        grid(side, 1.0)


def test_bins_give_the_calibration_error():
    draws = np.random.default_rng(1)
    probabilities = draws.dirichlet(np.ones(4), size=200)
    labels = draws.integers(4, size=200)
    confidence, accuracy, counts = reliability_bins(probabilities, labels)
    assert counts.sum() == 200
    gap = (np.abs(accuracy - confidence) * counts).sum() / 200
    assert gap == pytest.approx(calibration_error(probabilities, labels))
