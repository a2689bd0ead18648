"""The loop of every search: ask, forward, tell, validate, journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sharpzo.budget import Budget
from sharpzo.optim.search import Search
from sharpzo.types import Chosen, Evaluated, Kind, Reason, Result, Step

Listener = Callable[[Step], None]


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
) -> Result:
    """Spend the budget and return the chosen point.

    After at least ``validate_every`` forwards and at the end of a step, the search's point is
    evaluated (a forward) and reported to ``listen`` and to the search. With ``choose`` the point
    of the highest validation accuracy wins, ties to the lower validation loss; otherwise, or
    without validation photos, the last point does. ``milestones`` are forwards at which the
    choice of the time is kept, too. Seconds count from ``begin``, a reading of
    `time.perf_counter` (None: from now).
    """
    begin = time.perf_counter() if begin is None else begin
    chosen: Chosen | None = None
    kept: dict[int, Chosen] = {}
    looked_at = (-1, -1)  # step and forwards of the last validation

    def validate() -> None:
        nonlocal chosen, looked_at
        looked_at = (search.step, objective.forwards)
        point = search.point
        found = objective.evaluate(point)
        seconds = time.perf_counter() - begin
        if chosen is not None:
            kept.update({m: chosen for m in milestones if m < objective.forwards and m not in kept})
        if chosen is None or not choose or _better(found, chosen.evaluated):
            chosen = Chosen(point.copy(), found, objective.forwards, seconds)
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

    validate()
    # What is kept back to validate the last point within the budget.
    last = objective.price(1)
    while (reason := search.stopped) is None:
        request = search.ask()
        if (reason := spent(request.price(objective) + last)) is not None:
            break
        step = search.step
        search.tell(*request.answer(objective, step))
        if search.step > step and objective.forwards - looked_at[1] >= validate_every:
            validate()
    if looked_at[0] != search.step and spent(last) is not Reason.FORWARDS:
        validate()
    seconds = time.perf_counter() - begin
    assert chosen is not None
    kept.update({m: chosen for m in milestones if m not in kept})
    return Result(reason, chosen, objective.forwards, seconds, search.step, kept)


def _better(new: Evaluated, old: Evaluated) -> bool:
    """Whether validation prefers the new point; without photos the newer one is taken."""
    if new.validation_accuracy is None or old.validation_accuracy is None:
        return True
    if new.validation_accuracy != old.validation_accuracy:
        return new.validation_accuracy > old.validation_accuracy
    return (new.validation_loss or 0.0) < (old.validation_loss or 0.0)
