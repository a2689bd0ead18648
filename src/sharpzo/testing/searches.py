"""What every search promises (`types.Search`), as checks that raise AssertionError.

from sharpzo.testing import SEARCH_CHECKS

@pytest.mark.parametrize("check", SEARCH_CHECKS, ids=lambda check: check.__name__)
def test_my_search(check):
    check(lambda dim, seed: MySearch(dim, seed=seed), MySearch.from_state)

A search that reads features instead of losses is made with `feature_bowl` as its loss, and checked
with a third argument, `features`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from sharpzo.budget import Budget
from sharpzo.linear import LinearHead
from sharpzo.run import run
from sharpzo.types import Array, Judged, Linearise, Linearised, Reason, Search, State

Make = Callable[[int, int], Search]  # dimension, seed -> a new search
Restore = Callable[[State], Search]
Answer = Callable[[Any], Any]  # what a search asks -> what it is told


def losses(question: Array | Linearise) -> Array:
    """Losses (P,) of a bowl; to `Linearise` the loss at the point and its p slopes, (1 + p,)."""
    if isinstance(question, Linearise):
        loss, slope = feature_bowl(question.point)
        return np.array([loss, *(question.directions @ slope)])
    return _bowl(question)


def features(question: Array | Linearise) -> Array | Linearised:
    """The candidates themselves as features of one class, (P, 1, d)."""
    if isinstance(question, Linearise):
        return Linearised(question.point[None], question.directions[:, None].copy())
    return question[:, None].copy()


def feature_bowl(features: Array) -> tuple[float, Array]:
    """The bowl as a function of features, and its gradient."""
    with np.errstate(over="ignore"):
        return float(np.sum((features - 0.5) ** 2)), 2 * (features - 0.5)


def shapes_hold(make: Make, restore: Restore, answer: Answer = losses) -> None:
    """What is asked is finite float64 (P, dim), the same again until told; dimension 1 works."""
    for dim in (1, 2, 7):
        search = make(dim, 1)
        demand(search.dim == dim, f"dim is {search.dim} where {dim} was asked for")
        for _ in range(12):
            if search.stopped is not None:
                break
            first, again = search.ask(), search.ask()
            for rows in _arrays(first):
                demand(rows.ndim == 2 and rows.shape[1] == dim, f"ask gave shape {rows.shape}")
                demand(rows.dtype == np.float64, f"candidates are {rows.dtype}, not float64")
                demand(bool(np.isfinite(rows).all()), "candidates are not finite")
            demand(_same(first, again), "a second ask before tell gave other candidates")
            search.tell(answer(first))
            demand(search.point.shape == (dim,), f"point has shape {search.point.shape}")


def arguments_stay_as_they_are(make: Make, restore: Restore, answer: Answer = losses) -> None:
    """Answers told and candidates handed out may be changed by the caller, and never are by us."""
    search, other = make(4, 1), make(4, 1)
    for _ in range(6):
        question, kept = search.ask(), other.ask()
        told, told_too = answer(question), answer(kept)
        search.tell(told)
        demand(_same(told, told_too), "tell changed the losses that it was given")
        for array in (*_arrays(told), *_arrays(question)):
            array[:] = np.nan
        other.tell(told_too)
    demand(_same(search.ask(), other.ask()), "an array of the caller's is still in use")


def losses_belong_to_rows(make: Make, restore: Restore, answer: Answer = losses) -> None:
    """Answers are read in the order of the candidates: turned round, they lead elsewhere.

    In their own order they lead down a bowl, on the average of three seeds.
    """
    before, after = [], []
    for seed in (1, 2, 3):
        right, wrong = make(5, seed), make(5, seed)
        before.append(_bowl(right.point[None])[0])
        for _ in range(25):
            for search, turn in ((right, lambda told: told), (wrong, _turned)):
                if search.stopped is None:
                    search.tell(turn(answer(search.ask())))
        demand(
            not np.array_equal(right.point, wrong.point), "the order of the losses has no effect"
        )
        after.append(_bowl(right.point[None])[0])
    demand(
        float(np.mean(after)) < float(np.mean(before)),
        "25 tells brought the point no closer to the minimum of a bowl",
    )


def seeds_decide(make: Make, restore: Restore, answer: Answer = losses) -> None:
    """Equal seeds give equal runs to the bit, other seeds another run."""
    one, same, other = (_driven(make(6, seed), 15, answer) for seed in (1, 1, 2))
    demand(np.array_equal(one, same), "equal seeds gave different runs")
    demand(not np.array_equal(one, other), "the seed has no effect")


def global_randomness_is_untouched(make: Make, restore: Restore, answer: Answer = losses) -> None:
    """Neither Python's nor NumPy's global generator is read or moved."""
    ends = []
    for seed in (5, 6):
        before = seed_global_randomness(seed)
        ends.append(_driven(make(4, 1), 10, answer))
        demand(before == global_randomness(), "a global generator was used")
    demand(np.array_equal(*ends), "a global seed changes the search")


def states_resume_bit_for_bit(make: Make, restore: Restore, answer: Answer = losses) -> None:
    """ask -> state -> safetensors and JSON -> restore -> tell goes on as if nothing had been."""
    for asked in (False, True):
        straight, resumed = make(5, 3), make(5, 3)
        for call in range(14):
            if straight.stopped is not None:
                break
            if asked:
                resumed.ask()
            resumed = restore(through_files(resumed.state()))
            left, right = straight.ask(), resumed.ask()
            demand(_same(left, right), f"tell {call}: a restored search asks otherwise")
            told = answer(left)
            if call % 5 == 4:
                _rows(told)[0] = np.nan
            straight.tell(told)
            resumed.tell(told)
            if call % 3 == 2:
                straight.observe(0.1 * call)
                resumed.observe(0.1 * call)
        demand(np.array_equal(straight.point, resumed.point), "a restored search ends elsewhere")


def bad_losses_do_no_harm(make: Make, restore: Restore, answer: Answer = losses) -> None:
    """Non-finite and equal answers leave finite points; where no loss is finite, it says DIVERGED
    or goes on, and never takes a point that is not a number.
    """
    for bad in (np.nan, np.inf, -np.inf):
        search = make(4, 1)
        for call in range(12):
            if search.stopped is not None:
                break
            told = answer(search.ask())
            rows = _rows(told)
            rows[call % len(rows)] = bad
            search.tell(told)
            demand(bool(np.isfinite(search.point).all()), f"a loss of {bad} spoilt the point")
        demand(np.isfinite(search.best[1]), f"a loss of {bad} became the best one")
    for value in (0.0, 1e300, np.nan, np.inf):
        search = make(4, 1)
        for _ in range(12):
            if search.stopped is not None:
                break
            told = answer(search.ask())
            for array in _arrays(told):
                array[:] = value
            search.tell(told)
        demand(bool(np.isfinite(search.point).all()), f"losses all {value} spoilt the point")
        if search.stopped is not None:
            demand(isinstance(search.stopped, Reason), "stopped is not a Reason")


def wrong_numbers_of_losses_are_refused(
    make: Make, restore: Restore, answer: Answer = losses
) -> None:
    """Too many, too few or misshapen answers raise, and the search goes on afterwards."""
    search = make(4, 1)
    told = answer(search.ask())
    rows = _rows(told)
    for wrong in (np.concatenate([rows, rows[:1]]), rows[:-1], rows[:, None]):
        try:
            search.tell(replace(told, derivatives=wrong) if told is not rows else wrong)
        except ValueError:
            continue
        raise AssertionError(f"{wrong.shape} losses were taken where {rows.shape} were asked for")
    search.tell(answer(search.ask()))


def budgets_are_respected(make: Make, restore: Restore, answer: Answer = losses) -> None:
    """A run spends at most its forwards, and less only by what the next batch would need."""
    for forwards in (1, 10, 57, 200):
        objective = _Bowl(4, answer)
        search = make(4, 1)
        result = run(search, objective, Budget(forwards=forwards), validate_every=20)
        demand(objective.forwards <= forwards, f"{objective.forwards} forwards of {forwards}")
        demand(result.forwards == objective.forwards, "the forwards reported are not those spent")
        if result.reason is Reason.FORWARDS:
            gap = forwards - objective.forwards
            demand(
                gap <= objective.price(search.ask()),
                f"{gap} of {forwards} forwards were left unspent",
            )


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


def check_search(make: Make, restore: Restore, answer: Answer = losses) -> None:
    """Run every check.

    >>> from sharpzo.optim import Cma, CmaSettings
    >>> settings = CmaSettings(population_size=6)
    >>> check_search(
    ...     make=lambda dim, seed: Cma(dim, settings, seed),
    ...     restore=lambda state: Cma.from_state(settings, state),
    ... )
    """
    for check in SEARCH_CHECKS:
        check(make, restore, answer)


def through_files(state: State) -> State:
    """Send a state through safetensors and strict JSON, as a snapshot does."""
    from safetensors.numpy import load, save

    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    plain = {key: value for key, value in state.items() if key not in arrays}
    return {**load(save(arrays)), **json.loads(json.dumps(plain, allow_nan=False))}


def global_randomness() -> tuple[Any, ...]:
    """The states of Python's and NumPy's global generators."""
    numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    return random.getstate(), numpy["state"]["key"].tobytes(), numpy["state"]["pos"]


def seed_global_randomness(seed: int) -> tuple[Any, ...]:
    """Seed both and return their states."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    return global_randomness()


def demand(condition: bool, sentence: str) -> None:
    """Raise AssertionError with the sentence unless the condition holds, with -O, too."""
    if not condition:
        raise AssertionError(sentence)


class _Bowl:
    """An objective for `run`: a bowl, and validation that improves towards its bottom."""

    def __init__(self, dim: int, answer: Answer) -> None:
        self.dim = dim
        self.forwards = 0
        self._answer = answer

    def price(self, question: Array | Linearise) -> int:
        slopes = isinstance(question, Linearise)
        return 1 + len(question.directions) if slopes else len(question)

    def __call__(self, question: Array | Linearise, step: int = 0) -> Any:
        self.forwards += self.price(question)
        return self._answer(question)

    def judge(self, candidate: Array) -> Judged:
        self.forwards += 1
        loss = float(_bowl(candidate[None])[0])
        head = LinearHead(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), 1.0)
        return Judged(head, loss, 1 / (1 + loss), loss)


def _bowl(candidates: Array) -> Array:
    """Least, 0, at (0.5, ..., 0.5)."""
    return np.sum((candidates - 0.5) ** 2, axis=1)


def _driven(search: Search, tells: int, answer: Answer) -> Array:
    for _ in range(tells):
        if search.stopped is not None:
            break
        search.tell(answer(search.ask()))
    return search.point


def _arrays(words: Any) -> list[Array]:
    """The arrays of a question or an answer; a point as a row."""
    if isinstance(words, Linearise):
        return [words.point[None], words.directions]
    return [words.features, words.derivatives] if isinstance(words, Linearised) else [words]


def _same(left: Any, right: Any) -> bool:
    pairs = zip(_arrays(left), _arrays(right), strict=True)
    return type(left) is type(right) and all(np.array_equal(*pair) for pair in pairs)


def _rows(told: Any) -> Array:
    """What an answer holds a row for each of: candidates, directions."""
    return told.derivatives if isinstance(told, Linearised) else told


def _turned(told: Any) -> Any:
    rows = _rows(told)[::-1]
    return rows if _rows(told) is told else replace(told, derivatives=rows)
