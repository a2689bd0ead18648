"""FGN: forward-only Gauss-Newton. Linearise the features, keep the loss exact, check by forwards.

A forward returns all text features f(w), not one number, and the loss L(f) is known in closed
form. So a step asks for the features' slopes J along p directions V (rows, orthonormal),
minimises L(f + a J) + damping/2 |a|^2 over a for a few dampings at no cost (prox-linear, or
Gauss-Newton in a random subspace), and checks the candidates w + a V by real forwards. Damping and
trust radius follow actual against predicted decrease (Levenberg, Marquardt). J serves a few
rounds, corrected by Broyden's secant update where a step shows more than rounding. Slopes of
earlier directions can be kept, stale as they are, so that a step moves in a wider space than was
just paid for.

Where class k's features depend on part k of w alone, w falls into K groups: one slope along a
direction of the whole w gives every group its own, so a_k moves part k and p slopes open K p
dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta

from sharpzo.descent import LossAndGradient, minimise
from sharpzo.errors import InputError
from sharpzo.optim.gradients import frame
from sharpzo.optim.search import Patience, Search
from sharpzo.rng import generator
from sharpzo.settings import Count, CountOrZero, Fraction, LengthOrZero, Positive, Settings
from sharpzo.types import NOTHING, SINGLE, Array, FeatureObjective, FeaturesAt, JacobianAt, Reason

SHORTEST = 0.5  # what an old direction must keep of its length, or its slope is mostly rounding
# Rounded losses, as of bfloat16, have isolated low points without better neighbours. A rise by this
# share of the loss may be rounding: the radius stays at this share of the first one, and the best
# neighbour is accepted all the same.
ROUNDING = 0.01
SMALLEST_RADIUS = 0.25
# A secant update of coarsely rounded features would learn the rounding. A dozen blocks make five
# times the rounding of one operation of it; an error must be well above that to be believed.
ROUNDED = 32
FAILURES = 24  # rounds in a row without a decrease, after which the search has converged
DAMPINGS = 1e-8, 1e8
NUMBERS = 2**26  # of slopes kept at most: 256 MB
Factor = Annotated[float, Meta(ge=1, le=1e6, description="a number from 1 to 1e6")]


@dataclass(frozen=True)
class GaussNewtonSettings(Settings):
    """Settings of FGN; lengths are in the units of w.

    ``directions`` p of a linearisation; ``history`` of them are the last accepted steps and one is
    the running average of the lifted gradients J^T dL/df V (weight ``memory`` on the past, 0 for
    none at all), the rest are random. ``window``: slopes kept in all, new and old, fewer for very
    many classes; 0: the new ones alone. ``reuse``: rounds of candidates that a linearisation
    serves. ``candidates`` a round, from dampings a factor of ``ladder`` apart around the current
    one, which begins at ``damping``. ``radius``: bound on the length of a step, and the first trust
    radius. ``inner_steps``: L-BFGS steps a damping. ``rho``: the inner problem minimises the worst
    loss within that distance, for no forward; 0 the loss itself. ``patience`` ends the search after
    so many observations without a gain of ``min_gain``.
    """

    directions: Count = 32
    window: CountOrZero = 0
    reuse: Count = 2
    history: CountOrZero = 1
    memory: Fraction = 0.9
    candidates: Count = 2
    ladder: Factor = 4.0
    damping: Positive = 0.01
    radius: Positive = 2.0
    inner_steps: Count = 20
    rho: LengthOrZero = 0.0
    patience: Count | None = None
    min_gain: Fraction = 0.0

    def bytes(self, dim: int, features: int, groups: int = 1) -> int:
        """What a search over ``dim`` numbers has in memory, for so many numbers of features.

        Directions (float64) are kept, asked for and made anew, a group at a time by a QR
        decomposition; slopes (float32) are received, copied, regrouped and kept; old ones once
        more.
        """
        size = dim // groups
        count = min(self.directions, size)
        old = max(min(self.window, NUMBERS // features) - count, 0)
        frames = 3 * dim * count + 6 * size * count + 4 * dim * old
        return 8 * frames + 5 * 4 * features * (count + old)


class GaussNewton(Search[FeatureObjective]):
    """FGN as a ``Search`` that reads features: of candidates, or with their Jacobian.

    ``loss`` maps raw features (K, D) to the loss and its gradient. ``step`` counts rounds of
    candidates. ``groups``: 1, or K if class k's features depend on the k-th of K equal parts of w
    alone. ``rounding``: of the arithmetic that features come from, as `TextTower` has it.

    >>> target = np.array([[3.0, -1.0]])  # features are w itself, as (1, 2)
    >>> def loss(f):
    ...     return float(((f - target) ** 2).sum()), 2 * (f - target)
    >>> search = GaussNewton(2, loss, GaussNewtonSettings(directions=2), seed=1)
    >>> for _ in range(20):
    ...     asked = search.ask()
    ...     if len(asked.directions):
    ...         search.tell(asked.points[:, None], asked.directions[:, None])
    ...     else:
    ...         search.tell(asked.points[:, None])
    >>> search.point.round(3)
    array([ 3., -1.])
    """

    stage = "gauss-newton"
    KEPT = (
        "_point", "_past", "_gradient", "_frame", "_jacobian", "_features", "_linearised", "_age",
        "_failures", "_damping", "_radius", "_gain", "_loss", "_due",
    )  # fmt: skip

    def __init__(
        self,
        dim: int,
        loss: LossAndGradient,
        settings: GaussNewtonSettings | None = None,
        seed: int = 0,
        start: Array | None = None,
        groups: int = 1,
        rounding: float = SINGLE,
    ) -> None:
        self.settings = settings = settings or GaussNewtonSettings()
        super().__init__(dim, seed, start, Patience(settings.patience, settings.min_gain))
        if groups < 1 or dim % groups:
            raise InputError(f"{groups} groups of equal size do not make {dim} numbers")
        self._loss_of = loss
        self._groups = int(groups)
        self._rounding = float(rounding)
        self._linearised = 0  # how often
        self._age = 0  # rounds that the Jacobian at hand has served
        self._failures = 0  # rounds without a decrease, in a row
        self._damping = settings.damping
        self._radius = settings.radius
        self._past = np.zeros((0, dim))  # accepted steps, the latest first
        self._gradient = np.zeros(dim)  # running average, lifted
        self._loss = float("inf")
        self._gain = 0.0  # actual / predicted decrease of the last round
        self._features: Array = np.zeros((0, 0), np.float32)
        self._due = True  # whether to linearise next
        # By group: V, unit rows, and slopes of the group's features along them.
        self._frame: Array = np.zeros((groups, 0, dim // groups))
        self._jacobian: Array = np.zeros((groups, 0, 0), np.float32)
        self._round: tuple[Array, Array, Array] | None = None

    @property
    def notes(self) -> Mapping[str, float]:
        return {
            "damping": self._damping,
            "radius": self._radius,
            "linearisations": float(self._linearised),
            "gain": self._gain,
        }

    def ask(self) -> FeaturesAt | JacobianAt:
        if self._due:
            return JacobianAt(self.point[None], _join(self._directions()))
        return FeaturesAt(self._candidates())

    def tell(self, values: Array, derivatives: Array = NOTHING) -> None:
        """Take features (P, K, D), and derivatives (p, K, D) if the last ``ask`` requested them.

        Features or slopes that are not finite count as a loss of +inf and as a slope of zero. The
        search has DIVERGED if the features of its own point are not finite, and CONVERGED once
        `FAILURES` rounds in a row have found nothing better. Raises `InputError` for anything else
        than was asked for.
        """
        values, slopes = np.array(values), np.array(derivatives)
        one = values.shape[1:] if self._due else self._features.shape
        many, along = (1, self._count()) if self._due else (len(self._inner()[0]), 0)
        wanted = (many, *one), (along, *one) if along else (0,)
        if values.ndim != 3 or (values.shape, slopes.shape) != wanted:
            raise InputError(
                f"answers have the shapes {values.shape} and {slopes.shape}; {wanted[0]} and "
                f"{wanted[1]} were asked for"
            )
        if self._due:
            self._take_jacobian(values[0], slopes)
        else:
            self._take_round(values)

    def _directions(self) -> Array:
        """Return V (groups, p, d / groups), orthonormal rows: kept directions first, random ones
        to fill up."""
        size, count = self.dim // self._groups, self._count()
        random = generator(self.seed, "gauss-newton", step=self._linearised)
        known = (self._gradient, *self._past) if self.settings.memory else self._past
        parts = np.reshape(known, (len(known), self._groups, size))
        frames = np.empty((self._groups, count, size))
        for g, rows in enumerate(frames):
            rows[:] = frame(parts[:, g], count, size, random)
        return frames

    def _count(self) -> int:
        """Return p, no more than a group has numbers."""
        return min(self.settings.directions, self.dim // self._groups)

    def _candidates(self) -> Array:
        steps = self._inner()[0].reshape(-1, self._groups, self._frame.shape[1])
        return self._point + _join(steps.transpose(1, 0, 2) @ self._frame)

    def _take_jacobian(self, features: Array, jacobian: Array) -> None:
        """Take features (K, D) of the point and their derivatives (p, K, D), both copied."""
        frame = self._directions()
        loss, slope = self._evaluate(features)
        if not np.isfinite(loss):
            self.stopped = Reason.DIVERGED
            return
        jacobian[~np.isfinite(jacobian).all(axis=(1, 2))] = 0
        jacobian = jacobian.reshape(len(jacobian), self._groups, -1).transpose(1, 0, 2).copy()
        slopes = (jacobian @ slope.reshape(self._groups, -1, 1)).astype(np.float64)
        lifted = _join(slopes.transpose(0, 2, 1) @ frame)[0]
        self._gradient = self.settings.memory * self._gradient + lifted
        self._remember(frame, jacobian)
        self._features, self._loss = features, loss
        self.record(self._point[None], np.array([loss]))
        self._linearised += 1
        self._age = 0
        self._due = False

    def _remember(self, frame: Array, jacobian: Array) -> None:
        """Put new slopes before older ones, whose directions lose what the new ones span.

        J is linear: with v = v' + c V, the slope along v' is that along v less c J_V.
        """
        window = min(self.settings.window, NUMBERS // jacobian[:, 0].size)
        room = max(window - frame.shape[1], 0)
        if self._frame.size and room:
            shared = self._frame @ frame.transpose(0, 2, 1)
            old = self._frame - shared @ frame
            length = np.linalg.norm(old, axis=2, keepdims=True)
            kept = np.flatnonzero((length > SHORTEST).all(axis=(0, 2)))[:room]
            slopes = self._jacobian[:, kept] - shared[:, kept].astype(jacobian.dtype) @ jacobian
            scale = 1 / length[:, kept]
            frame = np.concatenate([frame, old[:, kept] * scale], axis=1)
            jacobian = np.concatenate([jacobian, slopes * scale.astype(slopes.dtype)], axis=1)
        self._frame, self._jacobian = frame, jacobian

    def _inner(self) -> tuple[Array, Array, Array]:
        """Return coefficients (P, groups * p), predicted losses (P,) and dampings (P,) of this
        round."""
        if self._round is None:
            middle = (self.settings.candidates - 1) / 2
            powers = middle - np.arange(self.settings.candidates)
            dampings = np.clip(self._damping * self.settings.ladder**powers, *DAMPINGS)
            found, predicted = [], []
            a = np.zeros(self._groups * self._frame.shape[1])
            for damping in dampings:  # from the shortest step on, each from the one before
                model = self._model(damping, self.settings.rho)
                a = minimise(model, a, steps=self.settings.inner_steps, tolerance=1e-5)
                length = float(np.linalg.norm(a))
                inside = a * min(1.0, self._radius / length) if length > 0 else a
                found.append(inside)
                predicted.append(self._model(0.0)(inside)[0])
            self._round = np.stack(found), np.array(predicted), dampings
        return self._round

    def _model(self, damping: float, rho: float = 0.0) -> LossAndGradient:
        """L(f + (a + e) J) + damping/2 |a|^2 and its gradient; e is the worst within rho, to first
        order (Foret et al., sharpness-aware minimisation, on the linearised features).
        """
        jacobian, features = self._jacobian, self._features

        def at(a: Array) -> tuple[float, Array]:
            loss, slope = self._evaluate(features + self._moved(a))
            return loss, (jacobian @ slope.reshape(self._groups, -1, 1)).ravel()

        def value(a: Array) -> tuple[float, Array]:
            loss, slope = at(a)
            if rho and (steep := float(np.linalg.norm(slope))) > 0:
                loss, slope = at(a + rho / steep * slope)
            return loss + damping / 2 * float(a @ a), slope + damping * a

        return value

    def _moved(self, a: Array) -> Array:
        """What coefficients (groups * p,) add to the features (K, D), by J."""
        rows = a.astype(self._jacobian.dtype).reshape(self._groups, 1, -1)
        return (rows @ self._jacobian).reshape(self._features.shape)

    def _evaluate(self, features: Array) -> tuple[float, Array]:
        """Loss and gradient; +inf and zeros where the features are not finite."""
        if np.isfinite(features).all():
            loss, slope = self._loss_of(features)
            if np.isfinite(loss):
                return float(loss), slope
        return float("inf"), np.zeros_like(features)

    def _take_round(self, features: Array) -> None:
        steps, predicted, dampings = self._inner()
        losses = np.array([self._evaluate(one)[0] for one in features])
        candidates = self._candidates()
        self.record(candidates, losses)
        i = int(np.argmin(losses))
        length = float(np.linalg.norm(steps[i]))
        decrease, hoped = self._loss - losses[i], self._loss - predicted[i]
        self._gain = float(decrease / hoped) if hoped > 0 and np.isfinite(decrease) else 0.0
        if np.isfinite(losses[i]) and length > 0:
            self._correct(steps[i], features[i])
        smallest = SMALLEST_RADIUS * self.settings.radius
        better = decrease > 1e-4 * max(hoped, 0.0)
        unclear = not better and losses[i] <= (1 + ROUNDING) * self._loss
        stuck = unclear and self._radius <= smallest
        move = candidates[i] - self._point
        if better or stuck:
            self._point = candidates[i]
            self._features, self._loss = np.array(features[i]), float(losses[i])
        if better:
            self._failures = 0
            self._past = np.stack([move, *self._past])[: self.settings.history]
            self._damping = float(dampings[i])
            if self._gain > 0.75:
                self._radius = min(max(self._radius, 2 * length), self.settings.radius)
            elif self._gain < 0.25:
                self._radius = min(self._radius, length)
        else:
            self._failures += 1
            longest = float(np.linalg.norm(steps, axis=1).max())
            self._radius = min(self._radius, longest) / 2
            self._damping = min(self._damping * self.settings.ladder, DAMPINGS[1])
        if unclear:
            self._radius = max(self._radius, smallest)
        if stuck:
            self._damping = self.settings.damping
        self.step += 1
        self._age += 1
        self._round = None
        if self._failures >= FAILURES:
            self._point = self._best.copy()
            self.stopped = Reason.CONVERGED
        elif self._age >= self.settings.reuse:
            self._due = True

    def _correct(self, a: Array, features: Array) -> None:
        """Broyden's update: J carries ``a`` to what it did, unless that is lost in rounding."""
        error = features - self._features - self._moved(a)
        if np.linalg.norm(error) <= ROUNDED * self._rounding * np.linalg.norm(self._features):
            return
        parts = a.reshape(self._groups, -1, 1)
        parts = parts / np.maximum(np.square(parts).sum(axis=1, keepdims=True), 1e-300)
        self._jacobian += (parts * error.reshape(self._groups, 1, -1)).astype(error.dtype)


def _join(parts: Array) -> Array:
    """Return rows of all groups (groups, P, d / groups) as rows of w (P, d)."""
    return parts.transpose(1, 0, 2).reshape(parts.shape[1], -1)
