"""What a search remembers of the past: the best candidate, the patience left, nested states."""

from __future__ import annotations

import numpy as np

from sharpzo.types import Array, State


class Best:
    """The candidate with the lowest loss so far; ties go to the earlier one.

    >>> best = Best(2)
    >>> best.update(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.5, 0.25]))
    >>> best.point.tolist(), best.loss
    ([3.0, 4.0], 0.25)
    """

    def __init__(self, dim: int) -> None:
        self.point: Array = np.zeros(dim)
        self.loss = float("inf")

    def update(self, candidates: Array, losses: Array) -> None:
        """Take ``candidates`` (P, d) and their ``losses`` (P,), non-finite ones as +inf."""
        lowest = int(np.argmin(losses))
        if losses[lowest] < self.loss:
            self.point, self.loss = candidates[lowest].copy(), float(losses[lowest])

    def state(self) -> State:
        """Return nothing before any finite loss, so that a state holds finite numbers only."""
        return {"point": self.point.copy(), "loss": self.loss} if np.isfinite(self.loss) else {}

    def restore(self, state: State) -> Best:
        """Take up what ``state()`` returned."""
        if state:
            self.point, self.loss = np.array(state["point"]), float(state["loss"])
        return self


class Patience:
    """Counts observations in a row that did not beat the best one by more than ``min_gain``.

    SharpZO section 3.3: leave when the count reaches ``limit``; no limit, no leaving.

    >>> patience = Patience(limit=2, min_gain=0.01)
    >>> [patience.observe(accuracy) for accuracy in (0.5, 0.505, 0.52, 0.52, 0.53)]
    [False, False, False, False, True]
    """

    def __init__(self, limit: int | None, min_gain: float) -> None:
        self.limit = limit
        self.min_gain = min_gain
        self.best: float | None = None
        self.count = 0

    @property
    def spent(self) -> bool:
        """Whether the limit has been reached."""
        return self.limit is not None and self.count >= self.limit

    def observe(self, accuracy: float) -> bool:
        """Count one observation; return whether patience is spent. NaN never beats anything."""
        if not np.isnan(accuracy) and (self.best is None or accuracy > self.best + self.min_gain):
            self.best, self.count = float(accuracy), 0
        else:
            self.count += 1
        return self.spent

    def state(self) -> State:
        """Count and best accuracy."""
        return {"count": self.count} | ({} if self.best is None else {"best": self.best})

    def restore(self, state: State) -> Patience:
        """Take up what ``state()`` returned."""
        self.count = int(state["count"])
        self.best = float(state["best"]) if "best" in state else None
        return self


def nest(name: str, state: State) -> State:
    """Prefix every key with ``name.``, so that states of parts lie in one flat dictionary.

    >>> nest("cma", {"sigma": 0.3})
    {'cma.sigma': 0.3}
    """
    return {f"{name}.{key}": value for key, value in state.items()}


def part(name: str, state: State) -> State:
    """Undo ``nest``: the entries under ``name.`` without that prefix.

    >>> part("cma", {"cma.sigma": 0.3, "step": 4})
    {'sigma': 0.3}
    """
    head = f"{name}."
    return {key[len(head) :]: value for key, value in state.items() if key.startswith(head)}
