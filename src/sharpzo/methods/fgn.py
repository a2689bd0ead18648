"""``fgn``: forward-only Gauss-Newton over the context."""

from __future__ import annotations

from dataclasses import dataclass, field

from sharpzo.memory import Need
from sharpzo.methods.contexts import context_fit, linear_contexts, rename
from sharpzo.methods.registry import Fit, Task, register
from sharpzo.methods.searching import SearchingSettings, SearchMethod, search_until_spent
from sharpzo.objective import TANGENT_COST, FeatureLoss, TangentObjective
from sharpzo.optim.gauss_newton import GaussNewton
from sharpzo.optim.gauss_newton_settings import GaussNewtonSettings
from sharpzo.settings import Count, Positive
from sharpzo.types import TextTower


@dataclass(frozen=True)
class FgnSettings(SearchingSettings):
    """FGN and the space it searches.

    ``dim``: None moves all n * m numbers of the context, in token distances; a number moves that
    many through a random map, as the searches from losses do. ``difference``: None takes exact
    tangents, each counted as ``tangent_cost`` forwards; a number takes finite differences of that
    step, for towers that have no tangents.
    """

    validate_every: Count = 100
    choose: bool = False
    forwards: Count | None = 5000
    dim: Count | None = None
    difference: Positive | None = None
    tangent_cost: Positive = TANGENT_COST
    search: GaussNewtonSettings = field(default_factory=GaussNewtonSettings)


def fit(settings: FgnSettings, task: Task) -> Fit:
    """Search the context of the lowest training loss."""
    tower, contexts = task.tower, linear_contexts(task, settings.dim)
    objective = TangentObjective(
        tower,
        task.train,
        contexts,
        task.validation,
        tangent_cost=settings.tangent_cost,
        difference=settings.difference,
    )
    loss = FeatureLoss(task.train, tower.logit_scale)
    search = GaussNewton(contexts.dim, loss, settings.search, task.seed, rounding=tower.rounding)
    result = search_until_spent(search, objective, settings, task)
    return context_fit(result, contexts, linearisations=search.notes["linearisations"])


def need(settings: FgnSettings, tower: TextTower) -> Need:
    """The search's arrays, and a random map where there is one."""
    start, features = tower.start.size, len(tower.class_names) * len(tower.projection)
    mapped = 4 * start * (settings.dim or 0)
    own = settings.search.bytes(settings.dim or start, features)
    return Need(mapped + own, tangents=settings.difference is None)


register(
    SearchMethod(
        "fgn",
        "forward-only Gauss-Newton: features linearised, the loss kept exact",
        FgnSettings(),
        fit,
        rename=rename,
        shared_context=True,
        need=need,
    )
)
