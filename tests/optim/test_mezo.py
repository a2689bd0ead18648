import numpy as np
import pytest

from sharpzo.errors import InputError
from sharpzo.optim import MeZo, MeZoSettings, SparseZo, ZoSettings
from sharpzo.rng import generator
from sharpzo.types import Reason

from .problems import drive, quadratic, through_files

START = np.array([3.0, -1.0, 0.5, 2.0])
ETA = 0.01
VARIANTS = ("plain", "sign", "momentum", "conservative", "adam")


def z(step):
    return generator(9, "zo", step=step, direction=0).standard_normal(4)


def made(variant, **more):
    return MeZo(4, MeZoSettings(variant, learning_rate=ETA, **more), seed=9, start=START)


def test_plain_is_stage_two_without_mask_and_momentum():
    search = made("plain", queries=3)
    how = ZoSettings(learning_rate=ETA, queries=3, score="dense")
    sparse = SparseZo(4, how, seed=9, start=START)
    for _ in range(5):
        np.testing.assert_allclose(search.ask().points, sparse.ask().points, rtol=1e-9)
        drive(search, quadratic, 1)
        drive(sparse, quadratic, 1)
    np.testing.assert_allclose(search.point, sparse.point, rtol=1e-9)


def test_exact_slopes_take_the_step_of_differences_of_a_quadratic():
    differences, exact = made("plain", queries=3), made("plain", queries=3, exact=True)
    for _ in range(5):
        request = exact.ask()
        slopes = request.directions @ (2 * (request.points[0] - 1))
        exact.tell(quadratic(request.points), slopes)
        drive(differences, quadratic, 1)
    np.testing.assert_allclose(exact.point, differences.point, rtol=1e-7)


def test_sign_is_of_the_slope_not_of_the_coordinates():
    search = made("sign")
    p = 2 * z(0) @ (START - 1)  # exact for a quadratic
    drive(search, quadratic, 1)
    np.testing.assert_allclose(search.point, START - ETA * np.sign(p) * z(0), rtol=1e-12)


def test_momentum():
    search, w, v = made("momentum"), START, np.zeros(4)
    for step in range(3):
        v = 0.9 * v + 2 * z(step) @ (w - 1) * z(step)
        w = w - ETA * v
        drive(search, quadratic, 1)
        np.testing.assert_allclose(search.point, w, rtol=1e-7)


def test_adam_agrees_with_torch():
    torch = pytest.importorskip("torch")
    search = made("adam")
    w = torch.tensor(START, requires_grad=True)
    adam = torch.optim.Adam([w], lr=ETA)
    for step in range(4):
        w.grad = torch.tensor(2 * z(step) @ (w.detach().numpy() - 1) * z(step))
        adam.step()
        drive(search, quadratic, 1)
        np.testing.assert_allclose(search.point, w.detach().numpy(), rtol=1e-7)


@pytest.mark.parametrize("lowest", [0, 1, 2])
def test_conservative_keeps_the_best_of_three_for_five_forwards(lowest):
    search = made("conservative")
    assert len(search.ask().points) == 2
    drive(search, quadratic, 1)
    assert (search.step, search.point.tolist()) == (0, START.tolist())
    trials = search.ask().points
    change = ETA * 2 * z(0) @ (START - 1) * z(0)
    expected = np.stack([START, START - change, START + change])
    np.testing.assert_allclose(trials, expected, rtol=1e-7)
    search.tell(np.where(np.arange(3) == lowest, 1.0, 2.0))
    assert (search.step, search.point.tolist()) == (1, trials[lowest].tolist())
    assert len(search.ask().points) == 2


def test_conservative_stays_where_nothing_is_better():
    search = made("conservative")
    drive(search, quadratic, 1)
    search.tell(np.ones(3))
    assert search.point.tolist() == START.tolist()


@pytest.mark.parametrize("variant", VARIANTS)
def test_resume_is_bit_for_bit(variant):
    straight, resumed = made(variant), made(variant)
    for _ in range(9):
        resumed = MeZo(resumed.dim, resumed.settings).restore(through_files(resumed.state()))
        assert straight.ask().points.tobytes() == resumed.ask().points.tobytes()
        drive(straight, quadratic, 1)
        drive(resumed, quadratic, 1)
        assert straight.point.tobytes() == resumed.point.tobytes()


def test_divergence_stops():
    search = made("plain")
    search.tell(np.array([np.nan, np.inf]))
    assert search.stopped is Reason.DIVERGED
    wild = MeZo(4, MeZoSettings(learning_rate=1e300), start=START)
    wild.tell(np.array([1e300, -1e300]))
    assert wild.stopped is Reason.DIVERGED
    assert wild.point.tobytes() == START.tobytes()


@pytest.mark.parametrize("wrong", [{"variant": "lion"}, {"queries": 0}, {"beta2": 2.0}])
def test_settings_are_checked(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is .*; give"):
        MeZoSettings(**wrong)
