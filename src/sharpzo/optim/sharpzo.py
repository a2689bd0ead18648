"""SharpZO (NeurIPS 2025, arXiv 2506.20990): sharpness-aware CMA-ES, then sparse ZO-SGD.

One composition for the paper's equations, the authors' program and the ablations; the settings
decide which it is (``presets``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sharpzo.optim.checks import at_least, checked_vector
from sharpzo.optim.cma import CmaSettings
from sharpzo.optim.record import Patience, nest, part
from sharpzo.optim.sharp import SharpCma, SharpnessSettings
from sharpzo.optim.zo import SparseZo, ZoSettings
from sharpzo.rng import generator
from sharpzo.settings import Count, CountOrZero, Fraction, NotNegative, Settings
from sharpzo.types import Array, Reason, State

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

    Ablations are settings: plain CMA-ES is ``SharpnessSettings(estimator="none")`` with
    ``SwitchSettings(patience=None)``; stage 2 alone is ``SwitchSettings(generation=0)``.
    """

    # Ten times lazier than Hansen: no more evaluations on ellipsoids (benchmarks/cma_parity.py),
    # and at d = 512 a tenth of the eigendecompositions, the bulk of a generation's overhead.
    cma: CmaSettings = CmaSettings(population_size=40, sigma=0.4, laziness=10.0)
    sharpness: SharpnessSettings = SharpnessSettings()
    switch: SwitchSettings = SwitchSettings()
    zo: ZoSettings = ZoSettings()
    hand_over: HandOver = "mean"
    start_std: NotNegative = 0.0


class SharpZo:
    """SharpZO as a ``Search``: stage ``sharp-cma``, then ``sparse-zo``.

    ``ask`` gives one kind of batch a time: gradient probes, a population, mask probes or mirrored
    pairs. ``step`` counts generations and updates, ``point`` is theta or w.

    >>> settings = SharpZoSettings(
    ...     switch=SwitchSettings(generation=30),
    ...     zo=ZoSettings(learning_rate=0.05, score="dense"),
    ... )
    >>> search = SharpZo(8, settings, seed=1)
    >>> for _ in range(200):
    ...     search.tell(np.sum((search.ask() - 1) ** 2, axis=1))
    >>> search.stage, bool(np.abs(search.point - 1).max() < 0.1)
    ('sparse-zo', True)
    """

    def __init__(
        self,
        dim: int,
        settings: SharpZoSettings | None = None,
        seed: int = 0,
        start: Array | None = None,
    ) -> None:
        at_least("dim", dim, 1)
        self.settings = settings = settings or SharpZoSettings()
        self._seed = int(seed)
        if start is None:
            start = settings.start_std * generator(self._seed, "start").standard_normal(dim)
        start = checked_vector("start", start, dim)
        self._first: SharpCma | None = self._stage_1(start)
        self._second: SparseZo | None = None
        self._generations = 0  # of stage 1, once it is over
        self._asked = False
        self._patience = Patience(settings.switch.patience, settings.switch.min_gain)
        self._validated: tuple[Array, float] | None = None
        self.handed_over: Array | None = None  # the point (d,) at which stage 1 ended
        if settings.switch.generation == 0:
            self._second = self._stage_2(start, None)
            self._first = None

    def _stage_1(self, start: Array) -> SharpCma:
        """Return the first stage, from ``start`` (d,) on."""
        settings = self.settings
        return SharpCma(len(start), settings.cma, settings.sharpness, self._seed, start)

    def _stage_2(self, start: Array, first: SharpCma | None) -> SparseZo:
        """Return the second stage, from ``start`` (d,) on, after ``first`` if there was one."""
        zo = self.settings.zo
        if first is None:
            return SparseZo(len(start), zo, self._seed, start)
        velocity = first.gradient if zo.inherit else None
        return SparseZo(len(start), zo, self._seed, start, velocity=velocity, best=first.best)

    def _restored(self, stage: str, state: State) -> SharpCma | SparseZo:
        """Return the stage that ``state`` was taken from."""
        if stage == SharpCma.stage:
            return SharpCma.from_state(self.settings.cma, self.settings.sharpness, state)
        return SparseZo.from_state(self.settings.zo, state)

    @property
    def _now(self) -> SharpCma | SparseZo:
        """The stage at work."""
        stage = self._first if self._second is None else self._second
        assert stage is not None
        return stage

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self._now.dim

    @property
    def step(self) -> int:
        """Generations of stage 1 plus updates of stage 2 completed."""
        return self._generations + self._now.step

    @property
    def stage(self) -> str:
        """``sharp-cma`` or ``sparse-zo``."""
        return self._now.stage

    @property
    def point(self) -> Array:
        """Current estimate (d,)."""
        return self._now.point

    @property
    def best(self) -> tuple[Array, float]:
        """Candidate (d,) with the lowest loss told so far in either stage, and that loss."""
        return self._now.best

    @property
    def stopped(self) -> Reason | None:
        """Why the search stopped; a converged stage 1 hands over instead, if it may."""
        return self._now.stopped

    @property
    def notes(self) -> Mapping[str, float]:
        """The numbers of the stage at work."""
        return self._now.notes

    def ask(self) -> Any:
        """Return candidates (P, d); the same again until ``tell``."""
        self._asked = True
        return self._now.ask()

    def tell(self, losses: Array) -> None:
        """Take the losses (P,) of the last ``ask``; may end stage 1."""
        self._now.tell(losses)
        self._asked = False
        self._switch_if_due()

    def observe(self, validation_accuracy: float) -> None:
        """Hear the validation accuracy of ``point``; may end stage 1, or the search."""
        if self._first is None:
            self._now.observe(validation_accuracy)
            return
        if self._validated is None or validation_accuracy > self._validated[1]:
            self._validated = self.point, float(validation_accuracy)
        self._patience.observe(validation_accuracy)
        if not self._asked:  # else the batch that is out is told first
            self._switch_if_due()

    def _switch_if_due(self) -> None:
        """Hand over to stage 2 by generation, by patience, or because CMA-ES has converged."""
        first, switch = self._first, self.settings.switch
        if first is None or switch.never or first.stopped is Reason.DIVERGED:
            return
        by_plan = switch.generation is not None and first.step >= switch.generation
        if by_plan or self._patience.spent or first.stopped is Reason.CONVERGED:
            self.handed_over = self._handed_over(first)
            self._second = self._stage_2(self.handed_over, first)
            self._generations = first.step
            self._first = None

    def _handed_over(self, first: SharpCma) -> Array:
        """Return the point (d,) at which stage 2 begins."""
        if self.settings.hand_over == "population":
            return first.population_mean()
        if self.settings.hand_over == "best" and np.isfinite(first.best[1]):
            return first.best[0]
        if self.settings.hand_over == "validated" and self._validated is not None:
            return self._validated[0]
        return first.mean

    def state(self) -> State:
        """Return copies of everything the next steps depend on: arrays, numbers, strings."""
        state: State = {
            "seed": self._seed,
            "stage": self.stage,
            "generations": self._generations,
            "asked": self._asked,
            **nest("patience", self._patience.state()),
            **nest(self.stage, self._now.state()),
        }
        if self._validated is not None:
            state["validated.point"] = self._validated[0].copy()
            state["validated.accuracy"] = self._validated[1]
        if self.handed_over is not None:
            state["handed_over"] = self.handed_over.copy()
        return state

    @classmethod
    def from_state(cls, settings: SharpZoSettings, state: State) -> SharpZo:
        """Rebuild a search that goes on bit for bit as the one ``state`` was taken from."""
        inner = part(state["stage"], state)
        search = cls(len(inner["mask" if "mask" in inner else "gradient"]), settings)
        search._seed = int(state["seed"])
        stage = search._restored(state["stage"], inner)
        search._first = stage if isinstance(stage, SharpCma) else None
        search._second = stage if isinstance(stage, SparseZo) else None
        search._generations = int(state["generations"])
        search._asked = bool(state["asked"])
        search._patience.restore(part("patience", state))
        if "validated.point" in state:
            point = np.array(state["validated.point"], dtype=np.float64)
            search._validated = point, float(state["validated.accuracy"])
        if "handed_over" in state:
            search.handed_over = np.array(state["handed_over"], dtype=np.float64)
        return search
