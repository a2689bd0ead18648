import numpy as np
import pytest

from sharpzo.errors import InputError
from sharpzo.optim import SparseZo, ZoSettings
from sharpzo.optim.zo import mask, scores
from sharpzo.rng import generator
from sharpzo.types import Reason

from .problems import drive, quadratic

START = np.array([3.0, -1.0, 0.5, 2.0])


def direction(seed, step, j, rows=1, dim=4):
    return generator(seed, "zo", step=step, direction=j).standard_normal((rows, dim))


def test_one_step_is_equation_4_and_plain_descent():
    settings = ZoSettings(learning_rate=0.01, mu=1e-3, queries=2, score="dense")
    search = SparseZo(4, settings, seed=9, start=START)
    u = np.concatenate([direction(9, 0, 0), direction(9, 0, 1)])
    np.testing.assert_allclose(
        search.ask().points, np.concatenate([START + 1e-3 * u, START - 1e-3 * u]), atol=1e-14
    )
    drive(search, quadratic, 1)
    slope = 2 * u @ (START - 1)  # exact for a quadratic
    np.testing.assert_allclose(search.point, START - 0.01 * (slope @ u) / 2, rtol=1e-8)
    before = search.point
    u = np.concatenate([direction(9, 1, 0), direction(9, 1, 1)])
    drive(search, quadratic, 1)
    slope = 2 * u @ (before - 1)
    np.testing.assert_allclose(search.point, before - 0.01 * (slope @ u) / 2, rtol=1e-8)


def test_mask_keeps_the_highest_scores_and_holds_the_rest_still():
    settings = ZoSettings(learning_rate=0.01, keep=0.5)
    search = SparseZo(4, settings, seed=9, start=START)
    probes = search.ask().points
    assert probes.shape == (8, 4)
    np.testing.assert_allclose(np.abs(probes - START).max(axis=1), 1e-5, rtol=1e-6)
    drive(search, quadratic, 1)
    assert search.step == 0
    expected = mask(scores("z", START, 2 * (START - 1)), 0.5)
    assert search.mask.tolist() == expected.tolist()
    assert len(search.ask().points) == 2
    drive(search, quadratic, 5)
    assert (search.point[~expected] == START[~expected]).all()
    assert (search.point[expected] != START[expected]).all()
    assert search.notes["kept"] == 2


def test_refresh_schedule():
    settings = ZoSettings(learning_rate=1e-4, refresh=3)
    search = SparseZo(4, settings, start=START)
    sizes = []
    while search.step < 7:
        sizes.append(len(search.ask().points))
        drive(search, quadratic, 1)
    assert sizes == [8, 2, 2, 2, 8, 2, 2, 2, 8, 2]


@pytest.mark.parametrize("settings", [ZoSettings(score="dense"), ZoSettings(keep=1.0)])
def test_a_dense_mask_costs_no_probes(settings):
    search = SparseZo(4, settings, start=START)
    assert search.ask().points.shape == (2, 4)
    assert search.mask.all()


def test_magnitude_mask_is_free_and_follows_the_point():
    settings = ZoSettings(learning_rate=0.2, score="magnitude", keep=0.25, refresh=2, queries=8)
    search = SparseZo(4, settings, seed=1, start=np.array([3.0, 2.9, 0.0, 0.0]))
    assert search.mask.tolist() == [True, False, False, False]
    for _ in range(2):
        assert len(search.ask().points) == 16
        drive(search, quadratic, 1)
    assert search.mask.tolist() == [False, True, False, False]  # w_0 has come down to 1


def test_momentum_one_never_forgets():
    settings = ZoSettings(learning_rate=0.01, score="dense", momentum=1.0)
    search = SparseZo(4, settings, seed=9, start=START, velocity=np.arange(4.0))
    w, v = START.copy(), np.arange(4.0)
    for step in range(4):
        u = direction(9, step, 0)[0]
        v = v + 2 * u @ (w - 1) * u
        w = w - 0.01 * v
        drive(search, quadratic, 1)
    np.testing.assert_allclose(search.point, w, rtol=1e-7)


def test_an_inherited_velocity_moves_kept_coordinates_only():
    settings = ZoSettings(learning_rate=0.01, score="magnitude", momentum=1.0)
    search = SparseZo(4, settings, start=START, velocity=np.ones(4))
    drive(search, quadratic, 3)
    assert (search.point[~search.mask] == START[~search.mask]).all()
    assert (search.point[search.mask] != START[search.mask]).all()


def test_release_rows_get_their_own_noise_and_the_loss_sees_their_mean():
    # w (d,) meets V (rows, d): sharpzo.md 3b (i) and (ii), written out naively.
    settings = ZoSettings(learning_rate=0.01, score="dense", momentum=1.0, rows=5)
    gradient = np.array([1.0, -2.0, 0.5, 0.0])
    search = SparseZo(4, settings, seed=9, start=START, velocity=gradient)
    w, v = START.copy(), np.tile(gradient, (5, 1))
    for step in range(3):
        u = direction(9, step, 0, rows=5)
        plus, minus = (w + 1e-3 * u), (w - 1e-3 * u)
        means = np.array([np.atleast_2d(x).mean(axis=0) for x in (plus, minus)])
        assert search.ask().points.shape == (2, 4)
        np.testing.assert_allclose(search.ask().points, means, atol=1e-13)
        pg = (quadratic(means)[0] - quadratic(means)[1]) / 2e-3
        v += pg * u
        w = w - 0.01 * v
        drive(search, quadratic, 1)
    assert search.state()["rows"].shape == (5, 4)
    np.testing.assert_allclose(search.state()["rows"], w, rtol=1e-7)
    np.testing.assert_allclose(search.point, w.mean(axis=0), rtol=1e-7)


def test_bad_pairs_move_nothing_and_no_finite_loss_stops():
    settings = ZoSettings(learning_rate=0.1, score="dense")
    search = SparseZo(4, settings, start=START)
    search.tell(np.array([1.0, np.nan]))
    assert search.step == 1
    assert search.point.tobytes() == START.tobytes()
    assert search.stopped is None
    search.tell(np.array([np.nan, np.inf]))
    assert search.stopped is Reason.DIVERGED
    assert search.step == 1


def test_a_runaway_step_stops_and_leaves_the_point():
    settings = ZoSettings(learning_rate=1e300, score="dense")
    search = SparseZo(4, settings, start=START)
    search.tell(np.array([1e300, -1e300]))
    assert search.stopped is Reason.DIVERGED
    assert search.point.tobytes() == START.tobytes()


def test_all_equal_losses_move_nothing():
    search = SparseZo(4, ZoSettings(refresh=2), start=START)
    for _ in range(9):
        search.tell(np.ones(len(search.ask().points)))
    assert search.point.tobytes() == START.tobytes()
    assert search.mask.all()  # scores that are all equal prefer no coordinate


def test_dimension_one():
    search = SparseZo(1, ZoSettings(learning_rate=0.05, keep=0.5), start=np.array([3.0]))
    drive(search, quadratic, 200)
    assert search.point[0] == pytest.approx(1, abs=1e-3)


def test_patience():
    search = SparseZo(4, ZoSettings(patience=2, min_gain=0.01))
    for accuracy in (0.5, 0.6, 0.605):
        search.observe(accuracy)
    assert search.stopped is None
    search.observe(0.6)
    assert search.stopped is Reason.PATIENCE


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"mu": np.inf},
        {"mu_refresh": -1e-5},
        {"queries": 0},
        {"keep": 0.0},
        {"keep": 1.5},
        {"score": "fisher"},
        {"refresh": 0},
        {"momentum": 1.1},
        {"rows": 0},
        {"patience": 0},
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is .*; give"):
        ZoSettings(**wrong)


def test_one_sided_steps_are_the_equations_written_out():
    how = ZoSettings(
        learning_rate=0.02, mu=0.05, queries=3, one_sided=True, momentum=0.5, decay=0.8,
        slow_after=4, score="dense", keep=1.0,
    )  # fmt: skip
    search = SparseZo(4, how, seed=7, start=START)
    w, velocity, squares = START.copy(), np.zeros(4), np.zeros(4)
    for t in range(12):
        asked = search.ask().points
        u = np.stack([generator(7, "zo", step=t, direction=j).standard_normal(4) for j in range(3)])
        np.testing.assert_allclose(asked, np.concatenate([w[None], w + 0.05 * u]))
        losses = quadratic(asked)
        search.tell(losses)
        gradient = ((losses[1:] - losses[0]) / 0.05) @ u / 3
        velocity = 0.5 * velocity + gradient
        squares = 0.8 * squares + 0.2 * gradient**2
        size = np.sqrt(squares.mean() / (1 - 0.8 ** (t + 1)))
        w = w - 0.02 / np.sqrt(1 + t / 4) / size * velocity
        np.testing.assert_allclose(search.point, w)


def test_normalised_steps_do_not_depend_on_the_losses_scale():
    how = ZoSettings(learning_rate=0.1, one_sided=True, decay=0.9, score="dense")
    one, other = (SparseZo(4, how, seed=1, start=START) for _ in range(2))
    for _ in range(30):
        one.tell(quadratic(one.ask().points))
        other.tell(1024 * quadratic(other.ask().points))  # a power of two: exact
    assert one.point.tobytes() == other.point.tobytes()


def test_the_running_mask_costs_no_forwards_and_follows_the_steep_coordinates():
    how = ZoSettings(
        learning_rate=0.01, one_sided=True, queries=4, decay=0.9, score="z-running", refresh=20,
        keep=0.5,
    )  # fmt: skip
    found = []
    for seed in range(5):
        search = SparseZo(6, how, seed=seed, start=np.ones(6))
        for _ in range(20):
            asked = search.ask().points
            assert len(asked) == 5
            search.tell(100 * (asked[:, :3] ** 2).sum(axis=1))
        found.append(search.mask)
    assert (np.mean(found, axis=0)[:3] > np.mean(found, axis=0)[3:]).all()


def test_a_running_mask_needs_a_decay():
    with pytest.raises(InputError, match="decay"):
        ZoSettings(score="z-running")
