"""``cma-es``, ``sep-cma-es`` and ``lm-ma-es``: evolution strategies over the context.

A full covariance of d numbers costs d^2 memory and d^3 time now and then, so ``cma-es`` searches a
random projection. The other two are linear in d and move every number of the context.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sharpzo.errors import InputError
from sharpzo.memory import Need
from sharpzo.methods.registry import Fit, Task, register
from sharpzo.methods.searching import (
    IMAGENET_VIEWS,
    ContextMethod,
    ContextSettings,
    SearchingSettings,
    linear_contexts,
    map_and_covariance,
    objective_for,
    tune_context,
)
from sharpzo.methods.sharpzo_prompt import PROJECTED
from sharpzo.optim.cma import Cma, CmaSettings
from sharpzo.optim.evolution import Centre, Evolution, EvolutionSettings
from sharpzo.optim.large_scale import LmMa, SepCma
from sharpzo.optim.sharp import SharpnessSettings
from sharpzo.optim.zo import ZoSettings
from sharpzo.settings import Count, Positive, Settings, as_dict
from sharpzo.tuning.contexts import table_std
from sharpzo.tuning.objective import PromptObjective, loss_of
from sharpzo.types import TextTower


@dataclass(frozen=True)
class PlainSettings(Settings):
    """CMA-ES, and the point that is validated: theta, the mean of a fresh population, or the
    candidate of lowest loss (``centre``)."""

    cma: CmaSettings = CmaSettings(population_size=40, sigma=0.4, laziness=10.0)
    centre: Centre = "mean"


@dataclass(frozen=True)
class CmaEsSettings(ContextSettings):
    """CMA-ES over w in R^dim; the whole context (dim None) needs ``search.cma.diagonal``.

    ``alpha``: scale A as BBT does instead, to alpha std(token table) / (sqrt(dim) sigma).
    """

    alpha: Positive | None = None
    search: PlainSettings = field(default_factory=PlainSettings)

    def check(self) -> None:
        super().check()
        if self.alpha is not None and (self.std is not None or self.dim is None):
            raise InputError(f"alpha is {self.alpha}; give a dim, too, and no std")


@dataclass(frozen=True)
class WholeSettings(SearchingSettings):
    """A strategy that is linear in the dimension, and the space it searches.

    ``dim``: None moves all n * m numbers of the context, in token distances; a number moves that
    many through a random map, as `cma-es` does.
    """

    dim: Count | None = None
    search: EvolutionSettings = field(default_factory=EvolutionSettings)


def fit(settings: CmaEsSettings, task: Task) -> Fit:
    """Search for the context p0 + A w of the lowest training loss."""
    how, std = settings.search.cma, settings.std
    if settings.alpha is not None and settings.dim is not None:
        # BBT's std includes the spread of the coordinates' own means, which moves no token.
        std = settings.alpha * table_std(task.tower) / (float(np.sqrt(settings.dim)) * how.sigma)
    contexts = linear_contexts(task, settings.dim, std)
    strategy = SepCma if how.diagonal else Cma
    search = strategy(contexts.dim, how, task.seed, centre=settings.search.centre)
    loss = loss_of(task.tower, settings.sigmoid)
    objective = objective_for(PromptObjective, task, contexts, loss=loss)
    return tune_context(search, objective, settings, task)


def fit_whole(
    strategy: type[Evolution[EvolutionSettings]], settings: WholeSettings, task: Task
) -> Fit:
    """Search for the context of the lowest training loss by another strategy."""
    contexts = linear_contexts(task, settings.dim)
    search = strategy(contexts.dim, settings.search, task.seed)
    return tune_context(search, objective_for(PromptObjective, task, contexts), settings, task)


def need(settings: CmaEsSettings | WholeSettings, tower: TextTower) -> Need:
    """The random map, and the covariance unless it is diagonal."""
    diagonal = isinstance(settings, WholeSettings) or settings.search.cma.diagonal
    return map_and_covariance(tower, settings.dim, diagonal=diagonal)


# Data sets: sigma, box, std of A, of CraFT's prompt part (ICML 2024, arXiv 2402.04050).
_CRAFT: dict[str, tuple[float, float | None, float]] = {
    **dict.fromkeys(("caltech", "flowers", "cars", "sun397", "ucf101"), (1.0, 5.0, 0.2)),
    "fgvc": (0.02, None, 0.2),
    "food101": (1.0, None, 0.2),
    "pets": (0.02, 5.0, 0.2),
    "dtd": (0.02, 5.0, 1.0),
    "eurosat": (0.02, 5.0, 1.0),
    "imagenet": (1.0, None, 1.0),
}


def _craft(name: str, sigma: float, bound: float | None, std: float) -> CmaEsSettings:
    """CraFT without its head: an MLP on the logits, trained by backpropagation, is no prompt.

    What is left is CMA-ES on the cross-entropy of one view of each photo, 16 photos per class; the
    reported point is the mean of a fresh population, on ImageNet the best candidate.
    """
    cma = CmaSettings(population_size=40, sigma=sigma, bound=bound)
    plain = CmaEsSettings(choose=False, views=1, std=std, search=PlainSettings(cma, "population"))
    if name != "imagenet":
        return plain
    search = PlainSettings(cma, "best")
    return replace(plain, forwards=4000, view_scale=IMAGENET_VIEWS, search=search)


# BBT (ICML 2022, arXiv 2201.03514) as far as it carries over from language models. Not carried
# over: its 50 free context tokens (here the words of the template). The photos themselves are
# trained on, the best of the validations every 100 evaluations is taken.
_BBT = CmaEsSettings(
    validate_every=100,
    dim=500,
    alpha=1.0,
    search=PlainSettings(CmaSettings(population_size=20, sigma=1.0)),
)


def _key(settings: CmaEsSettings) -> dict[str, Any]:
    """Earlier versions ran `cma-es` as a SharpZO without its parts: their settings, unused."""
    how, published = settings.search, bool(settings.alpha or settings.views)
    search = replace(
        PROJECTED.search,
        cma=how.cma,
        sharpness=SharpnessSettings(estimator="none", centre=how.centre),
        zo=ZoSettings() if published else PROJECTED.search.zo,
    )
    return as_dict(settings) | {"measure_mu": not published, "search": as_dict(search)}


register(
    ContextMethod(
        "cma-es",
        "plain CMA-ES over a random projection of the context",
        CmaEsSettings(),
        fit,
        {"bbt": _BBT, **{f"craft/{name}": _craft(name, *row) for name, row in _CRAFT.items()}},
        need=need,
        key=_key,
    )
)
# Sigma is that of `cma-es`, not tuned here; what it gives is in experiments/sharpzo_fast.
register(
    ContextMethod(
        "sep-cma-es",
        "separable CMA-ES over every number of the context",
        WholeSettings(search=EvolutionSettings(population_size=40, sigma=0.4)),
        lambda settings, task: fit_whole(SepCma, settings, task),
        need=need,
    )
)
register(
    ContextMethod(
        "lm-ma-es",
        "limited-memory matrix adaptation over every number of the context",
        WholeSettings(search=EvolutionSettings(sigma=0.4)),
        lambda settings, task: fit_whole(LmMa, settings, task),
        need=need,
    )
)
