"""Stage 2 of SharpZO: stochastic descent along masked random directions, from losses alone.

SharpZO (arXiv 2506.20990) eqs. 4 and 5; without a mask it is MeZO's ZO-SGD on a vector. One-sided
differences, momentum and normalised steps are not in the paper; they are what makes it cheap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sharpzo.errors import InputError
from sharpzo.optim.checks import at_least, checked_losses, checked_vector
from sharpzo.optim.estimate import (
    cge_candidates,
    cge_gradient,
    one_sided_candidates,
    one_sided_slopes,
    rge_candidates,
    slopes,
)
from sharpzo.optim.mask import Score, kept, mask, needs_gradient, scores
from sharpzo.optim.record import Best, Patience, nest, part
from sharpzo.rng import generator
from sharpzo.settings import Count, Decay, Fraction, Positive, Settings, Share
from sharpzo.types import Array, Reason, State


@dataclass(frozen=True)
class ZoSettings(Settings):
    """Settings of stage 2; the defaults are SharpZO's Table 8.

    ``learning_rate`` eta and ``mu`` the smoothing of eq. 4, ``queries`` q pairs per step. ``keep``
    is the share of coordinates moved, chosen by ``score`` (``mask.scores``) at the start and every
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

    def check(self) -> None:
        """Raise InputError for a running score without a running mean."""
        if self.score == "z-running" and self.decay is None:
            raise InputError(
                "score 'z-running' reads a running mean of g^2; give its decay, such as 0.99"
            )


class SparseZo:
    """Masked zeroth-order descent as a ``Search``.

    ``velocity`` (d,) is the first V, ``best`` what an earlier stage found.

    >>> search = SparseZo(2, ZoSettings(learning_rate=0.1, score="dense"), start=np.ones(2))
    >>> for _ in range(100):
    ...     search.tell(np.sum(search.ask() ** 2, axis=1))
    >>> bool(np.linalg.norm(search.point) < 0.1)
    True
    """

    stage = "sparse-zo"

    def __init__(
        self,
        dim: int,
        settings: ZoSettings | None = None,
        seed: int = 0,
        start: Array | None = None,
        *,
        velocity: Array | None = None,
        best: tuple[Array, float] | None = None,
    ) -> None:
        at_least("dim", dim, 1)
        self.settings = settings = settings or ZoSettings()
        self._seed = int(seed)
        start = np.zeros(dim) if start is None else checked_vector("start", start, dim)
        first = np.zeros(dim) if velocity is None else checked_vector("velocity", velocity, dim)
        self._rows = np.tile(start, (settings.rows, 1))
        self._velocity = np.tile(first, (settings.rows, 1))
        self._squares = np.zeros(dim)  # running mean of g^2, biased to zero at first
        self._step = 0
        self._mask = np.ones(dim, dtype=bool)
        self._masked = -1  # step before which the mask was made
        self._slope = 0.0
        self._stopped: Reason | None = None
        self._patience = Patience(settings.patience, settings.min_gain)
        self._best = Best(dim)
        if best is not None:
            self._best.point, self._best.loss = best[0].copy(), best[1]
        self._choose_mask_for_free()

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self._rows.shape[1]

    @property
    def step(self) -> int:
        """Updates completed; refreshing the mask is none."""
        return self._step

    @property
    def point(self) -> Array:
        """Current w (d,), the mean of the rows where there are several."""
        return self._rows.mean(axis=0)

    @property
    def best(self) -> tuple[Array, float]:
        """Candidate (d,) with the lowest loss so far, and that loss."""
        return self._best.point.copy(), self._best.loss

    @property
    def mask(self) -> Array:
        """Coordinates that the next update moves, booleans (d,)."""
        return self._mask.copy()

    @property
    def stopped(self) -> Reason | None:
        """Why the search stopped: diverged, or patience spent."""
        return self._stopped

    @property
    def notes(self) -> Mapping[str, float]:
        """Number of coordinates moved and the mean absolute slope of the last step."""
        return {"kept": float(np.count_nonzero(self._mask)), "slope": self._slope}

    def ask(self) -> Any:
        """Return the 2d probes of a mask refresh if one is due, else the candidates of a step."""
        if self._refresh_due():
            return cge_candidates(self.point, self.settings.mu_refresh)
        # The loss sees the mean over rows: of the point and of the perturbation.
        around = one_sided_candidates if self.settings.one_sided else rge_candidates
        return around(self.point, self._directions().mean(axis=1), self.settings.mu)

    def tell(self, losses: Array) -> None:
        """Refresh the mask or move w by the losses of the last ``ask``.

        A pair with a non-finite loss moves nothing. ``stopped`` is DIVERGED if no loss is finite
        or if w would leave the numbers; w then stays where it was.
        """
        candidates = self.ask()
        losses = checked_losses(losses, len(candidates))
        if np.isinf(losses).all():
            self._stopped = Reason.DIVERGED
            return
        self._best.update(candidates, losses)
        if self._refresh_due():
            gradient = cge_gradient(losses, self.settings.mu_refresh)
            self._renew_mask(gradient)
            return
        read = one_sided_slopes if self.settings.one_sided else slopes
        self._move(read(losses, self.settings.mu))
        self._choose_mask_for_free()

    def observe(self, validation_accuracy: float) -> None:
        """Stop with PATIENCE when validation accuracy has stopped rising."""
        if self._patience.observe(validation_accuracy) and self._stopped is None:
            self._stopped = Reason.PATIENCE

    def _move(self, slope: Array) -> None:
        """Take the step: eq. 4 averaged over q, then w <- w - eta V on the kept coordinates."""
        directions = self._directions()
        with np.errstate(over="ignore", invalid="ignore"):
            gradient = np.tensordot(slope, directions, axes=1) / len(directions)
            velocity = self.settings.momentum * self._velocity + gradient
            squares = self._averaged(gradient.mean(axis=0) ** 2)
            rows = self._rows - self._rate(squares) * velocity * self._mask
        if not np.isfinite(rows).all():
            self._stopped = Reason.DIVERGED
            return
        self._rows, self._velocity, self._squares = rows, velocity, squares
        self._slope = float(np.abs(slope).mean())
        self._step += 1

    def _averaged(self, square: Array) -> Array:
        """Return the running mean of g^2 (d,) with ``square`` (d,) taken in."""
        decay = self.settings.decay
        return self._squares if decay is None else decay * self._squares + (1 - decay) * square

    def _rate(self, squares: Array) -> float:
        """Return what V is multiplied by in this step, 0 where all slopes so far were zero."""
        settings, done = self.settings, self._step
        rate = settings.learning_rate
        if settings.slow_after is not None:
            rate /= math.sqrt(1 + done / settings.slow_after)
        if settings.decay is None:
            return rate
        size = math.sqrt(squares[self._mask].mean() / (1 - settings.decay ** (done + 1)))
        return rate / size if size > 0 else 0.0

    def _directions(self) -> Array:
        """Return u_j * Omega, (q, rows, d), keyed by step and j."""
        draws = [
            generator(self._seed, "zo", step=self._step, direction=j)
            for j in range(self.settings.queries)
        ]
        return self._mask * np.stack([draw.standard_normal(self._rows.shape) for draw in draws])

    def _refresh_due(self) -> bool:
        return (
            needs_gradient(self.settings.score)
            and kept(self.settings.keep, self.dim) < self.dim
            and self._step % self.settings.refresh == 0
            and self._masked != self._step
        )

    def _renew_mask(self, gradient: Array | None) -> None:
        values = scores(self.settings.score, self.point, gradient)
        self._mask = mask(values, self.settings.keep)
        self._masked = self._step

    def _choose_mask_for_free(self) -> None:
        """Renew a mask whose score costs no forwards, without an extra tell."""
        if self._step % self.settings.refresh:
            return
        if self.settings.score == "magnitude":
            self._renew_mask(None)
        elif self.settings.score == "z-running" and self._step:
            self._renew_mask(np.sqrt(self._squares))

    def state(self) -> State:
        """Return copies of everything the next steps depend on; flat."""
        state: State = {
            "seed": self._seed,
            "step": self._step,
            "masked": self._masked,
            "slope": self._slope,
            "rows": self._rows.copy(),
            "velocity": self._velocity.copy(),
            "squares": self._squares.copy(),
            "mask": self._mask.copy(),
            **nest("patience", self._patience.state()),
            **nest("best", self._best.state()),
        }
        if self._stopped is not None:
            state["stopped"] = self._stopped.name
        return state

    @classmethod
    def from_state(cls, settings: ZoSettings, state: State) -> SparseZo:
        """Rebuild a search that goes on bit for bit as the one ``state`` was taken from."""
        search = cls(state["rows"].shape[1], settings, seed=int(state["seed"]))
        search._step = int(state["step"])
        search._masked = int(state["masked"])
        search._slope = float(state["slope"])
        search._rows = np.array(state["rows"], dtype=np.float64, order="C")
        search._velocity = np.array(state["velocity"], dtype=np.float64, order="C")
        search._squares = np.array(state["squares"], dtype=np.float64)
        search._mask = np.array(state["mask"], dtype=bool)
        search._patience.restore(part("patience", state))
        search._best.restore(part("best", state))
        search._stopped = Reason[state["stopped"]] if "stopped" in state else None
        return search
