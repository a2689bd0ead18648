"""``zip``: ZIP (ICLR 2025, arXiv 2504.06838), SPSA over a low-rank prompt of 417 numbers."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np

from sharpzo.methods.registry import Fit, Task, register
from sharpzo.methods.searching import ContextMethod, SearchingSettings, objective_for, tune_context
from sharpzo.optim.spsa import Spsa, SpsaSettings
from sharpzo.rng import generator
from sharpzo.settings import Count, Positive, Share, ViewSettings
from sharpzo.tuning.contexts import ZipContexts, table_std
from sharpzo.tuning.objective import PromptObjective


@dataclass(frozen=True)
class ZipSettings(SearchingSettings, ViewSettings):
    """ZIP's prompt and search.

    ``tokens`` of context with ``intrinsic`` numbers together and ``rank`` of their matrix. The
    context begins as noise N(0, ``std``**2) and the map's output is multiplied by ``scale``; None
    makes them the tower's: the deviation of its token table, and its typical token distance.
    ``batch`` photos per step (None: all), each as one of ``views`` augmented views, or as it is.
    """

    forwards: Count | None = 5000
    tokens: Count = 8
    intrinsic: Count = 500
    rank: Count = 5
    std: Positive | None = None
    scale: Positive | None = None
    batch: Count | None = None
    view_scale: tuple[Share, Share] = (0.08, 1.0)
    search: SpsaSettings = field(default_factory=SpsaSettings)


def fit(settings: ZipSettings, task: Task) -> Fit:
    """Search the 417 numbers for the context of the lowest training loss."""
    with closing(task.tower.variant(n_context=settings.tokens)) as tower:
        noise = generator(task.seed, "zip-context").standard_normal(tower.start.shape)
        contexts = ZipContexts(
            ((settings.std or table_std(tower)) * noise).astype(np.float32),
            seed=task.seed,
            intrinsic=settings.intrinsic,
            rank=settings.rank,
            scale=settings.scale or tower.token_distance,
        )
        prompted = replace(task, tower=tower)
        objective = objective_for(PromptObjective, prompted, contexts, batch=settings.batch)
        search = Spsa(contexts.dim, settings.search, task.seed, contexts.first)
        return tune_context(search, objective, settings, task, parameters=contexts.dim)


# 500 steps of 10 forwards, the last iterate. The authors draw new views of the photos in every
# step; here 20 views of each photo are encoded once and a step draws among them.
_PUBLISHED = ZipSettings(
    std=0.02,
    scale=1.0,
    batch=128,
    views=20,
    forwards=None,
    steps=500,
    validate_every=1000,
    choose=False,
)

# Ours: the point that validates best, as every method here may; no views (they cost image passes
# that the other methods do without) and all photos in every loss; and of the gains 0.01, 0.1 and 1
# the best on the validation photos of EuroSAT, 16 shots, seed 1, 5,000 forwards (37.5, 42.5 and
# 37.5 %): with the published one, the random prompt is still on its way by then.
_OURS = ZipSettings(search=SpsaSettings(a=0.1))

register(
    ContextMethod(
        "zip",
        "ZIP: SPSA over a low-rank prompt of 417 numbers",
        _OURS,
        fit,
        {"published": _PUBLISHED},
    )
)
