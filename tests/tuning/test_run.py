import numpy as np
import pytest

from fakes import FakeTower, make_features
from sharpzo.budget import Budget
from sharpzo.errors import BudgetError
from sharpzo.optim import Search
from sharpzo.tuning.contexts import ContextMap
from sharpzo.tuning.objective import PromptObjective
from sharpzo.tuning.run import run
from sharpzo.types import NOTHING, LossesAt, Reason


class Walk(Search):
    """A scripted search: visits fixed points whatever the losses say."""

    stage = "walk"

    def __init__(self, points, batch=4, stop_after=None):
        super().__init__(3)
        self.points, self.batch, self.received = points, batch, []
        self.stop_after = stop_after

    @property
    def point(self):
        return self.points[min(self.step, len(self.points) - 1)]

    def ask(self):
        return LossesAt(np.tile(self.point, (self.batch, 1)))

    def tell(self, losses, slopes=NOTHING):
        assert losses.shape == (self.batch,)
        self.step += 1
        if self.step == self.stop_after:
            self.stopped = Reason.PATIENCE

    def observe(self, validation_accuracy):
        self.received.append(validation_accuracy)


@pytest.fixture
def pieces():
    tower = FakeTower()
    contexts = ContextMap(tower.start, dim=3, std=1.0, seed=1)
    points = list(np.random.default_rng(3).normal(size=(12, 3)))
    train = make_features(tower)
    validation = make_features(tower, seed=1)
    return PromptObjective(tower, train, contexts, validation), points


def test_the_point_that_validates_best_is_chosen(pieces):
    objective, points = pieces
    walk = Walk(points)
    result = run(walk, objective, Budget(steps=11), validate_every=1)
    evaluated = [objective.evaluate(point) for point in points]
    ranks = [(-one.validation_accuracy, one.validation_loss) for one in evaluated]
    best = ranks.index(min(ranks))
    assert np.array_equal(result.chosen.point, points[best])
    assert result.chosen.evaluated.validation_accuracy == evaluated[best].validation_accuracy
    assert walk.received == [one.validation_accuracy for one in evaluated]
    assert np.allclose(result.chosen.evaluated.head.weight, evaluated[best].head.weight)


def test_milestones_keep_what_a_shorter_run_would_have_chosen(pieces):
    objective, points = pieces
    marks = (1, 7, 23, 40, 1000)
    long = run(Walk(points), objective, Budget(steps=11), validate_every=1, milestones=marks)
    assert set(long.milestones) == set(marks)
    for mark in marks[:-1]:
        objective.forwards = 0
        short = run(Walk(points), objective, Budget(forwards=mark), validate_every=1)
        assert np.array_equal(long.milestones[mark].point, short.chosen.point)
    assert long.milestones[1000] is long.chosen


def test_without_choosing_or_without_photos_the_last_point_is_taken(pieces):
    objective, points = pieces
    for options in ({"choose": False}, {}):
        if not options:
            objective.validation = None
        walk = Walk(points)
        result = run(walk, objective, Budget(steps=11), validate_every=3, **options)
        assert np.array_equal(result.chosen.point, points[-1])
        assert bool(walk.received) == bool(options)


@pytest.mark.parametrize("forwards", [1, 2, 5, 6, 7, 17, 40])
def test_the_budget_of_forwards_is_never_exceeded_and_the_end_is_validated(pieces, forwards):
    objective, points = pieces
    received = []
    result = run(
        Walk(points), objective, Budget(forwards=forwards), validate_every=7,
        listen=received.append,
    )  # fmt: skip
    assert result.reason is Reason.FORWARDS
    assert result.forwards == objective.forwards <= forwards
    assert received[-1].step == result.steps  # the last point was evaluated, too
    assert [step.forwards for step in received] == sorted(step.forwards for step in received)


def test_a_search_that_stops_says_why(pieces):
    objective, points = pieces
    result = run(Walk(points, stop_after=3), objective, Budget(), validate_every=1)
    assert (result.reason, result.steps) == (Reason.PATIENCE, 3)


def test_time_ends_a_run(pieces):
    objective, points = pieces
    result = run(Walk(points), objective, Budget(seconds=1e-9), validate_every=1)
    assert result.reason is Reason.SECONDS


def test_budgets_must_be_positive():
    with pytest.raises(BudgetError, match="forwards is 0"):
        Budget(forwards=0)
    with pytest.raises(BudgetError, match="seconds is nan"):
        Budget(seconds=float("nan"))


@pytest.mark.parametrize("limit", [{"seconds": float("inf")}, {"forwards": 10**400}])
def test_a_budget_without_an_end_is_left_out(limit):
    with pytest.raises(BudgetError, match="or null for no limit"):
        Budget(**limit)
