"""Objectives: losses of a search's points, by contexts, a text tower and cached photos.

A candidate becomes a context (``contexts``), the context text features, and the features the mean
cross-entropy over all cached training photos. One candidate is one forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sharpzo.descent import LossAndGradient
from sharpzo.errors import InputError
from sharpzo.linear import LinearHead
from sharpzo.metrics import (
    accuracy,
    cross_entropy,
    loss_and_error,
    normalise,
    sigmoid_loss,
    sigmoid_loss_and_error,
    through_norm,
)
from sharpzo.optim.search import Kept
from sharpzo.rng import generator
from sharpzo.tuning.contexts import ContextMap, Contexts
from sharpzo.types import Answer, Array, Evaluated, Features, LossObjective, TextTower

BATCH = 32  # candidates per call of the tower: enough to feed two cores, little memory


@dataclass(frozen=True)
class Loss:
    """A loss of logits and labels: ``value`` for a batch of points (see `metrics.cross_entropy`),
    ``gradient`` for one (see `metrics.loss_and_error`). ``bias`` is added to scaled cosines."""

    value: Callable[[Array, Array], Array]
    gradient: Callable[[Array, Array], tuple[float, Array]]
    bias: float = 0.0

    def logits(self, scaled: Array) -> Array:
        """What the loss is of."""
        return scaled + np.float32(self.bias) if self.bias else scaled


SOFTMAX = Loss(cross_entropy, loss_and_error)


def loss_of(tower: TextTower, sigmoid: bool) -> Loss:
    """The loss of a softmax, or of sigmoids; InputError for these of a model that was trained
    without a bias."""
    if not sigmoid:
        return SOFTMAX
    if tower.logit_bias is None:
        raise InputError(
            "sigmoid is a loss for models that were trained with it (SigLIP), and this one has no "
            "logit bias; leave it out"
        )
    return Loss(sigmoid_loss, sigmoid_loss_and_error, tower.logit_bias)


class PromptObjective(Kept):
    """Mean loss of a context over cached photos, counting forwards: cross-entropy if not said.

    Every loss sees all of ``train``, or in its place all of its augmented ``views`` (view-major:
    row v * N + i shows photo i). With ``batch`` a loss sees so many photos, the same for all
    candidates of a step, each as one of its views, if there are any. Photos come in a new order
    every epoch and a rest is dropped, as in Dassl's loader. A non-finite loss is returned as +inf
    and counted in ``failures``.
    """

    KEPT = ("forwards", "failures")

    def __init__(
        self,
        tower: TextTower,
        train: Features,
        contexts: Contexts,
        validation: Features | None = None,
        *,
        batch: int | None = None,
        views: Features | None = None,
        seed: int = 1,
        loss: Loss = SOFTMAX,
    ) -> None:
        for photos in (train, validation, views):
            if photos is not None and photos.class_names != tower.class_names:
                raise InputError("the photos and the text tower disagree about the class names")
        self.tower = tower
        self.train = views if views is not None and batch is None else train
        self.validation = validation
        self.contexts = contexts
        self.dim = contexts.dim
        self.forwards = 0
        self.failures = 0
        self._batch = None if batch is None else min(batch, len(train))
        self._pool = train if views is None else views
        self._seed = seed
        self._kind = loss

    def price(self, points: int, directions: int = 0) -> int:
        return points + directions

    def losses(self, points: Array, step: int = 0) -> Array:
        photos = self._photos(step)
        kind, texts = self._kind, self._text(points)
        found = [kind.value(self._logits(text, photos), photos.labels) for text in texts]
        losses = np.concatenate(found)
        finite = np.isfinite(losses)
        self.failures += int((~finite).sum())
        return np.where(finite, losses, np.inf)

    def evaluate(self, point: Array) -> Evaluated:
        text = next(self._text(point[None]))
        head = LinearHead.of_text(text[0], self.tower.logit_scale)
        value = self._kind.value
        loss = float(value(self._logits(text, self.train), self.train.labels)[0])
        if self.validation is None:
            return Evaluated(head, loss, None, None)
        logits, labels = self._logits(text, self.validation)[0], self.validation.labels
        return Evaluated(head, loss, accuracy(logits, labels), float(value(logits, labels)))

    def _photos(self, step: int) -> Features:
        """What a step sees: all photos or a minibatch."""
        if self._batch is None:
            return self.train
        many, pool = len(self.train), self._pool
        return pool.take(minibatch(self._seed, step, many, self._batch, len(pool) // many))

    def _text(self, candidates: Array) -> Iterator[Array]:
        for first in range(0, len(candidates), BATCH):
            some = candidates[first : first + BATCH]
            self.forwards += self.price(len(some))
            yield normalise(self.tower.forward(self.contexts(some)))

    def _logits(self, text: Array, photos: Features) -> Array:
        # One product for the whole batch: (N, D) x (D, P K), then (P, N, K).
        many, classes, width = text.shape
        flat = photos.vectors @ text.reshape(many * classes, width).T
        logits = flat.reshape(len(photos), many, classes).transpose(1, 0, 2)
        return self._kind.logits(np.float32(self.tower.logit_scale) * logits)


def minibatch(seed: int, step: int, many: int, batch: int, views: int = 1) -> Array:
    """Rows of a step's photos in a pool of ``views`` views of ``many`` photos, view-major.

    Photos come in a new order every epoch, each as one of its views; a rest is dropped.

    >>> sorted(int(row) for step in range(3) for row in minibatch(1, step, many=6, batch=2))
    [0, 1, 2, 3, 4, 5]
    """
    epoch, place = divmod(step, many // batch)
    order = generator(seed, "minibatch", epoch).permutation(many)
    rows = order[place * batch : (place + 1) * batch]
    return rows + many * generator(seed, "view", step).integers(views, size=len(rows))


def feature_loss(train: Features, logit_scale: float, kind: Loss = SOFTMAX) -> LossAndGradient:
    """Mean loss over photos as a function of raw text features (K, D), with its gradient
    (K, D), float32: what a search that reads features is given in place of the photos.
    """
    vectors, scale = train.vectors, np.float32(logit_scale)

    def loss_of(features: Array) -> tuple[float, Array]:
        length = np.linalg.norm(features, axis=1, keepdims=True)
        length = np.where(length > 0, length, 1)
        unit = features / length
        loss, error = kind.gradient(kind.logits(scale * vectors @ unit.T), train.labels)
        slope = (scale / len(error)) * (error.T @ vectors)
        return loss, through_norm(slope, unit, length)

    return loss_of


# Forwards that one direction counts for. Measured: 1.0 to 1.2 (benchmarks/tangents.py).
TANGENT_COST = 1.5
DIFFERENCE_COST = 2.0  # of a tower that has no tangents: one on each side


class TangentObjective(PromptObjective):
    """Answers with raw text features and slopes, too.

    Derivatives are exact tangents of the tower, ceil(``tangent_cost`` * p) forwards and one for
    the features themselves (2 p and one for a tower that takes differences); or with
    ``difference`` one-sided differences of that step, in the units of w, p + 1 forwards. All of it
    times ``forward_cost``, for a tower that computes more than one does whose classes share their
    context. Other options as for `PromptObjective`;
    features and slopes are those of all training photos.
    """

    def __init__(
        self,
        tower: TextTower,
        train: Features,
        contexts: ContextMap,
        validation: Features | None = None,
        *,
        tangent_cost: float = TANGENT_COST,
        difference: float | None = None,
        forward_cost: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(tower, train, contexts, validation, **options)
        self._map = contexts
        exact = tangent_cost if tower.exact else DIFFERENCE_COST
        self._tangent_cost = exact if difference is None else 1.0
        self._difference = difference
        self._forward_cost = forward_cost
        self._loss = feature_loss(self.train, tower.logit_scale, self._kind)

    def price(self, points: int, directions: int = 0) -> int:
        """Forwards of an answer, rounded up."""
        return math.ceil(self._forward_cost * (points + math.ceil(self._tangent_cost * directions)))

    def features(self, points: Array) -> Array:
        self.forwards += self.price(len(points))
        return self._features(points)

    def jacobian(self, point: Array, directions: Array) -> Answer:
        self.forwards += self.price(1, len(directions))
        if self._difference is None:
            context = self.contexts(point[None])[0]
            features, derivatives = self.tower.jvp(context, self._map.move(directions))
            return features[None], derivatives
        ends = point + self._difference * directions
        first, *rest = self._features(np.concatenate([point[None], ends]))
        return first[None], (np.stack(rest) - first) / np.float32(self._difference)

    def slopes(self, point: Array, directions: Array, step: int = 0) -> Answer:
        """Point (d,), directions (p, d) -> the loss (1,) and its derivatives (p,), float64.

        The derivative along v is <dL/df, J v>: a tangent of the tower and the loss's closed form.
        """
        features, derivatives = self.jacobian(point, directions)
        loss, slope = self._loss(features[0])
        slopes = np.tensordot(derivatives, slope, axes=2)
        return np.array([loss], np.float64), slopes.astype(np.float64)

    def _features(self, points: Array) -> Array:
        contexts = self.contexts(points)
        parts = (contexts[i : i + BATCH] for i in range(0, len(contexts), BATCH))
        return np.concatenate([self.tower.forward(part) for part in parts])


def measure_smoothing(
    objective: LossObjective, point: Array, direction: Array, *, one_sided: bool = False
) -> float:
    """Return the step mu of a difference along ``direction`` (d,), for 12 forwards.

    The error of a two-sided difference is noise / mu + mu**2 |third derivative| / 6, least at
    mu = (3 noise / |third derivative|)**(1/3); that of a one-sided one is
    2**0.5 noise / mu + mu |second derivative| / 2, least at
    mu = (8**0.5 noise / |second derivative|)**(1/2). The noise is read off second differences of
    losses on a line so short that its curvature cannot be seen (More and Wild's ECnoise, in
    brief); the derivatives come from losses at a coarse step, half a token distance. Where they are
    flat or non-finite, the coarse step itself is returned.
    """
    unit = direction / np.linalg.norm(direction)
    coarse = 0.5
    offsets = [*(1e-6 * np.arange(8)), 2 * coarse, coarse, -coarse, -2 * coarse]
    losses = objective.losses(point + np.outer(offsets, unit))
    noise = float(np.sqrt(np.mean(np.diff(losses[:8], 2) ** 2) / 6))
    far, near, back, far_back = losses[8:]
    noise = max(noise, 1e-9)
    if one_sided:
        curved = abs(near - 2 * losses[0] + back) / coarse**2
        best = (math.sqrt(8) * noise / curved) ** (1 / 2) if curved > 0 else coarse
    else:
        curved = abs(far - 2 * near + 2 * back - far_back) / (2 * coarse**3)
        best = (3 * noise / curved) ** (1 / 3) if curved > 0 else coarse
    step = min(best, coarse) if np.isfinite(best) else coarse
    return float(step / np.linalg.norm(direction))
