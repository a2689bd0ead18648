"""The loop of every search: ask, forward, tell, validate, journal."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sharpzo.budget import Budget
from sharpzo.errors import EngineError
from sharpzo.linear import LinearHead
from sharpzo.optim.search import Kept, Search
from sharpzo.storage.journal import Journal
from sharpzo.types import Array, Chosen, Evaluated, Head, Kind, Reason, Result, State, Step

Listener = Callable[[Step], None]
_log = logging.getLogger("sharpzo")
Load = Callable[[Mapping[str, Array]], Head]


def run(
    search: Search[Kind],
    objective: Kind,
    budget: Budget,
    *,
    validate_every: int,
    choose: bool = True,
    milestones: Sequence[int] = (),
    listen: Listener = lambda step: None,
    begin: float | None = None,
    journal: Journal | None = None,
    load: Load = LinearHead.from_arrays,
) -> Result:
    """Spend the budget and return the chosen point.

    After at least ``validate_every`` forwards and at the end of a step, the search's point is
    evaluated (a forward) and reported to ``listen`` and to the search. With ``choose`` the point
    of the highest validation accuracy wins, ties to the lower validation loss; otherwise, or
    without validation photos, the last point does. A point of a non-finite loss is never taken but
    where there is no other. ``milestones`` are forwards at which the
    choice of the time is kept, too. Seconds count from ``begin``, a reading of
    `time.perf_counter` (None: from now).

    An engine that fails ends the search: its point so far is returned, `Reason.ENGINE` says why.

    A ``journal`` gets a snapshot now and then, of an objective that has a state. From the snapshot
    that an earlier process left, the search goes on bit for bit; ``load`` makes a head of its
    arrays.
    """
    begin = time.perf_counter() if begin is None else begin
    so_far = _SoFar()
    if journal is not None and not isinstance(objective, Kept):
        journal = None

    def validate() -> None:
        so_far.looked_at = (search.step, objective.forwards)
        point = search.point
        found = objective.evaluate(point)
        seconds = time.perf_counter() - begin
        so_far.keep(m for m in milestones if m < objective.forwards)
        chosen = so_far.chosen
        taken = np.isfinite(found.loss) and (
            chosen is None or not choose or _better(found, chosen.evaluated)
        )
        if taken or chosen is None:
            so_far.chosen = Chosen(point.copy(), found, objective.forwards, seconds)
        listen(
            Step(search.step, search.stage, objective.forwards, seconds, found.loss,
                 found.validation_accuracy, found.validation_loss, dict(search.notes))
        )  # fmt: skip
        if found.validation_accuracy is not None:
            search.observe(found.validation_accuracy)

    def spent(wanted: int) -> Reason | None:
        seconds = time.perf_counter() - begin
        return budget.exhausted(
            forwards=objective.forwards, seconds=seconds, steps=search.step, wanted=wanted
        )

    def state() -> State:
        assert isinstance(objective, Kept)
        return {
            **_under("search", search.state()),
            **_under("objective", objective.state()),
            **so_far.state(),
        }

    if journal is not None:
        journal.searching = True
    if journal is not None and journal.state is not None:
        assert isinstance(objective, Kept)
        search.restore(_of("search", journal.state))
        objective.restore(_of("objective", journal.state))
        so_far = _SoFar.of(journal.state, load)
    else:
        validate()
    # What is kept back to validate the last point within the budget.
    last = objective.price(1)
    while (reason := search.stopped) is None:
        request = search.ask()
        if (reason := spent(request.price(objective) + last)) is not None:
            break
        step = search.step
        try:
            search.tell(*request.answer(objective, step))
            if search.step > step and objective.forwards - so_far.looked_at[1] >= validate_every:
                validate()
        except EngineError as error:
            _log.warning(f"{error}; the search ends with the best point until then")
            reason = Reason.ENGINE
            break
        if journal is not None:
            journal.after(state, time.perf_counter() - begin)
    unseen = so_far.looked_at[0] != search.step and reason is not Reason.ENGINE
    if unseen and spent(last) is not Reason.FORWARDS:
        validate()
    if journal is not None:
        journal.end()
    seconds = time.perf_counter() - begin
    assert so_far.chosen is not None
    so_far.keep(milestones)
    return Result(
        reason, so_far.chosen, objective.forwards, seconds, search.step, so_far.milestones
    )


@dataclass
class _SoFar:
    """What a run holds beside search and objective: the point chosen so far, those chosen at
    milestones, and step and forwards of the last validation."""

    chosen: Chosen | None = None
    milestones: dict[int, Chosen] = field(default_factory=dict[int, Chosen])
    looked_at: tuple[int, int] = (-1, -1)

    def keep(self, milestones: Iterable[int]) -> None:
        """The choice so far is that of these milestones, but for those that have one."""
        if self.chosen is not None:
            self.milestones.update(dict.fromkeys(milestones, self.chosen) | self.milestones)

    def state(self) -> State:
        """Copies of all of it."""
        found: State = {"step": self.looked_at[0], "forwards": self.looked_at[1]}
        chosen = {f"milestones.{m}": one for m, one in self.milestones.items()}
        if self.chosen is not None:
            chosen["chosen"] = self.chosen
        for name, one in chosen.items():
            found |= _under(name, _state_of(one))
        return found

    @classmethod
    def of(cls, state: State, load: Load) -> _SoFar:
        """Make the same of a state."""
        kept = _of("milestones", state)
        milestones = {int(name.partition(".")[0]) for name in kept}
        return cls(
            _chosen_of(_of("chosen", state), load),
            {m: _chosen_of(_of(str(m), kept), load) for m in sorted(milestones)},
            (int(state["step"]), int(state["forwards"])),
        )


def _state_of(chosen: Chosen) -> State:
    found = chosen.evaluated
    numbers = {
        "forwards": chosen.forwards, "seconds": chosen.seconds, "loss": found.loss,
        "accuracy": found.validation_accuracy, "validation_loss": found.validation_loss,
    }  # fmt: skip
    return {
        "point": chosen.point,
        **_under("head", dict(found.head.arrays())),
        **{name: value for name, value in numbers.items() if value is not None},
    }


def _chosen_of(state: State, load: Load) -> Chosen:
    head = load({name: np.asarray(array) for name, array in _of("head", state).items()})
    accuracy, loss = (_number(state.get(name)) for name in ("accuracy", "validation_loss"))
    found = Evaluated(head, float(state["loss"]), accuracy, loss)
    return Chosen(
        np.asarray(state["point"]), found, int(state["forwards"]), float(state["seconds"])
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _under(name: str, state: State) -> State:
    return {f"{name}.{key}": value for key, value in state.items()}


def _of(name: str, state: State) -> State:
    head = f"{name}."
    return {key[len(head) :]: value for key, value in state.items() if key.startswith(head)}


def _better(new: Evaluated, old: Evaluated) -> bool:
    """Whether validation prefers the new point; without photos the newer one is taken."""
    if new.validation_accuracy is None or old.validation_accuracy is None:
        return True
    new_loss, old_loss = new.validation_loss or 0.0, old.validation_loss or 0.0
    return (new.validation_accuracy, -new_loss) > (old.validation_accuracy, -old_loss)
