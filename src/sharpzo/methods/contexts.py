"""What methods that search in the space of contexts have in common: the map and the objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sharpzo.contexts import ContextMap, Contexts, WholeContext, unit_std
from sharpzo.errors import InputError
from sharpzo.linear import LinearHead
from sharpzo.methods.registry import Fit, Task
from sharpzo.methods.searching import SearchingSettings
from sharpzo.metrics import normalise
from sharpzo.objective import PromptObjective
from sharpzo.settings import Count, Positive, ViewSettings
from sharpzo.types import Array, Features, Result, TextTower

LEAST_TO_MEASURE = 500  # forwards: below, the forwards that measure step sizes are too many


@dataclass(frozen=True)
class ContextSettings(SearchingSettings, ViewSettings):
    """A search over w in R^dim, and the map from w to contexts.

    ``dim``: numbers of w; None moves all n * m of the context, in token distances.
    ``std``: entries of the random map A are N(0, std**2); None scales A by the tower
    (``contexts.unit_std``). ``measure_mu``: the steps of all finite differences come from the
    measured noise of the losses (``objective.measure_smoothing``) instead of from ``search``.
    ``views`` stand in for the photos in training; 0 trains on the photos themselves.
    """

    dim: Count | None = 512
    std: Positive | None = None
    measure_mu: bool = True

    def check(self) -> None:
        super().check()
        if self.dim is None and self.std is not None:
            raise InputError(
                f"std is {self.std} where no random map is; give a dim, too, or leave it out"
            )

    def may_measure(self, task: Task) -> bool:
        """Whether step sizes are to be measured and the budget can bear it."""
        plenty = (self.budget(task).forwards or LEAST_TO_MEASURE) >= LEAST_TO_MEASURE
        return self.measure_mu and plenty


def linear_contexts(task: Task, dim: int | None, std: float | None = None) -> ContextMap:
    """The map w -> p0 + A w with w in R^dim, ``std`` None for the tower's scale.

    ``dim`` None: w is the whole context, n * m numbers in token distances.
    """
    tower = task.tower
    if dim is None:
        return WholeContext(tower.start, tower.token_distance)
    std = unit_std(tower) if std is None else std
    return ContextMap(tower.start, dim=dim, std=std, seed=task.seed)


def wanted_views(task: Task, views: int) -> Features | None:
    """The task's augmented views if ``views`` of them are wanted."""
    if views and task.views is None:
        raise InputError(f"views is {views}, but the task has no augmented views; encode them too")
    return task.views if views else None


def prompt_objective(
    contexts: Contexts,
    task: Task,
    views: int,
    *,
    batch: int | None = None,
    tower: TextTower | None = None,
) -> PromptObjective:
    """The loss over the task's photos, or over their ``views`` if these are wanted.

    Without ``batch`` a loss sees all views at once, with it one view of each photo of the batch.
    """
    wanted = wanted_views(task, views)
    whole = wanted is None or batch is not None
    return PromptObjective(
        tower or task.tower,
        task.train if whole or wanted is None else wanted,
        contexts,
        task.validation,
        batch=batch,
        views=wanted if batch is not None else None,
        seed=task.seed,
    )


def context_fit(
    result: Result, contexts: Contexts, handed_over: Array | None = None, **notes: float
) -> Fit:
    """What a search for a context leaves: the one it chose, and its training loss in the notes.

    ``handed_over`` is the point (d,) between two stages, which `sharpzo report` looks around.
    """
    kept = {"context": result.chosen.point}
    if handed_over is not None:
        kept["context_stage1"] = handed_over
    return Fit.of_search(
        result,
        arrays={name: contexts(point[None])[0].astype(np.float32) for name, point in kept.items()},
        notes=notes,
    )


def rename(arrays: Mapping[str, Array], tower: TextTower) -> LinearHead:
    """The context, of whatever length, is shared by all names: put it before others."""
    context = arrays["context"]
    fitting = tower if len(context) == len(tower.start) else tower.variant(n_context=len(context))
    try:
        return LinearHead.of_text(normalise(fitting.forward(context[None])[0]), tower.logit_scale)
    finally:
        if fitting is not tower:
            fitting.close()
