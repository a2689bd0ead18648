"""The loop: ask, forward, tell, validate, journal. One for every search."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sharpzo.budget import Budget
from sharpzo.metrics import accuracy, cross_entropy
from sharpzo.objective import Objective
from sharpzo.types import Array, Features, Reason, Result, Search, Step

Listener = Callable[[Step], None]


@dataclass(frozen=True, eq=False)
class Chooser:
    """The validation split as a judge of text features; without photos it has no opinion."""

    photos: Features | None
    logit_scale: float

    def judge(self, text_features: Array) -> tuple[float | None, float | None]:
        """Unit text features (K, D) -> accuracy and cross-entropy on the validation photos."""
        if self.photos is None:
            return None, None
        logits = self.logit_scale * self.photos.vectors @ text_features.T
        return accuracy(logits, self.photos.labels), float(
            cross_entropy(logits, self.photos.labels)
        )


def run(
    search: Search,
    objective: Objective,
    budget: Budget,
    chooser: Chooser,
    *,
    validate_every: int,
    choose: bool = True,
    listen: Listener = lambda step: None,
) -> Result:
    """Spend the budget and return the chosen point.

    After at least ``validate_every`` forwards and at the end of a step, the search's point is
    validated (one forward) and reported to ``listen`` and to the search. With ``choose`` the point
    of the highest validation accuracy wins, ties to the lower validation loss; otherwise, or
    without validation photos, the last point does.
    """
    begin = time.perf_counter()
    chosen: tuple[tuple[float, float], Array, Array, float | None] | None = None
    judged = (-1, -1)  # step and forwards of the last validation

    def validate() -> None:
        nonlocal chosen, judged
        judged = (search.step, objective.forwards)
        point = search.point
        text = objective.text_features(point)
        score, loss = chooser.judge(text)
        if not choose or score is None or loss is None:
            chosen = (0.0, 0.0), point.copy(), text, score
        elif chosen is None or (-score, loss) < chosen[0]:
            chosen = (-score, loss), point.copy(), text, score
        seconds = time.perf_counter() - begin
        listen(
            Step(search.step, search.stage, objective.forwards, seconds, objective.loss(text),
                 score, loss, dict(search.notes))
        )  # fmt: skip
        if score is not None:
            search.observe(score)

    def spent(wanted: int) -> Reason | None:
        seconds = time.perf_counter() - begin
        return budget.exhausted(
            forwards=objective.forwards, seconds=seconds, steps=search.step, wanted=wanted
        )

    validate()
    while (reason := search.stopped) is None:
        candidates = search.ask()
        # One forward is kept back, so that the last point can be validated within the budget.
        if (reason := spent(len(candidates) + 1)) is not None:
            break
        step = search.step
        search.tell(objective(candidates))
        if search.step > step and objective.forwards - judged[1] >= validate_every:
            validate()
    if judged[0] != search.step and spent(1) is not Reason.FORWARDS:
        validate()
    assert chosen is not None
    _, best, text, score = chosen
    return Result(
        reason, best, text, objective.forwards, time.perf_counter() - begin, search.step,
        objective.loss(text), score,
    )  # fmt: skip
