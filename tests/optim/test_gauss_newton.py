"""FGN against closed forms, a hostile tower, and interruptions."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sharpzo.errors import InputError
from sharpzo.optim import GaussNewton, GaussNewtonSettings
from sharpzo.types import Reason

from .problems import assert_lower, assert_same, through_files

TARGET = np.random.default_rng(5).normal(size=(3, 4))


def squares(features):
    """|f - target|^2 / 2 and its gradient."""
    error = features - TARGET
    return float((error**2).sum()) / 2, error


class Tower:
    """Features tanh(B w), or B w, of shape (3, 4), with exact slopes; keeps what was asked."""

    def __init__(self, dim, linear=False, seed=0):
        self.matrix = np.random.default_rng(seed).normal(size=(12, dim)) / np.sqrt(dim)
        self.linear = linear
        self.asked = []

    def features(self, points):
        values = points @ self.matrix.T
        return (values if self.linear else 3 * np.tanh(values)).reshape(-1, 3, 4)

    def jacobian(self, point, directions):
        features = self.features(point[None])
        slopes = (directions @ self.matrix.T).reshape(-1, 3, 4)
        return features, slopes if self.linear else slopes * (3 - features[0] ** 2 / 3)

    def __call__(self, request):
        self.asked.append(request)
        return request.answer(self)


def drive(search, tower, tells):
    for _ in range(tells):
        if search.stopped is None:
            search.tell(*tower(search.ask()))


@pytest.mark.parametrize(("groups", "window"), [(1, 0), (1, 40), (4, 0), (4, 40)])
def test_arrays_take_no_more_than_is_said(groups, window):
    how = GaussNewtonSettings(directions=16, window=window, reuse=1)
    dim, features = 8000 * groups, (groups, 16_000)

    def loss(values):
        return float((values**2).sum()), 2 * values

    tracemalloc.start()
    search = GaussNewton(dim, loss, how, seed=1, groups=groups)
    for _ in range(8):  # four linearisations fill the window
        asked, draws = search.ask(), np.random.default_rng(0)
        rows = len(asked.directions) or len(asked.points)
        answer = draws.standard_normal((rows, *features), dtype=np.float32)
        if len(asked.directions):
            search.tell(np.ones((1, *features), np.float32), answer)
        else:
            search.tell(answer)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    said = how.bytes(dim, groups * 16_000, groups)
    assert 0.4 * said < peak < said + 2e6  # a few rows of features, too


def test_a_linear_tower_is_solved_by_one_linearisation():
    """All directions at hand: the weakest damping of the ladder is a ridge regression."""
    how = GaussNewtonSettings(
        directions=5, damping=1e-3, candidates=3, ladder=10.0, radius=1e6, inner_steps=200
    )
    tower = Tower(5, linear=True)
    search = GaussNewton(5, squares, how, seed=3)
    drive(search, tower, 2)
    b = tower.matrix
    wanted = [
        np.linalg.solve(b.T @ b + damping * np.eye(5), b.T @ TARGET.ravel())
        for damping in (1e-2, 1e-3, 1e-4)
    ]
    assert np.allclose(tower.asked[1].points, wanted, atol=1e-4)
    assert np.allclose(search.point, wanted[2], atol=1e-4)
    assert search.notes["gain"] == pytest.approx(1, abs=1e-6)


def test_directions_are_orthonormal_and_hold_what_is_kept():
    tower, how = Tower(30), GaussNewtonSettings(directions=8, history=2, reuse=1)
    search = GaussNewton(30, squares, how, seed=1)
    points = []
    for _ in range(8):
        asked = search.ask()
        if len(asked.directions):
            assert np.allclose(asked.directions @ asked.directions.T, np.eye(8), atol=1e-10)
            points.append(asked.points[0])
        search.tell(*tower(asked))
    last = search.ask()
    assert len(last.directions)
    for move in np.diff(points[-2:], axis=0):
        inside = move @ last.directions.T @ last.directions
        assert np.allclose(inside, move, atol=1e-10)


def test_steps_stay_inside_the_trust_region():
    tower = Tower(10, linear=True)
    search = GaussNewton(10, squares, GaussNewtonSettings(radius=0.1, damping=1e-6))
    drive(search, tower, 1)
    lengths = np.linalg.norm(search.ask().points - search.point, axis=1)
    assert lengths.max() <= 0.1 + 1e-12
    assert lengths[-1] == pytest.approx(0.1)


def test_with_rho_the_worst_loss_nearby_is_minimised():
    """Against 4,000 points on the sphere of that radius, around this and the plain minimiser."""
    tower = Tower(3, linear=True)
    found = {}
    for rho in (0.0, 0.5):
        how = GaussNewtonSettings(directions=3, candidates=1, damping=1e-3, radius=1e6,
                                  inner_steps=100, rho=rho)  # fmt: skip
        search = GaussNewton(3, squares, how, seed=1)
        drive(search, tower, 1)
        found[rho] = search.ask().points[0]
    around = np.random.default_rng(0).normal(size=(4000, 3))
    around *= 0.5 / np.linalg.norm(around, axis=1, keepdims=True)

    def worst(point):
        penalty = 1e-3 / 2 * point @ point
        return max(squares(f)[0] for f in tower.features(point + around)) + penalty

    assert worst(found[0.5]) <= worst(found[0.0]) + 1e-3
    assert not np.allclose(found[0.5], found[0.0], atol=1e-4)


def test_old_slopes_stay_exact_on_a_linear_tower():
    """What is remembered from earlier directions is the Jacobian along what is left of them."""
    tower = Tower(20, linear=True)
    search = GaussNewton(20, squares, GaussNewtonSettings(directions=6, window=18, reuse=1), seed=2)
    drive(search, tower, 7)
    state = search.state()
    frame = state["frame"][0]
    assert 12 <= len(frame) <= 18
    assert np.allclose(np.linalg.norm(frame, axis=1), 1)
    assert np.allclose(state["jacobian"][0], frame @ tower.matrix.T, atol=1e-8)


def test_broyden_carries_the_step_to_what_it_did():
    tower = Tower(6)
    search = GaussNewton(6, squares, GaussNewtonSettings(directions=6, candidates=1, reuse=3))
    drive(search, tower, 1)
    before, start = search.state(), search.point
    candidate = search.ask().points[0]
    a = before["frame"][0] @ (candidate - start)
    drive(search, tower, 1)
    moved = tower.features(np.stack([start, candidate]))
    found = a @ search.state()["jacobian"][0]
    assert np.allclose(found, (moved[1] - moved[0]).ravel(), atol=1e-10)
    across = np.linalg.svd(a[None])[2][1:]  # other directions keep their slopes
    assert np.allclose(
        across @ search.state()["jacobian"][0], across @ before["jacobian"][0], atol=1e-10
    )


@pytest.mark.parametrize(
    ("off", "rounding", "learns"),
    [(0.01, 2**-24, True), (0.01, 2**-9, False), (0.2, 2**-9, True)],
)
def test_broyden_learns_no_rounding(off, rounding, learns):
    """Features of candidates are off by a share of their own length."""
    tower = Tower(6, linear=True)
    how = GaussNewtonSettings(directions=6, candidates=1, reuse=3)
    search = GaussNewton(6, squares, how, start=np.ones(6), rounding=rounding)
    drive(search, tower, 1)
    before = search.state()["jacobian"]
    noise = np.random.default_rng(2).normal(size=(1, 3, 4))
    length = np.linalg.norm(search.state()["features"])
    features, _ = tower(search.ask())
    search.tell(features + off * length * noise / np.linalg.norm(noise))
    assert np.allclose(search.state()["jacobian"], before) != learns


class GroupedTower(Tower):
    """Features of class k from part k of w alone: three classes, four features, a matrix each."""

    def __init__(self, size, seed=0):
        super().__init__(3 * size, seed=seed)
        self.matrix *= np.kron(np.eye(3), np.ones((4, size)))


def test_groups_find_with_a_few_slopes_what_one_group_needs_many_for():
    """Two directions in each of three groups of five are enough for steps that one group of all
    numbers takes along six."""
    how, losses = GaussNewtonSettings(directions=2, memory=0.0), {1: [], 3: []}
    for groups, reached in losses.items():
        for seed in range(8):
            tower = GroupedTower(5)
            search = GaussNewton(15, squares, how, seed=seed, groups=groups)
            drive(search, tower, 24)
            asked = {len(request.directions) for request in tower.asked}
            assert asked == {0, 2}
            reached.append(search.best[1])
    assert_lower(losses[3], losses[1])


def test_slopes_of_groups_are_those_of_the_features():
    """J of a group, at the search's own point, is the derivative along the group's directions."""
    tower = GroupedTower(5)
    search = GaussNewton(15, squares, GaussNewtonSettings(directions=3), seed=4, groups=3)
    drive(search, tower, 1)
    state = search.state()
    slopes = 3 - tower.features(search.point[None])[0] ** 2 / 3
    for k in range(3):
        block = tower.matrix[4 * k : 4 * k + 4, 5 * k : 5 * k + 5]
        wanted = state["frame"][k] @ block.T * slopes[k]
        assert np.allclose(state["jacobian"][k], wanted, atol=1e-10)
        assert np.allclose(state["frame"][k] @ state["frame"][k].T, np.eye(3), atol=1e-10)


def test_groups_go_on_bit_for_bit():
    tower = GroupedTower(5)
    how = GaussNewtonSettings(directions=2, window=6)
    search = GaussNewton(15, squares, how, seed=1, groups=3)
    drive(search, tower, 7)
    other = GaussNewton(15, squares, how, groups=3).restore(through_files(search.state()))
    drive(search, tower, 5)
    drive(other, tower, 5)
    assert_same(search.state(), other.state())


def test_groups_that_do_not_divide_the_numbers_are_refused():
    with pytest.raises(InputError, match="3 groups of equal size do not make 16 numbers"):
        GaussNewton(16, squares, groups=3)


def test_a_nonlinear_tower_in_a_random_subspace():
    """60 numbers, 10 directions a time: the loss falls in every round it is accepted."""
    tower = Tower(60)
    search = GaussNewton(60, squares, GaussNewtonSettings(directions=10, window=30, reuse=2))
    losses = []
    for _ in range(60):
        drive(search, tower, 1)
        losses.append(squares(tower.features(search.point[None])[0])[0])
    assert (np.diff(losses) <= 1e-9).all()
    assert losses[-1] < 1e-2 * losses[0]
    assert search.best[1] == pytest.approx(losses[-1])
    assert search.notes["linearisations"] > 1


def test_rejected_rounds_shrink_the_region_and_reuse_the_slopes():
    """Slopes of the wrong sign: no candidate is better."""
    tower = Tower(4, linear=True)
    search = GaussNewton(4, squares, GaussNewtonSettings(directions=4, reuse=2), seed=1)
    features, slopes = tower(search.ask())
    search.tell(features, -slopes)
    start, radius = search.point, search.notes["radius"]
    drive(search, tower, 1)
    assert np.array_equal(search.point, start)
    assert search.notes["radius"] < radius
    assert search.notes["damping"] > search.settings.damping
    assert not len(search.ask().directions)


def test_numbers_that_are_none():
    tower = Tower(4)
    search = GaussNewton(4, squares, GaussNewtonSettings(directions=4), seed=1)
    features, broken = tower(search.ask())
    broken[1, 0, 0] = np.nan
    search.tell(features, broken)
    candidates = search.ask().points
    assert np.isfinite(candidates).all()
    assert np.allclose(search.state()["frame"][0, 1] @ (candidates - search.point).T, 0, atol=1e-9)
    features = tower.features(candidates)
    features[0, 0, 0] = np.inf
    search.tell(features)
    assert search.stopped is None
    assert np.isfinite(search.best[1])
    assert np.isfinite(search.point).all()

    search.tell(np.full_like(features, np.nan))  # a whole round of nothing
    assert search.stopped is None
    lost = GaussNewton(4, squares, seed=1)
    lost.tell(np.full((1, 3, 4), np.nan), np.zeros((4, 3, 4)))
    assert lost.stopped is Reason.DIVERGED
    assert np.array_equal(lost.point, np.zeros(4))


def test_wrong_answers_are_refused():
    tower = Tower(4)
    search = GaussNewton(4, squares, GaussNewtonSettings(directions=3), seed=1)
    features, slopes = answer = tower(search.ask())
    for wrong in (
        (slopes,),
        (features, slopes[:2]),
        (features[:, :2], slopes),
        (features[0], slopes),
    ):
        with pytest.raises(InputError, match="were asked for"):
            search.tell(*wrong)
    search.tell(*answer)
    features, _ = tower(search.ask())
    for wrong in (answer, (features[:1],), (features[:, :2],), (features[0],)):
        with pytest.raises(InputError, match="were asked for"):
            search.tell(*wrong)
    search.tell(features)
    assert search.step == 1


def test_a_flat_tower_converges_where_it_stands():
    search = GaussNewton(3, squares, GaussNewtonSettings(directions=3), seed=1)
    for _ in range(500):
        asked = search.ask()
        flat = [np.zeros((len(rows), 3, 4)) for rows in (asked.points, asked.directions)]
        search.tell(*(flat if len(asked.directions) else flat[:1]))
        if search.stopped is not None:
            break
    assert search.stopped is Reason.CONVERGED
    assert np.array_equal(search.point, np.zeros(3))


def test_one_dimension_and_more_directions_than_dimensions():
    tower = Tower(1)
    search = GaussNewton(1, squares, GaussNewtonSettings(directions=64), seed=1)
    assert search.ask().directions.shape == (1, 1)
    drive(search, tower, 30)
    grid = np.linspace(-3, 3, 20001)[:, None]
    least = min(squares(one)[0] for one in tower.features(grid))
    assert search.best[1] == pytest.approx(least, rel=1e-3)


how_settings = st.builds(
    GaussNewtonSettings,
    directions=st.integers(1, 8),
    window=st.integers(0, 12),
    reuse=st.integers(1, 3),
    history=st.integers(0, 3),
    candidates=st.integers(1, 3),
    patience=st.sampled_from([None, 3]),
)
moments = st.sets(
    st.tuples(st.integers(0, 11), st.sampled_from(["ask", "tell", "observe"])), max_size=36
)


def same(left, right):
    assert left.points.tobytes() == right.points.tobytes()
    assert left.directions.tobytes() == right.directions.tobytes()


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(how_settings, st.integers(1, 9), st.integers(0, 2**63 - 1), moments)
def test_it_resumes_bit_for_bit(how, dim, seed, interruptions):
    def rebuild(search):
        return GaussNewton(dim, squares, how).restore(through_files(search.state()))

    tower = Tower(dim)
    straight = GaussNewton(dim, squares, how, seed)
    resumed = GaussNewton(dim, squares, how, seed)
    for call in range(12):
        if (call, "ask") in interruptions:
            resumed = rebuild(resumed)
        asked = straight.ask()
        same(asked, resumed.ask())
        if (call, "tell") in interruptions:
            resumed = rebuild(resumed)
        same(asked, resumed.ask())  # idempotent
        answer = tower(asked)
        if call % 4 == 3 and not len(asked.directions):
            answer[0][0] = np.nan
        straight.tell(*answer)
        resumed.tell(*answer)
        if (call, "observe") in interruptions:
            resumed = rebuild(resumed)
        accuracy = [0.3, 0.5, 0.4][call % 3]
        straight.observe(accuracy)
        resumed.observe(accuracy)
        assert_same(straight.state(), resumed.state())
        assert (straight.stopped, straight.step) == (resumed.stopped, resumed.step)
        if straight.stopped is not None:
            return


def test_nothing_told_or_asked_is_shared():
    tower = Tower(4)
    search = GaussNewton(4, squares, seed=1)
    answer = tower(search.ask())
    search.tell(*answer)
    before = through_files(search.state())
    for array in (*answer, search.ask().points):
        array[:] = 7
    search.point[:] = 7
    assert_same(before, search.state())


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"directions": 0}, "directions"), ({"reuse": 0}, "reuse"), ({"damping": 0.0}, "damping"),
     ({"radius": float("inf")}, "radius"), ({"ladder": 0.5}, "ladder"), ({"memory": 2.0}, "memory"),
     ({"window": -1}, "window"), ({"rho": -1.0}, "rho"), ({"patience": 0}, "patience")],
)  # fmt: skip
def test_wrong_settings(changes, message):
    with pytest.raises(InputError, match=message):
        GaussNewtonSettings(**changes)


class CoarseTower(Tower):
    """Steps move features that are rounded away again; slopes are not."""

    def features(self, points):
        return np.broadcast_to(super().features(np.zeros((1, 6))), (len(points), 3, 4))


def test_rounding_does_not_shrink_the_radius():
    """Rounds that tell nothing leave the radius at a quarter and the search on its way; after a
    row of them it has converged, at the best point that it has seen."""
    how = GaussNewtonSettings(directions=3)
    search = GaussNewton(6, squares, how, seed=1)
    tower, visited = CoarseTower(6), []
    while search.stopped is None:
        drive(search, tower, 1)
        visited.append(search.point)
    assert search.notes["radius"] == how.radius / 4
    assert search.step == 24
    assert len(np.unique(np.round(visited, 9), axis=0)) > 10
    assert np.array_equal(search.point, search.best[0])
