"""The base class of searches: ask and tell, best point, patience, and saved state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Generic

import numpy as np

from sharpzo.errors import InputError
from sharpzo.settings import integer
from sharpzo.types import NOTHING, Array, Kind, Reason, Request, State

if TYPE_CHECKING:
    from typing_extensions import Self

STEEPEST = 1e100  # the square of a slope must stay a number


class Kept:
    """Has a state: the attributes that ``KEPT`` of each class names, parts under a prefix.

    >>> class Counter(Kept):
    ...     KEPT = ("count", "seen")
    ...     def __init__(self):
    ...         self.count, self.seen = 0, None
    >>> counter = Counter()
    >>> counter.count = 3
    >>> counter.state()
    {'count': 3}
    >>> Counter().restore({"count": 3}).count
    3
    """

    KEPT: ClassVar[tuple[str, ...]] = ()

    def _names(self) -> list[tuple[str, str]]:
        """Attributes to keep, and their names in a state."""
        names = [name for cls in type(self).__mro__ for name in vars(cls).get("KEPT", ())]
        return [(name, name.lstrip("_")) for name in names]

    def state(self) -> State:
        """Return copies of everything the next steps depend on; flat, see ``types.State``."""
        state: State = {}
        for name, key in self._names():
            value = getattr(self, name)
            if isinstance(value, Kept):
                state |= {f"{key}.{inner}": kept for inner, kept in value.state().items()}
            elif isinstance(value, np.ndarray):
                state[key] = value.copy()
            elif value is not None:  # JSON has no infinity
                state[key] = str(value) if value in (np.inf, -np.inf) else value
        return state

    def restore(self, state: State) -> Self:
        """Take up what ``state()`` of an object made with the same arguments returned: from here
        on, both go on bit for bit. The object itself is returned."""
        for name, key in self._names():
            now, value = getattr(self, name), state.get(key)
            if isinstance(now, Kept):
                head = f"{key}."
                now.restore({k[len(head) :]: v for k, v in state.items() if k.startswith(head)})
                continue
            if isinstance(value, np.ndarray):
                value = value.copy(order="C")
            elif isinstance(now, float) and value is not None:
                value = float(value)
            setattr(self, name, value)
        return self


@dataclass(eq=False)
class Patience(Kept):
    """Counts observations in a row that did not beat the best one by more than ``min_gain``.

    SharpZO section 3.3: leave when the count reaches ``limit``; no limit, no leaving.

    >>> patience = Patience(limit=2, min_gain=0.01)
    >>> [patience.observe(accuracy) for accuracy in (0.5, 0.505, 0.52, 0.52, 0.53)]
    [False, False, False, False, True]
    """

    KEPT = ("count", "best")
    limit: int | None = None
    min_gain: float = 0.0
    best: float | None = field(default=None, init=False)
    count: int = field(default=0, init=False)

    @property
    def spent(self) -> bool:
        return self.limit is not None and self.count >= self.limit

    def observe(self, accuracy: float) -> bool:
        """Count one observation; return whether patience is spent. NaN never beats anything."""
        if not np.isnan(accuracy) and (self.best is None or accuracy > self.best + self.min_gain):
            self.best, self.count = float(accuracy), 0
        else:
            self.count += 1
        return self.spent


class Search(Kept, ABC, Generic[Kind]):
    """An ask / tell minimiser over vectors (d,); never sees a model, a photo or a file.

    ``ask -> state -> restore -> tell`` continues bit for bit; arguments are never mutated; global
    randomness is never touched. A subclass has a ``stage`` (its name in the journal), ``ask`` and
    ``learn``, and adds to ``step`` (generations or updates) what it completes; it may lag behind
    the number of tells. ``KEPT`` names what it has to keep besides. `Kind` is the kind of
    objective that its requests need.

    ``start`` (d,) is where it begins (None: zeros), ``patience`` what ends it by validation.
    """

    stage: str
    KEPT = ("seed", "step", "patience", "_best", "_lowest")

    def __init__(
        self,
        dim: int,
        seed: int = 0,
        start: Array | None = None,
        patience: Patience | None = None,
    ) -> None:
        if integer("dim", dim) < 1:
            raise InputError(f"dim is {dim}; give 1 or more")
        self.dim = int(dim)
        self.seed = int(seed)
        self.step = 0
        self.stopped: Reason | None = None
        self.patience = patience or Patience()
        self._point = np.zeros(dim) if start is None else checked_vector("start", start, dim)
        self._best: Array = np.zeros(dim)
        self._lowest = np.inf

    @property
    def point(self) -> Array:
        """Current estimate (d,): what validation looks at."""
        return self._point.copy()

    @property
    def best(self) -> tuple[Array, float]:
        """Point (d,) with the lowest loss told so far, ties to the earlier one, and that loss (inf
        before any)."""
        return self._best.copy(), self._lowest

    @property
    def notes(self) -> Mapping[str, float]:
        """Numbers worth a column in the journal (sigma, gradient norm, kept coordinates)."""
        return {}

    @abstractmethod
    def ask(self) -> Request[Kind]:
        """Return the next request; the same again until ``tell``."""

    def tell(self, values: Array, derivatives: Array = NOTHING) -> None:
        """Take the answer to the last ``ask``: losses (P,), slopes (p,) where it asked for them.

        Non-finite losses count as +inf, non-finite or absurd slopes as 0. If no loss is finite,
        nothing is learned and ``stopped`` is DIVERGED. InputError for another shape.
        """
        asked = self.ask()
        losses, slopes = checked_answer(asked, values, derivatives)
        if np.isinf(losses).all():
            self.stopped = Reason.DIVERGED
            return
        self.record(asked.points, losses)
        self.learn(losses, slopes)

    def learn(self, losses: Array, slopes: Array) -> None:
        """Take the step that losses (P,) and slopes (p,) of the last ``ask`` suggest; a search
        with a ``tell`` of its own needs none."""
        raise NotImplementedError

    def record(self, points: Array, losses: Array) -> None:
        """Note ``losses`` (P,), non-finite ones as +inf, of points (P, d), for ``best``."""
        lowest = int(np.argmin(losses))
        if losses[lowest] < self._lowest:
            self._best, self._lowest = points[lowest].copy(), float(losses[lowest])

    def observe(self, validation_accuracy: float) -> None:
        """Take the validation accuracy of ``point``; stop with PATIENCE where that is spent."""
        if self.patience.observe(validation_accuracy) and self.stopped is None:
            self.stopped = Reason.PATIENCE

    def state(self) -> State:
        return super().state() | ({} if self.stopped is None else {"stopped": self.stopped.name})

    def restore(self, state: State) -> Self:
        self.stopped = Reason[str(state["stopped"])] if "stopped" in state else None
        return super().restore(state)


def checked_vector(name: str, values: Array, dim: int) -> Array:
    """Return a float64 copy of ``values`` (dim,); InputError for another shape or what is not
    finite."""
    vector = np.array(values, dtype=np.float64)
    if vector.shape != (dim,):
        raise InputError(f"{name} has the shape {vector.shape}; this search needs ({dim},)")
    if not np.isfinite(vector).all():
        raise InputError(
            f"{name} holds {np.count_nonzero(~np.isfinite(vector))} values that are "
            f"not finite; give {dim} finite numbers"
        )
    return vector


def checked_answer(asked: Request[Kind], values: Array, derivatives: Array) -> tuple[Array, Array]:
    """Return float64 copies of losses (P,), everything non-finite +inf, and of slopes (p,), what
    is not finite or absurd 0; InputError for other shapes than ``asked`` for."""
    losses = np.array(values, dtype=np.float64)
    slopes = np.array(derivatives, dtype=np.float64)
    wanted = (len(asked.points),), (len(asked.directions),)
    if (losses.shape, slopes.shape) != wanted:
        raise InputError(
            f"losses have the shape {losses.shape} and slopes {slopes.shape}; the last ask needs "
            f"{wanted[0]} and {wanted[1]}, one per point and one per direction"
        )
    losses[~np.isfinite(losses)] = np.inf
    return losses, np.where(np.abs(slopes) < STEEPEST, slopes, 0.0)
