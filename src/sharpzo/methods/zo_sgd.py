"""``zo-sgd``: MeZO and its variants (sign, momentum, conservative, Adam) on the context's w."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from sharpzo.errors import InputError
from sharpzo.memory import Need
from sharpzo.methods.registry import Fit, Task, register
from sharpzo.methods.searching import (
    ContextMethod,
    DifferenceSettings,
    context_fit,
    linear_contexts,
    map_and_covariance,
    objective_for,
    search_until_spent,
)
from sharpzo.optim.zo import MeZo, MeZoSettings, Variant
from sharpzo.rng import generator
from sharpzo.settings import Count
from sharpzo.tuning.objective import TangentObjective, loss_of, measure_smoothing
from sharpzo.types import TextTower


@dataclass(frozen=True)
class ZoSgdSettings(DifferenceSettings):
    """A zeroth-order descent over w in R^dim, or the whole context (dim None).

    ``batch`` photos (None: all) in each step, as views where ``views`` are wanted.
    """

    batch: Count | None = None
    search: MeZoSettings = field(default_factory=MeZoSettings)

    def check(self) -> None:
        super().check()
        if self.search.exact and (self.batch is not None or self.views):
            raise InputError(
                "exact slopes are those of all photos as they are; leave out batch and views"
            )


def fit(settings: ZoSgdSettings, task: Task) -> Fit:
    """Descend from the template's own words, w = 0."""
    contexts = linear_contexts(task, settings.dim, settings.std)
    loss, search = loss_of(task.tower, settings.sigmoid), settings.search
    objective = objective_for(TangentObjective, task, contexts, batch=settings.batch, loss=loss)
    if settings.may_measure(task) and not search.exact:
        along = generator(task.seed, "smoothing-directions").standard_normal(contexts.dim)
        search = replace(search, mu=measure_smoothing(objective, np.zeros(contexts.dim), along))
    descent = MeZo(contexts.dim, search, task.seed)
    notes = {} if search.exact else {"mu": search.mu}
    result = search_until_spent(descent, objective, settings, task)
    return context_fit(result, contexts, {"failures": objective.failures, **notes})


def _published(rate: float, mu: float, batch: int, steps: int, variant: Variant) -> ZoSgdSettings:
    """The best validation of every 4,000 steps is kept, as MeZO does.

    The figures are those of prompts of language models, tuned entry by entry: rate and mu carry
    over to w only as numbers. The data, the prompt's place (prefixes: keys and values of every
    layer) and the thousand training examples do not.
    """
    return ZoSgdSettings(
        measure_mu=False,
        batch=batch,
        forwards=None,
        steps=steps,
        validate_every=4000 * (5 if variant == "conservative" else 2),
        search=MeZoSettings(variant, learning_rate=rate, mu=mu),
    )


# MeZO's prefix settings; of ZO-Bench's grids for prompts (rates 1e-3 to 1e-6, mu 1e-2 to 1e-4,
# conservative one decade lower) the upper ends.
_PRESETS = {
    "mezo/opt-13b": _published(1e-2, 1e-1, 16, 20_000, "plain"),
    "mezo/roberta-large": _published(1e-2, 1e-1, 64, 100_000, "plain"),
    "zo-bench/plain": _published(1e-3, 1e-2, 16, 20_000, "plain"),
    "zo-bench/sign": _published(1e-3, 1e-2, 16, 20_000, "sign"),
    "zo-bench/momentum": _published(1e-3, 1e-2, 16, 20_000, "momentum"),
    "zo-bench/conservative": _published(1e-4, 1e-2, 16, 20_000, "conservative"),
    "zo-bench/adam": _published(1e-3, 1e-2, 16, 20_000, "adam"),
}

# With w in token distances (``unit_std``) and all photos in every loss. Of the rates tried (three
# for plain, two for sign, momentum and adam, one for conservative) the best on the validation
# photos of EuroSAT, 16 shots, seed 1, 5,000 forwards. The default is MeZO; Adam validated best.
_RATES: dict[Variant, float] = {
    "plain": 0.03,
    "sign": 0.003,
    "momentum": 0.01,
    "conservative": 0.1,
    "adam": 0.01,
}
_OURS = {
    variant: ZoSgdSettings(search=MeZoSettings(variant, learning_rate=rate))
    for variant, rate in _RATES.items()
}
# Every number of the context in place of 512 projected ones; its rate on the same photos.
_WHOLE = ZoSgdSettings(dim=None, search=MeZoSettings(learning_rate=0.1))
# Forward gradients: eight exact slopes cost 13 forwards, one 3, and a step along the mean of eight
# may be eight times as long.
_EXACT = {
    "forward-gradient": ZoSgdSettings(
        search=MeZoSettings(learning_rate=0.24, queries=8, exact=True)
    ),
    "forward-gradient-whole": ZoSgdSettings(
        dim=None, search=MeZoSettings(learning_rate=0.8, queries=8, exact=True)
    ),
}


def need(settings: ZoSgdSettings, tower: TextTower) -> Need:
    """The random map, and tangents for exact slopes."""
    return map_and_covariance(tower, settings.dim, diagonal=True, tangents=settings.search.exact)


register(
    ContextMethod(
        "zo-sgd",
        "MeZO: zeroth-order descent along random directions; variants as presets",
        _OURS["plain"],
        fit,
        {**_OURS, "whole-context": _WHOLE, **_EXACT, **_PRESETS},
        need=need,
    )
)
