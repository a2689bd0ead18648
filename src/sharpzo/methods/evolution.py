"""``sep-cma-es`` and ``lm-ma-es``: evolution strategies for many numbers, over the whole context.

A full covariance of d numbers costs d^2 memory and d^3 time now and then; these two are linear in
d, so they need no random map and move every number of the context.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sharpzo.methods.contexts import context_fit, linear_contexts, rename
from sharpzo.methods.registry import Fit, Task, register
from sharpzo.methods.searching import (
    SearchingSettings,
    SearchMethod,
    map_and_covariance,
    search_until_spent,
)
from sharpzo.objective import PromptObjective
from sharpzo.optim.evolution import Evolution, EvolutionSettings
from sharpzo.optim.lm_ma import LmMa
from sharpzo.optim.sep_cma import SepCma
from sharpzo.settings import Count

Strategy = Callable[[int, EvolutionSettings, int], Evolution]


@dataclass(frozen=True)
class EvolutionMethodSettings(SearchingSettings):
    """An evolution strategy and the space it searches.

    ``dim``: None moves all n * m numbers of the context, in token distances; a number moves that
    many through a random map, as `cma-es` does.
    """

    dim: Count | None = None
    search: EvolutionSettings = field(default_factory=EvolutionSettings)


def fit(strategy: Strategy, settings: EvolutionMethodSettings, task: Task) -> Fit:
    """Search for the context of the lowest training loss."""
    contexts = linear_contexts(task, settings.dim)
    objective = PromptObjective(task.tower, task.train, contexts, task.validation)
    search = strategy(contexts.dim, settings.search, task.seed)
    result = search_until_spent(search, objective, settings, task)
    return context_fit(result, contexts, failures=objective.failures)


# Sigma is that of `cma-es`, not tuned here; what it gives is in experiments/sharpzo_fast.
register(
    SearchMethod(
        "sep-cma-es",
        "separable CMA-ES over every number of the context",
        EvolutionMethodSettings(search=EvolutionSettings(population_size=40, sigma=0.4)),
        lambda settings, task: fit(SepCma, settings, task),
        rename=rename,
        need=lambda settings, tower: map_and_covariance(settings.dim, tower),
        shared_context=True,
    )
)
register(
    SearchMethod(
        "lm-ma-es",
        "limited-memory matrix adaptation over every number of the context",
        EvolutionMethodSettings(search=EvolutionSettings(sigma=0.4)),
        lambda settings, task: fit(LmMa, settings, task),
        rename=rename,
        need=lambda settings, tower: map_and_covariance(settings.dim, tower),
        shared_context=True,
    )
)
