"""The objective of searches that read features, its loss, and ``fgn`` from end to end."""

import numpy as np
import pytest

from fakes import FakeTower, make_features
from sharpzo.budget import Budget
from sharpzo.errors import InputError
from sharpzo.methods import Task, find, fit
from sharpzo.tuning.contexts import ContextMap, WholeContext
from sharpzo.tuning.objective import (
    PromptObjective,
    TangentObjective,
    feature_loss,
)
from sharpzo.types import FeaturesAt, JacobianAt, Reason, SlopesAt


@pytest.fixture
def pieces():
    tower = FakeTower()
    return tower, make_features(tower), WholeContext(tower.start, 0.5)


def test_whole_context_reaches_every_number():
    tower = FakeTower()
    contexts = WholeContext(tower.start, 0.5)
    assert contexts.dim == tower.start.size
    moved = contexts(np.eye(contexts.dim)) - tower.start
    assert np.allclose(moved.reshape(contexts.dim, -1), 0.5 * np.eye(contexts.dim), atol=1e-6)


def test_the_loss_is_that_of_the_objective_and_its_gradient_that_of_differences(pieces):
    tower, train, contexts = pieces
    loss = feature_loss(train, tower.logit_scale)
    w = np.random.default_rng(0).normal(size=(1, contexts.dim))
    features = tower.forward(contexts(w))[0]
    value, gradient = loss(features)
    assert value == pytest.approx(PromptObjective(tower, train, contexts).losses(w)[0], rel=1e-5)
    for direction in np.random.default_rng(1).normal(size=(5, *features.shape)):
        wide = features.astype(float)
        ends = [loss(wide + sign * 1e-4 * direction)[0] for sign in (1, -1)]
        assert (gradient * direction).sum() == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-3)


@pytest.mark.parametrize("whole", [True, False])
def test_tangents_are_what_differences_approach(pieces, whole):
    tower, train, contexts = pieces
    if not whole:
        contexts = ContextMap(tower.start, dim=5, std=0.3, seed=1)
    draws = np.random.default_rng(0)
    asked = draws.normal(size=contexts.dim), draws.normal(size=(3, contexts.dim))
    exact = TangentObjective(tower, train, contexts).jacobian(*asked)
    near = TangentObjective(tower, train, contexts, difference=1e-3).jacobian(*asked)
    assert np.allclose(exact[0], near[0], rtol=1e-5)
    assert np.linalg.norm(exact[1] - near[1]) < 5e-3 * np.linalg.norm(exact[1])


def test_prices_are_rounded_up_and_counted(pieces):
    tower, train, contexts = pieces
    request = JacobianAt(np.zeros((1, contexts.dim)), np.eye(contexts.dim)[:5])
    points = FeaturesAt(np.zeros((3, contexts.dim)))
    for more, price in (({}, 9), ({"tangent_cost": 1.1}, 7), ({"difference": 0.1}, 6)):
        objective = TangentObjective(tower, train, contexts, **more)
        assert request.price(objective) == price
        request.answer(objective)
        assert objective.forwards == price
        assert points.price(objective) == 3
        assert points.answer(objective)[0].shape == (3, 4, 6)
        assert objective.forwards == price + 3


def test_slopes_of_the_loss_are_what_its_differences_approach(pieces):
    tower, train, contexts = pieces
    objective, losses = (
        TangentObjective(tower, train, contexts),
        PromptObjective(tower, train, contexts),
    )
    draws = np.random.default_rng(0)
    point, directions = draws.normal(size=contexts.dim), draws.normal(size=(3, contexts.dim))
    request = SlopesAt(point[None], directions)
    loss, slopes = request.answer(objective)
    assert objective.forwards == request.price(objective) == 6
    assert loss == pytest.approx(losses.losses(point[None]), rel=1e-5)
    ends = losses.losses(np.concatenate([point + 1e-2 * directions, point - 1e-2 * directions]))
    assert np.allclose(slopes, (ends[:3] - ends[3:]) / 2e-2, rtol=2e-2, atol=1e-4)
    assert np.array_equal(objective.losses(directions), losses.losses(directions))
    assert objective.forwards == 9


@pytest.mark.parametrize("changes", [{}, {"difference": 0.01}, {"dim": 6}])
def test_fgn_lowers_the_loss_within_its_budget(changes):
    tower = FakeTower(width=16)
    train, validation = make_features(tower), make_features(tower, seed=1)
    received = []
    task = Task(train, validation, tower, 1, Budget(forwards=150), received.append)
    method = find("fgn")
    changes = {"search.directions": 8, "search.window": 16, "validate_every": 1, **changes}
    fitted = fit(method, method.configure(None, changes), task)
    assert fitted.forwards <= 150
    assert fitted.reason in (Reason.FORWARDS, Reason.CONVERGED)
    assert received[-1].loss < 0.6 * received[0].loss
    assert fitted.arrays["context"].shape == tower.start.shape
    assert method.rename is not None
    again = method.rename(fitted.arrays, tower)
    assert np.allclose(again.scores(train), fitted.head.scores(train), atol=1e-4)
    repeated = fit(method, method.configure(None, changes), task)
    assert np.array_equal(repeated.arrays["context"], fitted.arrays["context"])


def test_a_dimension_of_zero_is_refused():
    with pytest.raises(InputError, match="dim is 0"):
        find("fgn").configure(None, {"dim": 0})


def test_what_a_dearer_forward_counts(pieces):
    """All prices are rounded up together, and what was spent is the sum of the prices."""
    tower, train, contexts = pieces
    objective = TangentObjective(tower, train, contexts, forward_cost=1.9)
    points = np.zeros((3, contexts.dim))
    requests = (
        FeaturesAt(points),
        FeaturesAt(points[:1]),
        JacobianAt(points[:1], np.eye(contexts.dim)[:4]),
    )
    assert [request.price(objective) for request in requests] == [6, 2, 14]  # 1.9 (1 + 6)
    requests[0].answer(objective)
    requests[2].answer(objective)
    objective.evaluate(points[0])
    assert objective.forwards == 6 + 14 + 2


def test_a_context_for_every_class_beats_one_for_all():
    """From equal forwards; the budget holds although a forward counts for more than one."""
    tower = FakeTower(classes=6)
    train = make_features(tower, per_class=12)
    fitted = {
        name: fit(
            find(name), find(name).settings, Task(train, None, tower, 1, Budget(forwards=400))
        )
        for name in ("fgn", "fgn-csc")
    }
    losses = {name: found.notes["training_loss"] for name, found in fitted.items()}
    assert losses["fgn-csc"] < losses["fgn"]
    assert all(found.forwards <= 400 for found in fitted.values())
    assert fitted["fgn-csc"].forwards > 350
