"""SharpZO (NeurIPS 2025, arXiv 2506.20990): sharpness-aware CMA-ES, then sparse ZO-SGD.

One composition for the paper's equations, the authors' program and the ablations; the settings
decide which it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sharpzo.optim.cma import CmaSettings
from sharpzo.optim.search import Patience, Search
from sharpzo.optim.sharp import SharpCma, SharpnessSettings
from sharpzo.optim.zo import SparseZo, ZoSettings
from sharpzo.rng import generator
from sharpzo.settings import Count, CountOrZero, Fraction, LengthOrZero, Settings
from sharpzo.types import NOTHING, Array, Reason, Request, SlopeObjective, State

if TYPE_CHECKING:
    from typing_extensions import Self

HandOver = Literal["mean", "population", "best", "validated"]


@dataclass(frozen=True)
class SwitchSettings(Settings):
    """When stage 1 ends: after ``generation`` generations, or once validation accuracy has not
    beaten its best by more than ``min_gain`` for ``patience`` observations in a row (SharpZO
    section 3.3), whichever is first. Both None: never.
    """

    generation: CountOrZero | None = None
    patience: Count | None = 10
    min_gain: Fraction = 0.01

    @property
    def never(self) -> bool:
        """Whether stage 1 goes on for ever."""
        return self.generation is None and self.patience is None


@dataclass(frozen=True)
class SharpZoSettings(Settings):
    """Settings of SharpZO, nested by stage.

    ``start_std``: without a start, w ~ N(0, start_std^2), the paper's 0.02, or zeros for 0.
    ``hand_over``: where stage 2 begins, at theta (``mean``), the mean of fresh draws
    (``population``, the authors' program), the candidate of lowest loss (``best``) or the point
    of highest validation accuracy (``validated``, theta if none was observed).

    Ablations are settings: stage 1 alone is ``SwitchSettings(patience=None)``, without sharpness
    ``SharpnessSettings(estimator="none")``; stage 2 alone is ``SwitchSettings(generation=0)``.
    """

    # Ten times lazier than Hansen: no more evaluations on ellipsoids (benchmarks/cma_parity.py),
    # and at d = 512 a tenth of the eigendecompositions, the bulk of a generation's overhead.
    cma: CmaSettings = CmaSettings(population_size=40, sigma=0.4, laziness=10.0)
    sharpness: SharpnessSettings = SharpnessSettings()
    switch: SwitchSettings = SwitchSettings()
    zo: ZoSettings = ZoSettings()
    hand_over: HandOver = "mean"
    start_std: LengthOrZero = 0.0


class SharpZo(Search[SlopeObjective]):
    """SharpZO as a ``Search``: stage ``sharp-cma``, then ``sparse-zo``.

    ``ask`` gives one kind of request at a time: gradient probes, a population, mask probes or
    mirrored pairs. ``step`` counts generations and updates, ``point`` is theta or w.

    >>> settings = SharpZoSettings(
    ...     switch=SwitchSettings(generation=30),
    ...     zo=ZoSettings(learning_rate=0.05, score="dense"),
    ... )
    >>> search = SharpZo(8, settings, seed=1)
    >>> for _ in range(200):
    ...     search.tell(np.sum((search.ask().points - 1) ** 2, axis=1))
    >>> search.stage, bool(np.abs(search.point - 1).max() < 0.1)
    ('sparse-zo', True)
    """

    KEPT = ("stage", "handed_over", "_now", "_generations", "_asked", "_validated", "_accuracy")

    def __init__(
        self,
        dim: int,
        settings: SharpZoSettings | None = None,
        seed: int = 0,
        start: Array | None = None,
    ) -> None:
        self.settings = settings = settings or SharpZoSettings()
        switch = settings.switch
        super().__init__(dim, seed, start, Patience(switch.patience, switch.min_gain))
        if start is None:
            self._point = settings.start_std * generator(seed, "start").standard_normal(dim)
        self.handed_over: Array | None = None  # the point (d,) at which stage 1 ended
        self._generations = 0  # of stage 1, once it is over
        self._asked = False
        self._validated: Array | None = None  # stage 1's point of highest validation accuracy
        self._accuracy = -np.inf  # that accuracy
        self._now = self._stage_2(self._point) if switch.generation == 0 else self._stage_1()
        self.stage = self._now.stage

    def _stage_1(self) -> SharpCma:
        how = self.settings
        return SharpCma(self.dim, how.cma, how.sharpness, self.seed, self._point)

    def _stage_2(self, start: Array, first: SharpCma | None = None) -> SparseZo:
        """The second stage, from ``start`` (d,) on, after ``first`` if there was one."""
        zo = self.settings.zo
        if first is None:
            return SparseZo(self.dim, zo, self.seed, start)
        known = {"velocity": first.gradient if zo.inherit else None, "gradient": first.gradient}
        return SparseZo(self.dim, zo, self.seed, start, best=first.best, **known)

    @property
    def point(self) -> Array:
        return self._now.point

    @property
    def best(self) -> tuple[Array, float]:
        return self._now.best

    @property
    def notes(self) -> Mapping[str, float]:
        return self._now.notes

    def ask(self) -> Request[SlopeObjective]:
        self._asked = True
        return self._now.ask()

    def tell(self, values: Array, derivatives: Array = NOTHING) -> None:
        self._now.tell(values, derivatives)
        self._asked = False
        self._switch_if_due()
        self._follow()

    def observe(self, validation_accuracy: float) -> None:
        """Take the validation accuracy of ``point``; may end stage 1, or the search."""
        if isinstance(self._now, SparseZo):
            self._now.observe(validation_accuracy)
        else:
            if validation_accuracy > self._accuracy:
                self._validated, self._accuracy = self.point, float(validation_accuracy)
            self.patience.observe(validation_accuracy)
            if not self._asked:  # else the batch that is out comes first
                self._switch_if_due()
        self._follow()

    def _follow(self) -> None:
        """Show what the stage at work shows."""
        self.stage, self.stopped = self._now.stage, self._now.stopped
        self.step = self._generations + self._now.step

    def _switch_if_due(self) -> None:
        """Begin stage 2 by generation, by patience, or because CMA-ES has converged."""
        first, switch = self._now, self.settings.switch
        if isinstance(first, SparseZo) or switch.never or first.stopped is Reason.DIVERGED:
            return
        by_plan = switch.generation is not None and first.step >= switch.generation
        if by_plan or self.patience.spent or first.stopped is Reason.CONVERGED:
            self.handed_over = self._hand_over(first)
            self._generations = first.step
            self._now = self._stage_2(self.handed_over, first)

    def _hand_over(self, first: SharpCma) -> Array:
        """The point (d,) at which stage 2 begins."""
        if self.settings.hand_over == "population":
            return first.cma.population_mean()
        if self.settings.hand_over == "best" and np.isfinite(first.best[1]):
            return first.best[0]
        if self.settings.hand_over == "validated" and self._validated is not None:
            return self._validated.copy()
        return first.cma.mean

    def restore(self, state: State) -> Self:
        second = state["stage"] == SparseZo.stage
        self._now = self._stage_2(self._point) if second else self._stage_1()
        return super().restore(state)
