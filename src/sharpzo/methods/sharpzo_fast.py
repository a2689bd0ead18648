"""``sharpzo-fast``: SharpZO with exact slopes from tangents of the text tower."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sharpzo.methods.contexts import context_fit, linear_contexts, rename, wanted_views
from sharpzo.methods.registry import Fit, Task, own_views, register
from sharpzo.methods.searching import (
    SearchingSettings,
    SearchMethod,
    map_and_covariance,
    search_until_spent,
)
from sharpzo.objective import TANGENT_COST, TangentObjective
from sharpzo.optim.presets import PRESETS
from sharpzo.optim.sharpzo import SharpZo, SwitchSettings
from sharpzo.optim.sharpzo_fast import (
    FastSharpnessSettings,
    FastZoSettings,
    SharpZoFastSettings,
)
from sharpzo.settings import Count, Positive, ViewSettings


@dataclass(frozen=True)
class FastSettings(SearchingSettings, ViewSettings):
    """SharpZO from slopes over w in R^dim; ``std`` and views as for `sharpzo`.

    A slope counts as ``tangent_cost`` forwards. There are no steps mu to choose or measure.
    """

    dim: Count = 512
    std: Positive | None = None
    tangent_cost: Positive = TANGENT_COST
    search: SharpZoFastSettings = field(default_factory=SharpZoFastSettings)


def fit(settings: FastSettings, task: Task) -> Fit:
    """Search w in R^dim for the context p0 + A w of the lowest training loss."""
    contexts = linear_contexts(task, settings.dim, settings.std)
    objective = TangentObjective(
        task.tower,
        wanted_views(task, settings.views) or task.train,
        contexts,
        task.validation,
        tangent_cost=settings.tangent_cost,
    )
    stages = SharpZo(settings.dim, settings.search.published(), seed=task.seed)
    result = search_until_spent(stages, objective, settings, task)
    return context_fit(result, contexts, stages.handed_over, failures=objective.failures)


def _published(name: str) -> FastSettings:
    """The paper's settings of a data set; the slopes replace its finite differences alone."""
    preset = PRESETS[name]
    published, ours = preset.settings, _OURS.search
    return FastSettings(
        validate_every=preset.validate_every,
        choose=preset.choose,
        forwards=None,
        steps=preset.steps,
        dim=preset.dim,
        std=preset.std,
        views=preset.views,
        view_scale=(0.08 if name.endswith("/imagenet") else 0.5, 1.0),
        search=SharpZoFastSettings(
            cma=published.cma,
            sharpness=replace(
                ours.sharpness,
                rho=published.sharpness.rho,
                recorded=published.sharpness.recorded,
            ),
            switch=published.switch,
            zo=FastZoSettings(
                learning_rate=published.zo.learning_rate,
                queries=published.zo.queries,
                keep=published.zo.keep,
                score=published.zo.score,
                refresh=published.zo.refresh,
            ),
            start_std=published.start_std,
        ),
    )


# Lengths in token distances as in `sharpzo`. Stage 2 and the switch by validation on EuroSAT, one
# seed (experiments/sharpzo_fast).
_OURS = FastSettings(
    search=SharpZoFastSettings(
        sharpness=FastSharpnessSettings(directions=16, refresh_every=1),
        switch=SwitchSettings(generation=10, patience=10, min_gain=0.01),
        zo=FastZoSettings(learning_rate=3.0, queries=8, refresh=1000),
    )
)

register(
    SearchMethod(
        "sharpzo-fast",
        "SharpZO with exact slopes by forward-mode tangents, no finite differences",
        _OURS,
        fit,
        {name: _published(name) for name in PRESETS if name.startswith("paper/")},
        rename=rename,
        views=own_views,
        shared_context=True,
        need=lambda settings, tower: replace(
            map_and_covariance(settings.dim, tower), tangents=True
        ),
    )
)
