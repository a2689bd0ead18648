"""SharpZO from exact slopes: gradients, what is asked for, and when."""

import dataclasses

import numpy as np
import pytest

from sharpzo.errors import InputError
from sharpzo.optim import (
    CmaSettings,
    SharpCma,
    SharpnessSettings,
    SharpZo,
    SharpZoSettings,
    SparseZo,
    SwitchSettings,
    ZoSettings,
)
from sharpzo.types import Reason

DIM = 6
SCALES = np.linspace(1, 3, DIM)
SETTINGS = SharpZoSettings(
    CmaSettings(population_size=6, sigma=0.3),
    SharpnessSettings(estimator="jvp", directions=3, refresh_every=2),
    SwitchSettings(generation=4),
    ZoSettings(learning_rate=0.02, queries=2, refresh=3, exact=True, directions=4),
)


def gradient(point):
    return 2 * SCALES * (point - 1)


class Sides:
    """A bowl of unequal sides around 1, and its slopes."""

    def losses(self, points, step=0):
        return (points - 1) ** 2 @ SCALES

    def slopes(self, point, directions, step=0):
        return self.losses(point[None]), directions @ gradient(point)


def answer(request):
    return request.answer(Sides())


def drive(search, tells):
    for _ in range(tells):
        search.tell(*answer(search.ask()))


def test_all_directions_give_the_gradient_and_the_published_shift():
    """With p = d the shift is that of CGE, whose differences of a quadratic are exact, too."""
    how = SharpnessSettings(estimator="jvp", directions=DIM, refresh_every=1, rho=0.3)
    fast = SharpCma(DIM, SETTINGS.cma, how, seed=1)
    published = SharpCma(DIM, SETTINGS.cma, dataclasses.replace(how, estimator="cge"), seed=1)
    for _ in range(5):
        point = fast.point
        drive(fast, 1)
        drive(published, 1)
        np.testing.assert_allclose(fast.gradient, gradient(point), rtol=1e-9)
        np.testing.assert_allclose(fast.shift(), published.shift(), rtol=1e-6)
        for search in (fast, published):
            drive(search, 1)


def test_estimates_at_one_point_only_get_better():
    """The last estimate is among the directions, so its part is never lost."""
    how = SharpnessSettings(estimator="jvp", directions=2, refresh_every=1)
    search = SharpCma(DIM, SETTINGS.cma, how, seed=1)
    true = gradient(search.point)
    cosines = []
    for step in range(60):  # each adds one random direction: all six are seen in the end
        search.step = step  # other random directions, the same point
        asked = search.ask()
        np.testing.assert_allclose(asked.directions @ asked.directions.T, np.eye(2), atol=1e-12)
        search.tell(*answer(asked))
        cosines.append(search.gradient @ true / np.linalg.norm(search.gradient))
    assert (np.diff(cosines) >= -1e-9).all()
    assert cosines[-1] > 0.9 * np.linalg.norm(true) > 0


def test_what_is_asked_for_and_when():
    search = SharpZo(DIM, SETTINGS, seed=1)
    seen = []
    for _ in range(12):
        asked = search.ask()
        many = len(asked.directions) or -len(asked.points)
        seen.append((search.stage, search.step, many))
        search.tell(*answer(asked))
    one, two = "sharp-cma", "sparse-zo"
    assert seen == [
        (one, 0, 3), (one, 0, -6), (one, 1, -6), (one, 2, 3), (one, 2, -6), (one, 3, -6),
        (two, 4, 4), (two, 4, 2), (two, 5, 2), (two, 6, 2), (two, 7, 4), (two, 7, 2),
    ]  # fmt: skip


def test_an_update_is_the_mean_of_the_slopes_on_the_mask():
    """Eq. 4 with exact slopes; eq. 5 with the gradient's part that is known."""
    how = ZoSettings(learning_rate=0.1, queries=2, keep=0.5, exact=True, directions=DIM)
    start = np.linspace(-1, 2, DIM)
    search = SparseZo(DIM, how, seed=3, start=start)
    drive(search, 1)
    g = gradient(start) ** 2
    score = start**2 * (g - g.mean()) / g.std()
    assert set(np.flatnonzero(search.mask)) == set(np.argsort(-score)[:3])
    asked = search.ask()
    assert not asked.directions[:, ~search.mask].any()
    search.tell(*answer(asked))
    step = np.mean([(u @ gradient(start)) * u for u in asked.directions], axis=0)
    np.testing.assert_allclose(search.point, start - 0.1 * step, rtol=1e-12, atol=1e-12)


def test_the_mask_begins_with_what_stage_1_knew():
    search = SharpZo(DIM, SETTINGS, seed=1)
    while search.stage == "sharp-cma":
        known = search._now.gradient
        drive(search, 1)
    asked = search.ask()
    inside = known @ asked.directions.T @ asked.directions
    np.testing.assert_allclose(inside, known, atol=1e-9)


def test_a_point_that_is_no_number():
    """Neither stage goes on from a loss that is not finite; slopes that are not count as 0."""
    for search in (
        SharpCma(DIM, SETTINGS.cma, SETTINGS.sharpness, seed=1),
        SparseZo(DIM, ZoSettings(score="dense", exact=True), seed=1),
    ):
        many = len(search.ask().directions)
        search.tell(np.ones(1), np.full(many, np.nan))
        assert search.stopped is None
        assert np.array_equal(search.point, np.zeros(DIM))
        drive(search, 1)
        assert search.step >= 1
        while not len(search.ask().directions):
            drive(search, 1)
        before = search.point
        search.tell(np.array([np.inf]), np.ones(many))
        assert search.stopped is Reason.DIVERGED
        assert np.array_equal(search.point, before)


def test_wrong_settings():
    with pytest.raises(InputError, match="directions"):
        SharpnessSettings(estimator="jvp", directions=1)
    with pytest.raises(InputError, match="directions"):
        ZoSettings(directions=1)
    with pytest.raises(InputError, match="rho"):
        SharpnessSettings(rho=-1.0)
