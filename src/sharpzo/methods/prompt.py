"""Searches over the context: ``cma-es``, ``sharp-cma-es`` and ``sharpzo``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from sharpzo.errors import InputError
from sharpzo.memory import Need, matrices
from sharpzo.methods.contexts import (
    ContextSettings,
    context_fit,
    linear_contexts,
    rename,
    wanted_views,
)
from sharpzo.methods.registry import Fit, Task, own_views, register
from sharpzo.methods.searching import SearchMethod, search_until_spent
from sharpzo.objective import TangentObjective, measure_smoothing
from sharpzo.optim.cma import CmaSettings
from sharpzo.optim.presets import PRESETS
from sharpzo.optim.sharp import SharpnessSettings
from sharpzo.optim.sharpzo import SharpZo, SharpZoSettings, SwitchSettings
from sharpzo.optim.zo import ZoSettings
from sharpzo.rng import generator
from sharpzo.settings import Positive
from sharpzo.types import LossObjective, TextTower


@dataclass(frozen=True)
class PromptSettings(ContextSettings):
    """A search by CMA-ES, descent or both, over w in R^dim or the whole context (dim None).

    ``alpha``: scale A as BBT does instead, to alpha std(token table) / (sqrt(dim) sigma).
    """

    alpha: Positive | None = None
    search: SharpZoSettings = field(default_factory=SharpZoSettings)

    def check(self) -> None:
        super().check()
        if self.alpha is not None and (self.std is not None or self.dim is None):
            raise InputError(f"alpha is {self.alpha}; give a dim, too, and no std")


def with_measured_mu(
    search: SharpZoSettings, objective: LossObjective, seed: int
) -> SharpZoSettings:
    """Steps of RGE (random direction) and CGE (one coordinate) from the losses' noise."""
    draws = generator(seed, "smoothing-directions")
    start = np.zeros(objective.dim)
    random = draws.standard_normal(objective.dim)
    if search.zo.one_sided and search.sharpness.estimator not in ("cge", "rge"):
        mu = measure_smoothing(objective, start, random, one_sided=True)
        return replace(search, zo=replace(search.zo, mu=mu))
    one = np.eye(objective.dim)[int(draws.integers(objective.dim))]
    rge, cge = (measure_smoothing(objective, start, along) for along in (random, one))
    sharp = replace(search.sharpness, mu=cge if search.sharpness.estimator == "cge" else rge)
    return replace(search, sharpness=sharp, zo=replace(search.zo, mu=rge, mu_refresh=cge))


def _takes_differences(search: SharpZoSettings) -> bool:
    """Whether a step of finite differences is used at all: plain CMA-ES takes none."""
    return search.sharpness.estimator != "none" or not search.switch.never


def fit(settings: PromptSettings, task: Task) -> Fit:
    """Search for the context p0 + A w of the lowest training loss."""
    std = settings.std
    if settings.alpha is not None and settings.dim is not None:
        std = bbt_std(task.tower, settings.alpha, settings.dim, settings.search.cma.sigma)
    contexts = linear_contexts(task, settings.dim, std)
    objective = TangentObjective(
        task.tower, wanted_views(task, settings.views) or task.train, contexts, task.validation
    )
    search = settings.search
    if settings.may_measure(task) and _takes_differences(search):
        search = with_measured_mu(search, objective, task.seed)
    stages = SharpZo(contexts.dim, search, seed=task.seed)
    result = search_until_spent(stages, objective, settings, task)
    mu, failures = search.zo.mu, objective.failures
    return context_fit(result, contexts, stages.handed_over, failures=failures, mu=mu)


def need(settings: PromptSettings, tower: TextTower) -> Need:
    """The random map, float32, and the covariance of CMA-ES unless it is diagonal."""
    numbers = settings.dim or 0
    side = 0 if settings.search.cma.diagonal else numbers or tower.start.size
    return Need(4 * tower.start.size * numbers + matrices(side))


def bbt_std(tower: TextTower, alpha: float, dim: int, sigma: float) -> float:
    """BBT's deviation of A's entries: alpha std(token table) / (sqrt(dim) sigma).

    Two rows of the table lie sqrt(2 m) deviations apart; the spread of the coordinates' own means,
    which BBT's std includes, is left out (nothing moves a token along it).
    """
    table = tower.token_distance / np.sqrt(2 * tower.start.shape[1])
    return float(alpha * table / (np.sqrt(dim) * sigma))


def _published(name: str) -> PromptSettings:
    """Published settings: the last point is reported, steps are counted, no validation chooses.

    Authors' programs train on one augmented view of each photo, encoded once.
    """
    preset = PRESETS[name]
    return PromptSettings(
        dim=preset.dim,
        std=preset.std,
        alpha=preset.alpha,
        choose=preset.choose,
        validate_every=preset.validate_every,
        measure_mu=False,
        forwards=preset.forwards,
        steps=preset.steps,
        views=preset.views,
        view_scale=(0.08 if name.endswith("/imagenet") else 0.5, 1.0),
        search=preset.settings,
    )


def _family(*starts: str) -> dict[str, PromptSettings]:
    return {name: _published(name) for name in PRESETS if name.startswith(starts)}


_NEVER = SwitchSettings(generation=None, patience=None)
# w is in token distances (``unit_std``), so the published figures do not carry over.
_PROJECTED = PromptSettings(
    search=SharpZoSettings(
        cma=CmaSettings(population_size=40, sigma=0.4, laziness=10.0),
        # The shift costs 40 forwards in 10 generations instead of 1,024 in each.
        sharpness=SharpnessSettings(rho=0.1, estimator="rge", directions=20, refresh_every=10),
        switch=_NEVER,
        zo=ZoSettings(learning_rate=0.3, keep=0.5, score="z", refresh=1000),
    )
)
# Stage 2 after fifty generations or where validation has stopped rising.
_PROJECTED_STAGES = replace(
    _PROJECTED,
    search=replace(
        _PROJECTED.search, switch=SwitchSettings(generation=50, patience=10, min_gain=0.01)
    ),
)
# For photos that nobody has tuned for, on development photos of three data sets
# (experiments/defaults): the whole context, sharpness and mask without a forward of their own, and
# a descent of one-sided differences with momentum and normalised, slowly shrinking steps. The last
# point is kept: the accuracy on 40 photos is too coarse to tell later points apart.
_SHARPZO = PromptSettings(
    dim=None,
    choose=False,
    search=SharpZoSettings(
        cma=CmaSettings(population_size=12, sigma=0.4, diagonal=True),
        sharpness=SharpnessSettings(rho=1.0, estimator="samples", refresh_every=1),
        switch=SwitchSettings(generation=20, patience=None),
        zo=ZoSettings(
            learning_rate=0.01,
            momentum=0.9,
            queries=8,
            one_sided=True,
            decay=0.99,
            slow_after=200,
            keep=0.9,
            score="z-running",
            refresh=50,
        ),
    ),
)

register(
    SearchMethod(
        "cma-es",
        "plain CMA-ES over a random projection of the context",
        replace(
            _PROJECTED,
            search=replace(_PROJECTED.search, sharpness=SharpnessSettings(estimator="none")),
        ),
        fit,
        _family("bbt", "craft/"),
        rename=rename,
        views=own_views,
        need=need,
        shared_context=True,
    )
)
register(
    SearchMethod(
        "sharp-cma-es",
        "sharpness-aware CMA-ES: stage 1 of SharpZO alone",
        _PROJECTED,
        fit,
        rename=rename,
        views=own_views,
        need=need,
        shared_context=True,
    )
)
register(
    SearchMethod(
        "sharpzo",
        "SharpZO: sharpness-aware CMA-ES, then sparse zeroth-order descent",
        _SHARPZO,
        fit,
        {"projected": _PROJECTED_STAGES, **_family("paper/", "release")},
        rename=rename,
        views=own_views,
        need=need,
        shared_context=True,
    )
)
