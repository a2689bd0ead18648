"""``coop``: the context by backpropagation (CoOp), on the same checkpoint and the same features.

The baseline that the forward-only methods are measured against: Zhou et al., IJCV 2022, settings of
their code (trainers/coop.py of KaiyangZhou/CoOp, schedule of Dassl). One context is shared by all
classes and stands before the name, or with ``coop-csc`` every class has its own (class-specific
contexts). torch (extra ``torch``) differentiates the loss and is loaded by the fit alone: what is
left is a classifier and, where it is shared, a context, and predicting needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sharpzo.methods.backward import with_weights
from sharpzo.methods.registry import Fit, Task, register
from sharpzo.methods.searching import (
    ContextMethod,
    SearchingSettings,
    SearchMethod,
    context_fit,
    search_until_spent,
)
from sharpzo.optim import Search
from sharpzo.rng import generator
from sharpzo.settings import Count, CountOrZero, Fraction, Positive, Share, ViewSettings
from sharpzo.tuning.contexts import WholeContext
from sharpzo.tuning.objective import PromptObjective
from sharpzo.types import NOTHING, Answer, Array, Features, Reason, Request, Result, TextTower

if TYPE_CHECKING:
    from sharpzo.towers.torch_text import TorchTextTower


# Of validation accuracy on the demo photos: experiments/coop.
UNIT_RATE = 0.04


@dataclass(frozen=True)
class CoopSettings(SearchingSettings, ViewSettings):
    """Stochastic gradient descent with momentum on the context, a fixed number of epochs.

    ``tokens`` of context, None: as many as the template has words before the name. ``start``:
    those words ("words") or N(0, ``std``**2) ("random"). ``epochs`` None: the published number for
    the photos of the largest class, 50 for one, 100 up to four, 200 above. A step sees ``batch``
    photos, each as one of its ``views`` (0: as it is), drawn anew every step. ``learning_rate``
    None: `UNIT_RATE` of squared token distances, so that it follows the scale of the checkpoint's
    tokens; the published rate is 0.002 for CLIP's. ``checkpointing`` computes activations twice
    instead of keeping them. The plan ends the run unless ``forwards``, ``steps`` or the caller's
    budget end it sooner; the schedule of the rate does not change then.
    """

    validate_every: Count = 50
    forwards: Count | None = None
    tokens: Count | None = None
    start: Literal["words", "random"] = "words"
    std: Positive = 0.02
    epochs: Count | None = None
    batch: Count = 32
    learning_rate: Positive | None = None
    momentum: Fraction = 0.9
    weight_decay: Fraction = 5e-4
    warmup_epochs: CountOrZero = 1
    warmup_rate: Positive = 1e-5
    checkpointing: bool = False
    view_scale: tuple[Share, Share] = (0.08, 1.0)


def schedule(settings: CoopSettings, epochs: int, peak: float) -> Array:
    """Learning rate of each epoch (epochs,): a constant warm-up, then half a cosine from ``peak``.

    The cosine starts at its top after the warm-up and has the length of the whole run, so it does
    not quite reach its foot: peak (1 + cos(pi (e - w) / E)) / 2 in epoch e >= w of E.

    >>> [float(rate) for rate in schedule(CoopSettings(), 3, 0.002).round(5)]
    [1e-05, 0.002, 0.0015]
    """
    epoch = np.arange(epochs)
    cosine = 0.5 * (1 + np.cos(np.pi * (epoch - settings.warmup_epochs) / epochs))
    warm = epoch < settings.warmup_epochs
    return np.where(warm, settings.warmup_rate, peak * cosine)


def epochs_for(train: Features) -> int:
    """Published number of epochs for the photos of the largest class."""
    shots = int(np.bincount(train.labels).max())
    return 50 if shots == 1 else 100 if shots <= 4 else 200


class GradientObjective(PromptObjective):
    """`PromptObjective` of a whole context that also has torch's gradient."""

    def __init__(
        self,
        tower: TextTower,
        differentiable: TorchTextTower,
        train: Features,
        validation: Features | None = None,
        **options: Any,
    ) -> None:
        contexts = WholeContext(np.zeros_like(tower.start), 1.0)
        super().__init__(tower, train, contexts, validation, **options)
        self._differentiable = differentiable

    def gradient(self, point: Array, step: int = 0) -> Answer:
        """Point (d,) -> the loss (1,) on the photos of the step and its gradient (d,), float64."""
        photos = self._photos(step)
        loss, gradient = self._differentiate(self.contexts(point[None])[0], photos)
        self.forwards += 1
        self.failures += not np.isfinite(loss)
        return np.array([loss]), gradient.ravel()

    def _differentiate(self, context: Array, photos: Features) -> tuple[float, Array]:
        """Cross-entropy of a context (n, m) and its gradient (n, m): a forward and a backward."""
        import torch
        from torch.nn.functional import cross_entropy, normalize

        dtype = self._differentiable.dtype
        leaf = torch.tensor(context, dtype=dtype, requires_grad=True)
        text = normalize(self._differentiable(leaf), dim=-1)
        logits = self.tower.logit_scale * (torch.tensor(photos.vectors, dtype=dtype) @ text.T)
        loss = cross_entropy(logits, torch.tensor(photos.labels))
        (gradient,) = torch.autograd.grad(loss, leaf)
        return float(loss.detach()), gradient.numpy().astype(np.float64)


class GradientAt(Request[GradientObjective]):
    """The loss (1,) at a point (1, d) and its gradient (d,)."""

    def answer(self, objective: GradientObjective, step: int = 0) -> Answer:
        return objective.gradient(self.points[0], step)


class Descent(Search[GradientObjective]):
    """SGD as torch defines it, as a search: one point per step.

    ``rates`` (T,) are the learning rates of its steps; after the last one it stops.
    """

    stage = "backpropagation"
    KEPT = ("_point", "_velocity", "_norm")

    def __init__(self, start: Array, rates: Array, *, momentum: float, weight_decay: float) -> None:
        super().__init__(len(start), start=start)
        self._rates, self._momentum, self._decay = rates, momentum, weight_decay
        self._velocity = np.zeros(self.dim)
        self._norm = 0.0

    @property
    def notes(self) -> Mapping[str, float]:
        if not self.step:
            return {}
        return {"gradient_norm": self._norm, "learning_rate": float(self._rates[self.step - 1])}

    def ask(self) -> GradientAt:
        return GradientAt(self.point[None])

    def tell(self, values: Array, derivatives: Array = NOTHING) -> None:
        """v <- momentum v + g + decay p; p <- p - rate v."""
        if not (np.isfinite(values).all() and np.isfinite(derivatives).all()):
            self.stopped = Reason.DIVERGED
            return
        self.record(self._point[None], values)
        self._norm = float(np.linalg.norm(derivatives))
        self._velocity = self._momentum * self._velocity + derivatives + self._decay * self._point
        self._point = self._point - float(self._rates[self.step]) * self._velocity
        self.step += 1
        if self.step == len(self._rates):
            self.stopped = Reason.STEPS


def fit(settings: CoopSettings, task: Task) -> Fit:
    """Train the context; a step is one forward and one backward over all class names.

    ``Fit.forwards`` counts passes of the text tower, steps and validations alike; each of the
    ``backward_passes`` in the notes is worth about two forwards on top.
    """
    result, objective = _descend(settings, task, specific=False)
    return context_fit(result, objective.contexts, _notes(result, objective))


def fit_specific(settings: CoopSettings, task: Task) -> Fit:
    """`fit` with a context of its own for every class; no new name can be read with them."""
    result, objective = _descend(settings, task, specific=True)
    return Fit.of_search(result, _notes(result, objective))


def _notes(result: Result, objective: GradientObjective) -> dict[str, float]:
    return {"failures": objective.failures, "backward_passes": result.steps}


def _descend(
    settings: CoopSettings, task: Task, specific: bool
) -> tuple[Result, GradientObjective]:
    given = with_weights(task.tower, "coop")
    if specific or settings.tokens not in (None, len(given.start)):
        opened = closing(given.variant(n_context=settings.tokens, specific=specific))
    else:
        opened = nullcontext(given)
    with opened as tower:
        from sharpzo.towers.torch_block import cores
        from sharpzo.towers.torch_text import TorchTextTower

        objective = GradientObjective(
            tower,
            TorchTextTower(tower.checkpoint, tower.prompts, checkpointing=settings.checkpointing),
            task.train,
            task.validation,
            batch=settings.batch,
            views=task.views,
            seed=task.seed,
        )
        start = tower.start
        if settings.start == "random":
            draws = generator(task.seed, "coop-start")
            start = settings.std * draws.standard_normal(start.shape)
        epochs = settings.epochs or epochs_for(task.train)
        rate = settings.learning_rate or UNIT_RATE * tower.token_distance**2
        rates = schedule(settings, epochs, rate).repeat(max(1, len(task.train) // settings.batch))
        search = Descent(
            start.ravel(), rates, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        with cores(tower.threads):
            return search_until_spent(search, objective, settings, task), objective


# The last epoch is the result. CoOp draws a fresh view of each photo every epoch; here each step
# picks one of 20 that are encoded once (views=200 comes as close as its longest run).
_PUBLISHED = CoopSettings(
    choose=False,
    validate_every=200,
    tokens=16,
    start="random",
    learning_rate=0.002,
    views=20,
)

_PRESETS = {
    "published": _PUBLISHED,
    "published-4": replace(_PUBLISHED, tokens=4, start="words"),
    "published-imagenet": replace(_PUBLISHED, epochs=50),
}

register(
    ContextMethod(
        "coop",
        "CoOp: the context by backpropagation (extra torch)",
        CoopSettings(),
        fit,
        _PRESETS,
        need=None,
        suits=lambda settings, tower: with_weights(tower, "coop"),
    )
)
register(
    SearchMethod(
        "coop-csc",
        "CoOp with a context of its own for every class, by backpropagation (extra torch)",
        CoopSettings(),
        fit_specific,
        _PRESETS,
        need=None,
        suits=lambda settings, tower: with_weights(tower, "coop"),
    )
)
