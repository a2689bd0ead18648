"""``fgn-csc``: forward-only Gauss-Newton over a context of its own for every class.

CoOp calls such contexts class-specific (CSC). Class k's features depend on its own context alone,
so one slope along a direction of all contexts gives every class its own: K times the space of
``fgn`` for the slopes that it pays, and no prompt that another name could use.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sharpzo.contexts import WholeContext
from sharpzo.memory import Need
from sharpzo.methods.contexts import wanted_views
from sharpzo.methods.registry import Fit, Task, own_views, register
from sharpzo.methods.searching import SearchingSettings, SearchMethod, search_until_spent
from sharpzo.objective import TANGENT_COST, FeatureLoss, TangentObjective
from sharpzo.optim.gauss_newton import GaussNewton
from sharpzo.optim.gauss_newton_settings import GaussNewtonSettings
from sharpzo.settings import Count, Positive, ViewSettings
from sharpzo.types import Features, TextTower


@dataclass(frozen=True)
class FgnCscSettings(SearchingSettings, ViewSettings):
    """FGN over ``tokens`` vectors per class (None: as many as the template has words before the
    name), in token distances.

    A forward counts as the tokens that it computes over those of a forward whose classes share
    their context; a tangent as ``tangent_cost`` of such forwards. ``views`` augmented views of each
    photo, crops of a share of ``view_scale``, train beside the photos; the loss knows them, so they
    cost image passes and no forward.
    """

    validate_every: Count = 100
    choose: bool = False
    forwards: Count | None = 5000
    tokens: Count | None = None
    tangent_cost: Positive = TANGENT_COST
    search: GaussNewtonSettings = field(default_factory=GaussNewtonSettings)


def fit(settings: FgnCscSettings, task: Task) -> Fit:
    """Search the contexts of the lowest training loss."""
    tower = task.tower.variant(n_context=settings.tokens, specific=True)
    try:
        contexts = WholeContext(tower.start, tower.token_distance)
        objective = TangentObjective(
            tower,
            task.train,
            contexts,
            task.validation,
            tangent_cost=settings.tangent_cost,
            forward_cost=tower.tokens / task.tower.tokens,
        )
        loss = FeatureLoss(_photos(task, settings.views), tower.logit_scale)
        groups = len(tower.class_names)
        search = GaussNewton(
            contexts.dim, loss, settings.search, task.seed,
            groups=groups, rounding=tower.rounding,
        )  # fmt: skip
        result = search_until_spent(search, objective, settings, task)
    finally:
        tower.close()
    return Fit.of_search(result, {"linearisations": search.notes["linearisations"]})


def _photos(task: Task, views: int) -> Features:
    """The training photos and their views."""
    train, more = task.train, wanted_views(task, views)
    if more is None:
        return train
    vectors = np.concatenate([train.vectors, more.vectors])
    return Features(vectors, np.concatenate([train.labels, more.labels]), train.class_names)


def need(settings: FgnCscSettings, tower: TextTower) -> Need:
    """The search's arrays, and the tower whose contexts are specific."""
    own = tower.variant(n_context=settings.tokens, specific=True)
    groups = len(own.class_names)
    arrays = settings.search.bytes(own.start.size, groups * len(own.projection), groups)
    return Need(arrays, tangents=True, tokens=own.tokens)


register(
    SearchMethod(
        "fgn-csc",
        "forward-only Gauss-Newton over a context of its own for every class",
        FgnCscSettings(),
        fit,
        need=need,
        views=own_views,
    )
)
