"""The contract of searches (`sharpzo.optim.Search`) as checks that raise AssertionError.

from sharpzo.testing import SEARCH_CHECKS

@pytest.mark.parametrize("check", SEARCH_CHECKS, ids=lambda check: check.__name__)
def test_my_search(check):
    check(lambda dim, seed: MySearch(dim, seed=seed))

`Bowl` answers every kind of request. A search that reads features is made with `feature_bowl` as
its loss.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from sharpzo.budget import Budget
from sharpzo.linear import LinearHead
from sharpzo.optim import Search
from sharpzo.tuning.run import run
from sharpzo.types import Answer, Array, Evaluated, Reason, Request, State


@dataclass(eq=False)
class Bowl:
    """An objective of known losses, least, 0, at (0.5, ..., 0.5); validation improves towards it.

    Features are the points themselves, as those of one class: (P, 1, d).
    """

    dim: int = 4
    forwards: int = 0

    def price(self, points: int, directions: int = 0) -> int:
        return points + directions

    def losses(self, points: Array, step: int = 0) -> Array:
        self.forwards += len(points)
        return np.sum((points - 0.5) ** 2, axis=1)

    def slopes(self, point: Array, directions: Array, step: int = 0) -> Answer:
        self.forwards += 1 + len(directions)
        loss, gradient = feature_bowl(point)
        return np.array([loss]), directions @ gradient

    def features(self, points: Array) -> Array:
        self.forwards += len(points)
        return points[:, None].copy()

    def jacobian(self, point: Array, directions: Array) -> Answer:
        self.forwards += 1 + len(directions)
        return point[None, None].copy(), directions[:, None].copy()

    def evaluate(self, point: Array) -> Evaluated:
        """The loss, and an accuracy that rises where it falls."""
        loss = float(self.losses(point[None])[0])
        head = LinearHead(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), 1.0)
        return Evaluated(head, loss, 1 / (1 + loss), loss)


def feature_bowl(features: Array) -> tuple[float, Array]:
    """The bowl as a function of features, and its gradient."""
    with np.errstate(over="ignore"):
        return float(np.sum((features - 0.5) ** 2)), 2 * (features - 0.5)


Make = Callable[[int, int], Search[Bowl]]  # dimension, seed -> a new search


def shapes_hold(make: Make) -> None:
    """What is asked is finite float64 (P, dim), the same again until told; dimension 1 works."""
    for dim in (1, 2, 7):
        search = make(dim, 1)
        demand(search.dim == dim, f"dim is {search.dim} where {dim} was asked for")
        for request, told in _calls(search, 12):
            for rows in _arrays(request):
                demand(rows.ndim == 2 and rows.shape[1] == dim, f"ask gave shape {rows.shape}")
                demand(rows.dtype == np.float64, f"points are {rows.dtype}, not float64")
                demand(bool(np.isfinite(rows).all()), "points are not finite")
            demand(_same(request, search.ask()), "a second ask before tell gave other candidates")
            search.tell(*told)
            demand(search.point.shape == (dim,), f"point has shape {search.point.shape}")


def arguments_stay_as_they_are(make: Make) -> None:
    """Answers told and requests handed out may be changed by the caller, and never are by us."""
    search, other = make(4, 1), make(4, 1)
    for _ in range(6):
        request, kept = search.ask(), other.ask()
        told, told_too = request.answer(Bowl()), kept.answer(Bowl())
        search.tell(*told)
        demand(all(map(np.array_equal, told, told_too)), "tell changed the losses it was given")
        for array in (*told, *_arrays(request)):
            array[:] = np.nan
        other.tell(*told_too)
    demand(_same(search.ask(), other.ask()), "an array of the caller's is still in use")


def losses_belong_to_rows(make: Make) -> None:
    """Answers are read in the order of the points or directions: turned round, they lead elsewhere.

    In their own order they lead down a bowl, on the average of three seeds.
    """
    before, after = [], []
    for seed in (1, 2, 3):
        start, right, wrong = make(5, seed).point, make(5, seed), make(5, seed)
        for search, turn in ((right, 1), (wrong, -1)):
            for _, told in _calls(search, 25):
                search.tell(*(array[::turn] for array in told))
        demand(not np.array_equal(right.point, wrong.point), "the order of losses has no effect")
        for losses, point in (before, start), (after, right.point):
            losses.append(Bowl().losses(point[None])[0])
    demand(
        float(np.mean(after)) < float(np.mean(before)),
        "25 tells brought the point no closer to the minimum of a bowl",
    )


def seeds_decide(make: Make) -> None:
    """Equal seeds give equal runs to the bit, other seeds another run."""
    one, same, other = (_driven(make(6, seed), 15) for seed in (1, 1, 2))
    demand(np.array_equal(one, same), "equal seeds gave different runs")
    demand(not np.array_equal(one, other), "the seed has no effect")


def global_randomness_is_untouched(make: Make) -> None:
    """Neither Python's nor NumPy's global generator is read or moved."""
    ends = []
    for seed in (5, 6):
        with untouched_randomness(seed):
            ends.append(_driven(make(4, 1), 10))
    demand(np.array_equal(*ends), "a global seed changes the search")


def states_resume_bit_for_bit(make: Make) -> None:
    """ask -> state -> safetensors and JSON -> restore -> tell goes on as if nothing had been."""
    for asked in (False, True):
        straight, resumed = make(5, 3), make(5, 3)
        for call, (request, told) in enumerate(_calls(straight, 14)):
            if asked:
                resumed.ask()
            resumed = make(5, 4).restore(through_files(resumed.state()))
            demand(_same(request, resumed.ask()), f"tell {call}: a restored search asks otherwise")
            if call % 5 == 4:
                _rows(told)[0] = np.nan
            straight.tell(*told)
            resumed.tell(*told)
            if call % 3 == 2:
                straight.observe(0.1 * call)
                resumed.observe(0.1 * call)
        demand(np.array_equal(straight.point, resumed.point), "a restored search ends elsewhere")


def bad_losses_do_no_harm(make: Make) -> None:
    """Non-finite and equal answers leave finite points; where no loss is finite, it says DIVERGED
    or goes on, and never takes a point that is not finite.
    """
    for bad in (np.nan, np.inf, -np.inf):
        search = make(4, 1)
        for call, (_, told) in enumerate(_calls(search, 12)):
            rows = _rows(told)
            rows[call % len(rows)] = bad
            search.tell(*told)
            demand(bool(np.isfinite(search.point).all()), f"a loss of {bad} spoilt the point")
        demand(np.isfinite(search.best[1]), f"a loss of {bad} became the best one")
    for value in (0.0, 1e300, np.nan, np.inf):
        search = make(4, 1)
        for _, told in _calls(search, 12):
            for array in told:
                array[:] = value
            search.tell(*told)
        demand(bool(np.isfinite(search.point).all()), f"losses all {value} spoilt the point")
        demand(isinstance(search.stopped, Reason | None), "stopped is not a Reason")


def wrong_numbers_of_losses_are_refused(make: Make) -> None:
    """Too many, too few or misshapen answers raise, and the search goes on afterwards."""
    search = make(4, 1)
    values, derivatives = search.ask().answer(Bowl())
    rows = _rows((values, derivatives))
    for wrong in (np.concatenate([rows, rows[:1]]), rows[:-1], rows[:, None]):
        try:
            search.tell(*((values, wrong) if rows is derivatives else (wrong,)))
        except ValueError:
            continue
        raise AssertionError(f"{wrong.shape} losses were taken where {rows.shape} were asked for")
    search.tell(*search.ask().answer(Bowl()))


def budgets_are_respected(make: Make) -> None:
    """A run spends at most its forwards, and less only by what the next batch would need."""
    for forwards in (1, 10, 57, 200):
        objective = Bowl(4)
        search = make(4, 1)
        result = run(search, objective, Budget(forwards=forwards), validate_every=20)
        demand(objective.forwards <= forwards, f"{objective.forwards} forwards of {forwards}")
        demand(result.forwards == objective.forwards, "the forwards reported are not those spent")
        gap = forwards - objective.forwards
        unspent = result.reason is Reason.FORWARDS and gap > search.ask().price(objective)
        demand(not unspent, f"{gap} of {forwards} forwards were left unspent")


SEARCH_CHECKS = (
    shapes_hold,
    arguments_stay_as_they_are,
    losses_belong_to_rows,
    seeds_decide,
    global_randomness_is_untouched,
    states_resume_bit_for_bit,
    bad_losses_do_no_harm,
    wrong_numbers_of_losses_are_refused,
    budgets_are_respected,
)


def check_search(make: Make) -> None:
    """Run every check.

    >>> from sharpzo.optim import Cma, CmaSettings
    >>> settings = CmaSettings(population_size=6)
    >>> check_search(lambda dim, seed: Cma(dim, settings, seed))
    """
    for check in SEARCH_CHECKS:
        check(make)


def through_files(state: State) -> State:
    """Send a state through safetensors and strict JSON, as a snapshot does."""
    from safetensors.numpy import load, save

    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    plain = {key: value for key, value in state.items() if key not in arrays}
    return {**load(save(arrays)), **json.loads(json.dumps(plain, allow_nan=False))}


@contextmanager
def untouched_randomness(seed: int) -> Iterator[None]:
    """Seed Python's and NumPy's global generators; AssertionError if one is used meanwhile."""

    def states() -> tuple[Any, ...]:
        numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002
        return random.getstate(), numpy["state"]["key"].tobytes(), numpy["state"]["pos"]

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    before = states()
    yield
    demand(before == states(), "a global generator was used")


def demand(condition: bool, sentence: str) -> None:
    """Raise AssertionError with the sentence unless the condition holds, with -O, too."""
    if not condition:
        raise AssertionError(sentence)


def _calls(search: Search[Bowl], many: int) -> Iterator[tuple[Request[Bowl], Answer]]:
    """Up to so many requests and their answers, which the caller tells, until it has stopped."""
    for _ in range(many):
        if search.stopped is None:
            request = search.ask()
            yield request, request.answer(Bowl())


def _driven(search: Search[Bowl], tells: int) -> Array:
    for _, told in _calls(search, tells):
        search.tell(*told)
    return search.point


def _arrays(request: Request[Bowl]) -> list[Array]:
    """The points, and directions where there are any."""
    return [request.points, *([request.directions] if len(request.directions) else [])]


def _same(left: Request[Bowl], right: Request[Bowl]) -> bool:
    return type(left) is type(right) and all(map(np.array_equal, _arrays(left), _arrays(right)))


def _rows(told: Answer) -> Array:
    """What an answer about a point holds a row of each direction for, or of each point."""
    values, derivatives = told
    return derivatives if len(derivatives) else values
