import numpy as np
import pytest

from sharpzo.errors import InputError
from sharpzo.optim import Spsa, SpsaSettings
from sharpzo.rng import generator
from sharpzo.types import Reason

from .problems import drive, quadratic, through_files

START = np.array([3.0, -1.0, 0.5, 2.0])


def perturbations(seed, step, many, dim=4):
    rows = []
    for j in range(many):
        draw = generator(seed, "spsa", step=step, direction=j)
        size = draw.uniform(0.5, 1.0, dim)
        rows.append(np.where(draw.random(dim) < 0.5, -size, size))
    return np.array(rows)


def estimate(w, delta, c):
    """Written out from the definition, one direction and one coordinate at a time."""
    rows = []
    for d in delta:
        difference = quadratic((w + c * d)[None])[0] - quadratic((w - c * d)[None])[0]
        rows.append([difference / (2 * c) / d[i] for i in range(len(w))])
    return np.mean(rows, axis=0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_follow_the_formula(momentum):
    # ZIP without momentum; SPSA-GC: m = b m + g, w <- w - a_k (g + b m), m_1 = g_1.
    how = SpsaSettings(directions=3, clip=False, momentum=momentum)
    search = Spsa(4, how, seed=9, start=START)
    w, m = START.copy(), None
    for k in range(1, 6):
        a, c = 0.01 / (k + 1) ** 0.4, 0.01 / k**0.1
        assert (search.gain, search.perturbation) == pytest.approx((a, c))
        delta = perturbations(9, k - 1, 3)
        expected = np.concatenate([w + c * delta, w - c * delta])
        np.testing.assert_allclose(search.ask().points, expected, rtol=1e-12, atol=1e-12)
        g = estimate(w, delta, c)
        m = g if m is None else momentum * m + g
        w = w - a * (g + momentum * m)
        drive(search, quadratic, 1)
        np.testing.assert_allclose(search.point, w, rtol=1e-9)
    assert search.step == 5


def test_the_published_step_is_ten_forwards():
    assert Spsa(417).ask().points.shape == (10, 417)


def test_perturbations_are_segmented_uniform():
    search = Spsa(50_000, SpsaSettings(directions=1, c=1.0))
    delta = search.ask().points[0]
    size = np.abs(delta)
    assert size.min() >= 0.5
    assert size.max() <= 1
    assert size.mean() == pytest.approx(0.75, abs=0.005)
    assert (delta > 0).mean() == pytest.approx(0.5, abs=0.01)


def test_the_estimate_is_unbiased():
    gradient = 2 * (START - 1)
    found = []
    for seed in range(1500):
        search = Spsa(4, SpsaSettings(directions=1, a=1.0, alpha=0.0, clip=False), seed, START)
        drive(search, quadratic, 1)
        found.append(START - search.point)
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - gradient) < 3 * error).all()
    assert (error < 0.4).all()  # else the line above says nothing


@pytest.mark.parametrize(("slope", "clipped"), [(1e-3, False), (1e6, True)])
def test_clipping_at_the_root_of_the_dimension(slope, clipped):
    dim = 417

    def linear(x):
        return slope * x.sum(axis=1)

    search, free = (
        Spsa(dim, SpsaSettings(a=1.0, alpha=0.0, clip=clip), seed=1) for clip in (True, False)
    )
    drive(search, linear, 1)
    drive(free, linear, 1)
    length = np.linalg.norm(free.point)
    assert (length > np.sqrt(dim)) == clipped
    shrunk = free.point * min(1.0, np.sqrt(dim) / length)
    np.testing.assert_allclose(search.point, shrunk, rtol=1e-9)
    assert search.notes["gradient_norm"] == pytest.approx(length)
    if clipped:  # the longest first move of the published gains
        assert np.linalg.norm(search.point) == pytest.approx(20.42, abs=0.005)
        assert 0.01 / 2**0.4 * np.sqrt(dim) == pytest.approx(0.155, abs=5e-4)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_resume_is_bit_for_bit(momentum):
    how = SpsaSettings(momentum=momentum)
    straight, resumed = Spsa(4, how, 2, START), Spsa(4, how, 2, START)
    for _ in range(8):
        resumed.ask()
        resumed = Spsa(resumed.dim, how).restore(through_files(resumed.state()))
        drive(straight, quadratic, 1)
        drive(resumed, quadratic, 1)
        assert straight.point.tobytes() == resumed.point.tobytes()
        assert straight.best[1] == resumed.best[1]


def test_bad_pairs_move_nothing_and_no_finite_loss_stops():
    search = Spsa(4, SpsaSettings(directions=1), start=START)
    search.tell(np.array([np.nan, 1.0]))
    assert search.point.tobytes() == START.tobytes()
    search.tell(np.array([np.nan, np.inf]))
    assert search.stopped is Reason.DIVERGED


@pytest.mark.parametrize(
    "wrong", [{"directions": 0}, {"a": 0.0}, {"c": np.nan}, {"o": -1.0}, {"momentum": 1.5}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is .*; give"):
        SpsaSettings(**wrong)
