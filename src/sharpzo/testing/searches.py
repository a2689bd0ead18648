"""What every search promises (`types.Search`), as checks that raise AssertionError.

from sharpzo.testing import SEARCH_CHECKS

@pytest.mark.parametrize("check", SEARCH_CHECKS, ids=lambda check: check.__name__)
def test_my_search(check):
    check(lambda dim, seed: MySearch(dim, seed=seed), MySearch.from_state)
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from sharpzo.budget import Budget
from sharpzo.heads.linear import LinearHead
from sharpzo.run import run
from sharpzo.types import Array, Judged, Reason, Search, State

Make = Callable[[int, int], Search]  # dimension, seed -> a new search
Restore = Callable[[State], Search]


def shapes_hold(make: Make, restore: Restore) -> None:
    """Candidates are finite float64 (P, dim), the same again until told; dimension 1 works."""
    for dim in (1, 2, 7):
        search = make(dim, 1)
        demand(search.dim == dim, f"dim is {search.dim} where {dim} was asked for")
        for _ in range(12):
            if search.stopped is not None:
                break
            first, again = search.ask(), search.ask()
            demand(first.ndim == 2 and first.shape[1] == dim, f"ask gave shape {first.shape}")
            demand(first.dtype == np.float64, f"candidates are {first.dtype}, not float64")
            demand(bool(np.isfinite(first).all()), "candidates are not finite")
            demand(np.array_equal(first, again), "a second ask before tell gave other candidates")
            search.tell(_bowl(first))
            demand(search.point.shape == (dim,), f"point has shape {search.point.shape}")


def arguments_stay_as_they_are(make: Make, restore: Restore) -> None:
    """Losses told and candidates handed out may be changed by the caller, and never are by us."""
    search, other = make(4, 1), make(4, 1)
    for _ in range(6):
        candidates = search.ask()
        losses = _bowl(candidates)
        kept = losses.copy()
        search.tell(losses)
        demand(np.array_equal(losses, kept), "tell changed the losses that it was given")
        losses[:] = np.nan
        candidates[:] = np.nan
        other.tell(_bowl(other.ask()))
    demand(np.array_equal(search.ask(), other.ask()), "an array of the caller's is still in use")


def losses_belong_to_rows(make: Make, restore: Restore) -> None:
    """Losses are read in the order of the candidates: turned round, they lead elsewhere."""
    right, wrong = make(5, 1), make(5, 1)
    for _ in range(25):
        for search, order in ((right, 1), (wrong, -1)):
            if search.stopped is None:
                search.tell(_bowl(search.ask())[::order])
    demand(not np.array_equal(right.point, wrong.point), "the order of the losses has no effect")
    demand(
        float(_bowl(right.point[None])[0]) < float(_bowl(make(5, 1).point[None])[0]),
        "25 tells brought the point no closer to the minimum of a bowl",
    )


def seeds_decide(make: Make, restore: Restore) -> None:
    """Equal seeds give equal runs to the bit, other seeds another run."""
    one, same, other = (_driven(make(6, seed), 15) for seed in (1, 1, 2))
    demand(np.array_equal(one, same), "equal seeds gave different runs")
    demand(not np.array_equal(one, other), "the seed has no effect")


def global_randomness_is_untouched(make: Make, restore: Restore) -> None:
    """Neither Python's nor NumPy's global generator is read or moved."""
    ends = []
    for seed in (5, 6):
        before = seed_global_randomness(seed)
        ends.append(_driven(make(4, 1), 10))
        demand(before == global_randomness(), "a global generator was used")
    demand(np.array_equal(*ends), "a global seed changes the search")


def states_resume_bit_for_bit(make: Make, restore: Restore) -> None:
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
            demand(np.array_equal(left, right), f"tell {call}: a restored search asks otherwise")
            losses = _bowl(left)
            if call % 5 == 4:
                losses[0] = np.nan
            straight.tell(losses)
            resumed.tell(losses)
            if call % 3 == 2:
                straight.observe(0.1 * call)
                resumed.observe(0.1 * call)
        demand(np.array_equal(straight.point, resumed.point), "a restored search ends elsewhere")


def bad_losses_do_no_harm(make: Make, restore: Restore) -> None:
    """Non-finite and equal losses leave finite points; where no loss is finite, it says DIVERGED
    or goes on, and never takes a point that is not a number.
    """
    for bad in (np.nan, np.inf, -np.inf):
        search = make(4, 1)
        for call in range(12):
            if search.stopped is not None:
                break
            losses = _bowl(search.ask())
            losses[call % len(losses)] = bad
            search.tell(losses)
            demand(bool(np.isfinite(search.point).all()), f"a loss of {bad} spoilt the point")
        demand(np.isfinite(search.best[1]), f"a loss of {bad} became the best one")
    for value in (0.0, 1e300, np.nan, np.inf):
        search = make(4, 1)
        for _ in range(12):
            if search.stopped is not None:
                break
            search.tell(np.full(len(search.ask()), value))
        demand(bool(np.isfinite(search.point).all()), f"losses all {value} spoilt the point")
        if search.stopped is not None:
            demand(isinstance(search.stopped, Reason), "stopped is not a Reason")


def wrong_numbers_of_losses_are_refused(make: Make, restore: Restore) -> None:
    """Too many, too few or misshapen losses raise, and the search goes on afterwards."""
    search = make(4, 1)
    many = len(search.ask())
    for losses in (np.zeros(many + 1), np.zeros(many - 1), np.zeros((many, 1))):
        try:
            search.tell(losses)
        except ValueError:
            continue
        raise AssertionError(f"{losses.shape} losses were taken for {many} candidates")
    search.tell(_bowl(search.ask()))


def budgets_are_respected(make: Make, restore: Restore) -> None:
    """A run spends at most its forwards, and less only by what the next batch would need."""
    for forwards in (1, 10, 57, 200):
        objective = _Bowl(4)
        search = make(4, 1)
        result = run(search, objective, Budget(forwards=forwards), validate_every=20)
        demand(objective.forwards <= forwards, f"{objective.forwards} forwards of {forwards}")
        demand(result.forwards == objective.forwards, "the forwards reported are not those spent")
        if result.reason is Reason.FORWARDS:
            gap = forwards - objective.forwards
            demand(gap <= len(search.ask()), f"{gap} of {forwards} forwards were left unspent")


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


def check_search(make: Make, restore: Restore) -> None:
    """Run every check.

    >>> from sharpzo.search import Cma, CmaSettings
    >>> settings = CmaSettings(population_size=6)
    >>> check_search(
    ...     make=lambda dim, seed: Cma(dim, settings, seed),
    ...     restore=lambda state: Cma.from_state(settings, state),
    ... )
    """
    for check in SEARCH_CHECKS:
        check(make, restore)


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

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.forwards = 0

    def price(self, candidates: Array) -> int:
        return len(candidates)

    def __call__(self, candidates: Array, step: int = 0) -> Array:
        self.forwards += len(candidates)
        return _bowl(candidates)

    def judge(self, candidate: Array) -> Judged:
        self.forwards += 1
        loss = float(_bowl(candidate[None])[0])
        head = LinearHead(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), 1.0)
        return Judged(head, loss, 1 / (1 + loss), loss)


def _bowl(candidates: Array) -> Array:
    """Least, 0, at (0.5, ..., 0.5)."""
    return np.sum((candidates - 0.5) ** 2, axis=1)


def _driven(search: Search, tells: int) -> Array:
    for _ in range(tells):
        if search.stopped is not None:
            break
        search.tell(_bowl(search.ask()))
    return search.point
