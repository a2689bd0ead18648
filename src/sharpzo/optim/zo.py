"""Zeroth-order descent: along random directions, from losses or slopes alone.

`MeZo` is MeZO (arXiv 2305.17333) and its variants from ZO-Bench (2402.11592); `SparseZo` stage 2 of
SharpZO (arXiv 2506.20990, eqs. 4 and 5), on masked directions. Without mask and momentum, both take
the same steps. One-sided differences, momentum and normalised steps are not in SharpZO's paper;
they are what makes it cheap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sharpzo.errors import InputError
from sharpzo.optim.gradients import Derivatives, Differences, Probe, frame, normal_directions
from sharpzo.optim.search import Patience, Search, checked_vector
from sharpzo.rng import generator
from sharpzo.settings import AtLeastTwo, Count, Decay, Fraction, Positive, Settings, Share
from sharpzo.types import Array, LossesAt, Reason, Request, SlopeObjective

Score = Literal["z", "z-running", "magnitude", "dense", "release"]
Variant = Literal["plain", "sign", "momentum", "conservative", "adam"]
DIRECTIONS = 32  # of an estimate from exact slopes


@dataclass(frozen=True)
class ZoSettings(Settings):
    """Settings of stage 2; the defaults are SharpZO's Table 8.

    ``learning_rate`` eta and ``mu`` the smoothing of eq. 4, ``queries`` q pairs per step. ``keep``
    is the share of coordinates moved, chosen by ``score`` (`scores`) at the start and every
    ``refresh`` steps; scores that need a gradient estimate it coordinate by coordinate with
    ``mu_refresh`` (2d forwards), ``z-running`` reads it off the steps themselves.
    ``momentum`` b: V <- b V + g, w <- w - eta V.
    ``one_sided`` differences share the loss at w, 1 + q forwards per step instead of 2q.
    ``decay`` is that of a running mean of g^2: steps are then divided by the root of its mean over
    the kept coordinates, so that eta is a length per coordinate whatever the loss's scale.
    ``slow_after`` t_0: step t has the rate eta / sqrt(1 + t / t_0), None a constant one.
    ``rows`` and ``inherit`` follow the authors' program, which holds w and V as ``rows`` noisy
    copies of which the loss sees the mean, and begins with V = stage 1's last gradient.
    ``patience`` ends the search after so many observations without a gain of ``min_gain``.
    ``exact`` slopes take the place of all differences and their mu; the gradient behind a score
    is then estimated along ``directions`` (None: 32), of which one is the last estimate.
    """

    learning_rate: Positive = 1e-3
    mu: Positive = 1e-3
    queries: Count = 1
    keep: Share = 0.5
    score: Score = "z"
    refresh: Count = 200
    mu_refresh: Positive = 1e-5
    momentum: Fraction = 0.0
    rows: Count = 1
    inherit: bool = False
    patience: Count | None = None
    min_gain: Fraction = 0.0
    one_sided: bool = False
    decay: Decay | None = None
    slow_after: Count | None = None
    exact: bool = False
    directions: AtLeastTwo | None = None

    def check(self) -> None:
        if self.score == "z-running" and self.decay is None:
            raise InputError(
                "score 'z-running' reads a running mean of g^2; give its decay, such as 0.99"
            )


class SparseZo(Search[SlopeObjective]):
    """Masked zeroth-order descent as a ``Search``.

    Of an earlier stage, ``velocity`` (d,) is the first V, ``gradient`` (d,) what is known of it,
    and ``best`` the best point with its loss.

    >>> search = SparseZo(2, ZoSettings(learning_rate=0.1, score="dense"), start=np.ones(2))
    >>> for _ in range(100):
    ...     search.tell(np.sum(search.ask().points ** 2, axis=1))
    >>> bool(np.linalg.norm(search.point) < 0.1)
    True
    """

    stage = "sparse-zo"
    KEPT = ("_rows", "_velocity", "_squares", "_mask", "_masked", "_gradient", "_slope")

    def __init__(
        self,
        dim: int,
        settings: ZoSettings | None = None,
        seed: int = 0,
        start: Array | None = None,
        *,
        velocity: Array | None = None,
        gradient: Array | None = None,
        best: tuple[Array, float] | None = None,
    ) -> None:
        self.settings = settings = settings or ZoSettings()
        super().__init__(dim, seed, start, Patience(settings.patience, settings.min_gain))
        first = np.zeros(dim) if velocity is None else checked_vector("velocity", velocity, dim)
        self._rows = np.tile(self._point, (settings.rows, 1))
        self._velocity = np.tile(first, (settings.rows, 1))
        self._squares = np.zeros(dim)  # running mean of g^2, biased to zero at first
        self._gradient = np.zeros(dim) if gradient is None else gradient.copy()
        self._mask = np.ones(dim, dtype=bool)
        self._masked = -1  # step before which the mask was made
        self._slope = 0.0
        if best is not None:
            self.record(best[0][None], np.array([best[1]]))
        self._choose_mask_for_free()

    @property
    def point(self) -> Array:
        return self._rows.mean(axis=0)

    @property
    def mask(self) -> Array:
        """Coordinates that the next update moves, booleans (d,)."""
        return self._mask.copy()

    @property
    def notes(self) -> Mapping[str, float]:
        return {"kept": float(np.count_nonzero(self._mask)), "slope": self._slope}

    def ask(self) -> Request[SlopeObjective]:
        return self._probe().request()

    def _probe(self) -> Probe:
        how = self.settings
        if self._refresh_due():
            if not how.exact:
                return Differences(self.point, np.eye(self.dim), how.mu_refresh)
            random = generator(self.seed, "mask", step=self.step)
            count = min(how.directions or DIRECTIONS, self.dim)
            return Derivatives(self.point, frame([self._gradient], count, self.dim, random))
        # The loss sees the mean over rows: of the point and of the perturbation.
        directions = self._directions().mean(axis=1)
        if how.exact:
            return Derivatives(self.point, directions)
        return Differences(self.point, directions, how.mu, how.one_sided)

    def learn(self, losses: Array, slopes: Array) -> None:
        """Refresh the mask or move w; a pair with a non-finite loss moves nothing.

        ``stopped`` is DIVERGED, too, if w would overflow; it then stays where it was.
        """
        probe = self._probe()
        found = probe.slopes(losses, slopes)
        if self._refresh_due():
            self._gradient = found @ probe.directions if self.settings.exact else found
            self._renew_mask(self._gradient)
            return
        self._move(found)
        self._choose_mask_for_free()

    def _move(self, slope: Array) -> None:
        """Take the step: eq. 4 averaged over q, then w <- w - eta V on the kept coordinates."""
        directions = self._directions()
        with np.errstate(over="ignore", invalid="ignore"):
            gradient = np.tensordot(slope, directions, axes=1) / len(directions)
            velocity = self.settings.momentum * self._velocity + gradient
            squares = self._squares
            if (decay := self.settings.decay) is not None:
                squares = decay * squares + (1 - decay) * gradient.mean(axis=0) ** 2
            rows = self._rows - self._rate(squares) * velocity * self._mask
        if not np.isfinite(rows).all():
            self.stopped = Reason.DIVERGED
            return
        self._rows, self._velocity, self._squares = rows, velocity, squares
        self._slope = float(np.abs(slope).mean())
        self.step += 1

    def _rate(self, squares: Array) -> float:
        """Return what V is multiplied by in this step, 0 where all slopes so far were zero."""
        how, rate = self.settings, self.settings.learning_rate
        if how.slow_after is not None:
            rate /= math.sqrt(1 + self.step / how.slow_after)
        if how.decay is None:
            return rate
        size = math.sqrt(squares[self._mask].mean() / (1 - how.decay ** (self.step + 1)))
        return rate / size if size > 0 else 0.0

    def _directions(self) -> Array:
        shape = self.settings.queries, *self._rows.shape
        return self._mask * normal_directions(self.seed, "zo", self.step, shape)

    def _refresh_due(self) -> bool:
        return (
            self.settings.score in ("z", "release")  # those that need a gradient
            and kept(self.settings.keep, self.dim) < self.dim
            and self.step % self.settings.refresh == 0
            and self._masked != self.step
        )

    def _renew_mask(self, gradient: Array | None) -> None:
        values = scores(self.settings.score, self.point, gradient)
        self._mask = mask(values, self.settings.keep)
        self._masked = self.step

    def _choose_mask_for_free(self) -> None:
        """Renew a mask whose score costs no forwards, without a further ``tell``."""
        if self.step % self.settings.refresh:
            return
        if self.settings.score == "magnitude":
            self._renew_mask(None)
        elif self.settings.score == "z-running" and self.step:
            self._renew_mask(np.sqrt(self._squares))


@dataclass(frozen=True)
class MeZoSettings(Settings):
    """Settings of zeroth-order descent.

    ``variant``: ``plain`` w <- w - eta g (MeZO); ``sign`` takes sign(p) z for p z, as ZO-Bench's
    program does (not the sign of each coordinate); ``momentum`` V <- b V + g, w <- w - eta V;
    ``conservative`` tries w, w - eta g and w + eta g on the same photos and keeps the best (three
    more forwards); ``adam`` with bias correction, ``momentum`` and ``beta2`` its decays.
    ``learning_rate`` eta, ``mu`` the smoothing, ``queries`` q pairs per step. With ``exact`` the
    slopes are tangents instead of differences: a forward gradient (arXiv 2202.08587).
    """

    variant: Variant = "plain"
    learning_rate: Positive = 1e-3
    mu: Positive = 1e-3
    queries: Count = 1
    momentum: Fraction = 0.9
    beta2: Fraction = 0.999
    epsilon: Positive = 1e-8
    exact: bool = False


class MeZo(Search[SlopeObjective]):
    """Zeroth-order descent as a ``Search``.

    >>> search = MeZo(2, MeZoSettings(learning_rate=0.1), start=np.ones(2))
    >>> for _ in range(100):
    ...     search.tell(np.sum(search.ask().points ** 2, axis=1))
    >>> bool(np.linalg.norm(search.point) < 0.1)
    True
    """

    stage = "zo-sgd"
    KEPT = ("_point", "_velocity", "_squares", "_trial", "_slope")

    def __init__(
        self,
        dim: int,
        settings: MeZoSettings | None = None,
        seed: int = 0,
        start: Array | None = None,
    ) -> None:
        super().__init__(dim, seed, start)
        self.settings = settings or MeZoSettings()
        self._velocity = np.zeros(dim)  # V, or Adam's first moment
        self._squares = np.zeros(dim)  # Adam's second moment
        self._trial: Array | None = None  # conservative: the step that waits for its trial
        self._slope = 0.0

    @property
    def notes(self) -> Mapping[str, float]:
        return {"slope": self._slope}

    def ask(self) -> Request[SlopeObjective]:
        if self._trial is not None:
            return LossesAt(self._trials(self._trial))
        return self._probe().request()

    def _trials(self, change: Array) -> Array:
        """Return w, w - change and w + change, (3, d)."""
        return self._point + np.stack([0 * change, -change, change])

    def learn(self, losses: Array, slopes: Array) -> None:
        """Take the step; a pair with a non-finite loss moves nothing."""
        if self._trial is not None:  # ties go to w itself
            self._point, self._trial = self._trials(self._trial)[int(np.argmin(losses))], None
            self.step += 1
            return
        probe = self._probe()
        slope = probe.slopes(losses, slopes)
        self._slope = float(np.abs(slope).mean())
        if self.settings.variant == "sign":
            slope = np.sign(slope)
        with np.errstate(over="ignore", invalid="ignore"):
            change = self._change(slope @ probe.directions / len(slope))
            moved = self._point - change
        if not np.isfinite(moved).all():
            self.stopped = Reason.DIVERGED
        elif self.settings.variant == "conservative":
            self._trial = change
        else:
            self._point = moved
            self.step += 1

    def _change(self, gradient: Array) -> Array:
        """Return what the step subtracts from w, and remember what the variant remembers."""
        how = self.settings
        if how.variant == "momentum":
            self._velocity = how.momentum * self._velocity + gradient
            return how.learning_rate * self._velocity
        if how.variant == "adam":
            self._velocity = how.momentum * self._velocity + (1 - how.momentum) * gradient
            self._squares = how.beta2 * self._squares + (1 - how.beta2) * gradient**2
            first = self._velocity / (1 - how.momentum ** (self.step + 1))
            second = self._squares / (1 - how.beta2 ** (self.step + 1))
            return how.learning_rate * first / (np.sqrt(second) + how.epsilon)
        return how.learning_rate * gradient

    def _probe(self) -> Probe:
        shape = self.settings.queries, self.dim
        directions = normal_directions(self.seed, "zo", self.step, shape)
        if self.settings.exact:
            return Derivatives(self._point, directions)
        return Differences(self._point, directions, self.settings.mu)


def scores(score: Score, point: Array, gradient: Array | None = None) -> Array:
    """Return the importance (d,) of each coordinate of ``point`` (d,); the highest are kept.

    * ``z``: S = |w|^2 z(g^2), SharpZO eq. 5, z over the d entries with the population std.
      z < 0 for gradients below average, so there a large |w| lowers the score. The paper's words
      allow z(g)^2 as well; g^2 is its curvature argument's Fisher information. Where w is zero,
      as before any step, z(g^2) decides.
    * ``z-running``: the same of another gradient, g^2 a running mean of the descent's own.
    * ``magnitude``: |w|.
    * ``dense``: all equal.
    * ``release``: what the authors' program computes, -|w|^2 z(|g|) with 1e-8 added to the std:
      it sorts ascending and keeps the first, i.e. the *least* sensitive, hence the sign.

    InputError if a score needs a gradient and gets none.

    >>> scores("z", np.array([1.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0])).round(3).tolist()
    [-1.414, 0.707, 2.828]
    """
    if score == "dense":
        return np.ones_like(point)
    if score == "magnitude":
        return np.abs(point)
    if gradient is None:
        raise InputError(f"score {score!r} needs a gradient; give one or take 'magnitude'")
    if score in ("z", "z-running"):
        fisher = gradient**2
        above, spread = fisher - fisher.mean(), fisher.std()
        z = above / spread if spread > 0 else np.zeros_like(above)
        return (point**2 if point.any() else 1.0) * z
    size = np.abs(gradient)
    return -(point**2) * (size - size.mean()) / (size.std() + 1e-8)


def kept(keep: float, dim: int) -> int:
    """Return how many of ``dim`` coordinates a share ``keep`` is: the ceiling.

    >>> kept(0.5, 5), kept(0.7, 10)
    (3, 7)
    """
    return math.ceil(keep * dim - 1e-9)  # 0.7 * 10 is a little above 7 in floating point


def mask(values: Array, keep: float) -> Array:
    """Return a boolean mask (d,) that is True on the ``ceil(keep d)`` highest ``values`` (d,).

    Equal values all, which prefer no coordinate, keep every one. Other ties go to the lower index;
    a non-finite value counts as the lowest.

    >>> mask(np.array([0.5, 2.0, 0.5, 1.0]), keep=0.75).tolist()
    [True, True, False, True]
    """
    if (values == values[0]).all():
        return np.ones(len(values), dtype=bool)
    values = np.where(np.isnan(values), -np.inf, values)
    chosen = np.zeros(len(values), dtype=bool)
    chosen[np.argsort(-values, kind="stable")[: kept(keep, len(values))]] = True
    return chosen
