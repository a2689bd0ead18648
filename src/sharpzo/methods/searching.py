"""Shared by methods that search: budget, choice of the point, and contexts.

All have one shape: a map from the search's numbers to contexts, an objective, a search; run it
(``search_until_spent``) and keep what it chose (``context_fit``); or both (``tune_context``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from sharpzo.budget import Budget
from sharpzo.errors import InputError
from sharpzo.linear import LinearHead
from sharpzo.memory import Need, matrices
from sharpzo.methods.registry import Fit, Method, Task
from sharpzo.metrics import binomial_tail, normalise
from sharpzo.optim import Search
from sharpzo.settings import Count, Positive, Settings, ViewSettings
from sharpzo.tuning.contexts import ContextMap, Contexts, WholeContext, unit_std
from sharpzo.tuning.objective import PromptObjective
from sharpzo.tuning.run import run
from sharpzo.types import Array, Features, Head, Kind, Result, TextTower

IMAGENET_VIEWS = (0.08, 1.0)  # shares of a photo that authors' programs crop on ImageNet
LEAST_TO_MEASURE = 500  # forwards: below, the forwards that measure step sizes are too many


@dataclass(frozen=True)
class SearchingSettings(Settings):
    """How a search is run, whatever it searches.

    ``validate_every``: forwards between two validations (one forward each). ``choose``: keep the
    point that validated best instead of the last one. ``forwards`` and ``steps``: what is spent
    where the caller sets no budget.
    """

    validate_every: Count = 200
    choose: bool = True
    forwards: Count | None = 8000
    steps: Count | None = None

    def budget(self, task: Task) -> Budget:
        """What may be spent: the caller's budget, else these settings'."""
        return self.plan() if task.budget == Budget() else task.budget

    def plan(self) -> Budget:
        """What is spent where the caller sets no budget."""
        return Budget(self.forwards, steps=self.steps)

    def chooses(self) -> bool:
        """Whether the validation photos choose the point."""
        return self.choose


@dataclass(frozen=True)
class ContextSettings(SearchingSettings, ViewSettings):
    """A search over w in R^dim, and the map from w to contexts.

    ``dim``: numbers of w; None moves all n * m of the context, in token distances.
    ``sigmoid``: the loss of sigmoids in place of a softmax, for models that were trained with it.
    ``std``: entries of the random map A are N(0, std**2); None scales A by the tower
    (``contexts.unit_std``). ``views`` stand in for the photos in training; 0 trains on the photos
    themselves.
    """

    dim: Count | None = 512
    std: Positive | None = None
    sigmoid: bool = False

    def check(self) -> None:
        super().check()
        if self.dim is None and self.std is not None:
            raise InputError(
                f"std is {self.std} where no random map is; give a dim, too, or leave it out"
            )


@dataclass(frozen=True)
class DifferenceSettings(ContextSettings):
    """A search over contexts by finite differences.

    ``measure_mu``: their steps come from the measured noise of the losses
    (``objective.measure_smoothing``) instead of from ``search``.
    """

    measure_mu: bool = True

    def may_measure(self, task: Task) -> bool:
        """Whether step sizes are to be measured and the budget is large enough."""
        plenty = (self.budget(task).forwards or LEAST_TO_MEASURE) >= LEAST_TO_MEASURE
        return self.measure_mu and plenty


def rename(arrays: Mapping[str, Array], tower: TextTower) -> LinearHead:
    """The context, of whatever length, is shared by all names: put it before others."""
    context = arrays["context"]
    fitting = tower if len(context) == len(tower.start) else tower.variant(n_context=len(context))
    try:
        return LinearHead.of_text(normalise(fitting.forward(context[None])[0]), tower.logit_scale)
    finally:
        if fitting is not tower:
            fitting.close()


Q = TypeVar("Q", bound=PromptObjective)
R = TypeVar("R", bound=SearchingSettings)


@dataclass(frozen=True, eq=False)
class SearchMethod(Method[R]):
    """A method whose settings are `SearchingSettings`, and define how it is run."""

    milestones: bool = True
    validation: Callable[[R], bool] = SearchingSettings.chooses
    plan: Callable[[R], Budget] = SearchingSettings.plan


@dataclass(frozen=True, eq=False)
class ContextMethod(SearchMethod[R]):
    """A search for one context, which all class names share."""

    rename: Callable[[Mapping[str, Array], TextTower], LinearHead] = rename
    shared_context: bool = True


def linear_contexts(task: Task, dim: int | None, std: float | None = None) -> ContextMap:
    """The map w -> p0 + A w with w in R^dim, ``std`` None for the tower's scale.

    ``dim`` None: w is the whole context, n * m numbers in token distances.
    """
    tower = task.tower
    if dim is None:
        return WholeContext(tower.start, tower.token_distance)
    std = unit_std(tower) if std is None else std
    return ContextMap(tower.start, dim=dim, std=std, seed=task.seed)


def objective_for(kind: type[Q], task: Task, contexts: Contexts, **more: Any) -> Q:
    """The losses of contexts on the task's photos, or on their augmented views."""
    return kind(
        task.tower, task.train, contexts, task.validation, views=task.views, seed=task.seed, **more
    )


def search_until_spent(
    search: Search[Kind], objective: Kind, settings: SearchingSettings, task: Task
) -> Result:
    """Run the loop as the settings say and the task allows."""
    return run(
        search,
        objective,
        settings.budget(task),
        validate_every=settings.validate_every,
        choose=settings.choose,
        milestones=task.milestones,
        listen=task.listen,
        begin=task.begin,
        journal=None if task.journal is None or task.journal.over else task.journal,
        load=task.load,
    )


def context_fit(
    result: Result,
    contexts: Contexts,
    notes: Mapping[str, float],
    handed_over: Array | None = None,
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


def tune_context(
    search: Search[PromptObjective],
    objective: PromptObjective,
    settings: SearchingSettings,
    task: Task,
    **notes: float,
) -> Fit:
    """Search for the context of the lowest training loss."""
    result = search_until_spent(search, objective, settings, task)
    return context_fit(result, objective.contexts, {"failures": objective.failures, **notes})


def map_and_covariance(
    tower: TextTower, dim: int | None, *, diagonal: bool = False, tangents: bool = False
) -> Need:
    """What CMA-ES over w in R^dim keeps (None: the whole context): the random map, float32, and
    the covariance unless it is diagonal."""
    side = 0 if diagonal else dim or tower.start.size
    return Need(4 * tower.start.size * (dim or 0) + matrices(side), tangents=tangents)


# How much better than guessing is better, as a share of the way from guessing to no mistake.
# Oxford Flowers begins at 0.02, and no shared prompt gained there; EuroSAT and Fashion-MNIST begin
# at 0.13 and gain tens of points.
NEAR = 0.05
LEVEL = 0.05  # of the one-sided test that the untuned model does better than that


def cautions(
    method: Method[Any],
    untuned: Head,
    encoded: Mapping[str, Features],
    warn: Callable[[str], None] | None = None,
    unused: bool = False,
    known: Sequence[str] = (),
) -> list[str]:
    """Return why a method can hardly help, and say it by ``warn`` (None: `warnings.warn`).

    Of ``encoded``, the training and the validation photos are looked at. ``unused``: there are
    counter-examples, and no rule that would use them. ``known`` is said of the model already.
    """
    photos = [encoded[name] for name in ("training", "validation") if name in encoded]
    sentence = hopeless(method, untuned, photos) if method.shared_context else None
    found = [*known] if sentence is None else [*known, sentence]
    if unused:
        found.append(
            "the counter-examples are not used: a rule for photos of no class takes the default "
            "method and a class of two photos"
        )
    for one in found:
        if warn is None:
            warnings.warn(one, stacklevel=3)  # at the caller of `fit`
        else:
            warn(one)
    return found


def hopeless(method: Method[Any], untuned: Head, photos: Sequence[Features]) -> str | None:
    """A sentence about one prompt for all classes if the untuned head is not shown to do better
    than about guessing on these photos.

    One prompt moves the text features of all classes together: it can mend how the model reads
    names that it knows, and cannot add names that it does not know. Guessing is what the
    head's own answers would get on these photos in random order: with a class that is in most
    photos, and in most answers, it gets many right.
    """
    labels = np.concatenate([split.labels for split in photos])
    answers = np.concatenate([untuned.scores(split).argmax(axis=1) for split in photos])
    many, right = len(labels), int((answers == labels).sum())
    classes = len(photos[0].class_names)
    counts = (np.bincount(found, minlength=classes) for found in (labels, answers))
    guessing = float(np.multiply(*counts).sum()) / many**2
    if binomial_tail(right, many, guessing + NEAR * (1 - guessing)) <= LEVEL:
        return None
    return (
        f"the untuned model is right on {right:,} of {many:,} training and validation photos, and "
        f"guessing on about {guessing * many:,.0f}; one prompt for all classes, which is what "
        f"{method.name} tunes, can hardly help: take ladder+tokens or fgn-csc, which learn each "
        "class from its photos"
    )
