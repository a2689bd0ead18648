"""``fgn`` and ``fgn-csc``: forward-only Gauss-Newton over the context.

``fgn`` tunes one context for all names. ``fgn-csc`` gives every class a context of its own, which
CoOp calls class-specific (CSC): class k's features depend on its own context alone, so one slope
along a direction of all contexts gives every class its own. That is K times the space for the
slopes that ``fgn`` pays, and no prompt that another name could use.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from sharpzo.memory import Need
from sharpzo.methods.registry import Fit, Task, register
from sharpzo.methods.searching import (
    ContextMethod,
    SearchingSettings,
    SearchMethod,
    context_fit,
    linear_contexts,
    objective_for,
    search_until_spent,
)
from sharpzo.optim.gauss_newton import GaussNewton, GaussNewtonSettings
from sharpzo.settings import Count, Positive, ViewSettings
from sharpzo.tuning.contexts import WholeContext
from sharpzo.tuning.objective import TANGENT_COST, TangentObjective, feature_loss, loss_of
from sharpzo.types import Features, Result, TextTower


@dataclass(frozen=True)
class GaussNewtonRun(SearchingSettings):
    """A run of Gauss-Newton; each exact tangent counts as ``tangent_cost`` forwards. ``sigmoid``:
    the loss of sigmoids in place of a softmax, for models that were trained with it."""

    validate_every: Count = 100
    choose: bool = False
    forwards: Count | None = 5000
    tangent_cost: Positive = TANGENT_COST
    sigmoid: bool = False
    search: GaussNewtonSettings = field(default_factory=GaussNewtonSettings)


@dataclass(frozen=True)
class FgnSettings(GaussNewtonRun):
    """FGN and the space it searches.

    ``dim``: None moves all n * m numbers of the context, in token distances; a number moves that
    many through a random map, as the searches from losses do. ``difference``: None takes exact
    tangents; a number takes finite differences of that step, each for a forward, for towers that
    have no tangents.
    """

    dim: Count | None = None
    difference: Positive | None = None


@dataclass(frozen=True)
class FgnCscSettings(GaussNewtonRun, ViewSettings):
    """FGN over ``tokens`` vectors per class (None: as many as the template has words before the
    name), in token distances.

    A forward counts as the tokens that it computes over those of a forward whose classes share
    their context. ``views`` train beside the photos; only the loss reads them, so they cost image
    passes and no forward.
    """

    tokens: Count | None = None


def fit(settings: FgnSettings, task: Task) -> Fit:
    """Search the context of the lowest training loss."""
    contexts = linear_contexts(task, settings.dim)
    costs = {"tangent_cost": settings.tangent_cost, "difference": settings.difference}
    loss = loss_of(task.tower, settings.sigmoid)
    objective = objective_for(TangentObjective, task, contexts, loss=loss, **costs)
    result, notes = _search(objective, task.train, settings, task)
    return context_fit(result, contexts, notes)


def fit_specific(settings: FgnCscSettings, task: Task) -> Fit:
    """Search the contexts of the lowest training loss."""
    with closing(task.tower.variant(n_context=settings.tokens, specific=True)) as tower:
        objective = TangentObjective(
            tower,
            task.train,
            WholeContext(tower.start, tower.token_distance),
            task.validation,
            tangent_cost=settings.tangent_cost,
            loss=loss_of(task.tower, settings.sigmoid),
            forward_cost=tower.tokens / task.tower.tokens,
        )
        photos = task.train
        if (views := task.views) is not None:
            vectors = np.concatenate([photos.vectors, views.vectors])
            labels = np.concatenate([photos.labels, views.labels])
            photos = Features(vectors, labels, photos.class_names)
        groups = len(tower.class_names)
        result, notes = _search(objective, photos, settings, task, groups)
    return Fit.of_search(result, notes)


def _search(
    objective: TangentObjective,
    photos: Features,
    settings: GaussNewtonRun,
    task: Task,
    groups: int = 1,
) -> tuple[Result, dict[str, float]]:
    tower = objective.tower
    loss = feature_loss(photos, tower.logit_scale, loss_of(tower, settings.sigmoid))
    search = GaussNewton(
        objective.dim, loss, settings.search, task.seed, groups=groups, rounding=tower.rounding
    )
    result = search_until_spent(search, objective, settings, task)
    return result, {"linearisations": search.notes["linearisations"]}


def need(settings: FgnSettings, tower: TextTower) -> Need:
    """The search's arrays, and a random map where there is one."""
    start, features = tower.start.size, len(tower.class_names) * len(tower.projection)
    mapped = 4 * start * (settings.dim or 0)
    own = settings.search.bytes(settings.dim or start, features)
    return Need(mapped + own, tangents=settings.difference is None)


def need_specific(settings: FgnCscSettings, tower: TextTower) -> Need:
    """The search's arrays, and the tower whose contexts are specific."""
    own = tower.variant(n_context=settings.tokens, specific=True)
    groups = len(own.class_names)
    arrays = settings.search.bytes(own.start.size, groups * len(own.projection), groups)
    return Need(arrays, tangents=True, tokens=own.tokens)


register(
    ContextMethod(
        "fgn",
        "forward-only Gauss-Newton: features linearised, the loss kept exact",
        FgnSettings(),
        fit,
        need=need,
    )
)
register(
    SearchMethod(
        "fgn-csc",
        "forward-only Gauss-Newton over a context of its own for every class",
        FgnCscSettings(),
        fit_specific,
        need=need_specific,
    )
)
