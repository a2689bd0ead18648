"""What a run may spend: forwards, seconds, steps."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from sharpzo.errors import BudgetError
from sharpzo.types import Reason

_LIMIT = 2**63  # None is no limit; this is more than any run.json may hold


@dataclass(frozen=True)
class Budget:
    """Limits of one run; ``None`` means no limit of that kind.

    A forward is one candidate context through the text tower for all class names. The budget is
    never exceeded: a batch of candidates that no longer fits is not evaluated.

    >>> Budget(forwards=100).exhausted(forwards=60, seconds=0.0, steps=3, wanted=40)
    >>> Budget(forwards=100).exhausted(forwards=61, seconds=0.0, steps=3, wanted=40).name
    'FORWARDS'
    """

    forwards: int | None = None
    seconds: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("forwards", "seconds", "steps"):
            value: Any = getattr(self, name)
            if value is None:
                continue
            kind, what = (Real, "a number") if name == "seconds" else (Integral, "an integer")
            number = isinstance(value, kind) and not isinstance(value, bool)
            # NumPy's numbers as Python's: run.json keeps them.
            plain = (int(value) if isinstance(value, Integral) else float(value)) if number else 0
            if not plain > 0:
                raise BudgetError(f"budget of {name} is {value!r}; give {what} above 0")
            if plain >= _LIMIT:
                raise BudgetError(f"budget of {name} is not finite; leave it out for no limit")
            object.__setattr__(self, name, plain)

    def exhausted(
        self, *, forwards: int, seconds: float, steps: int, wanted: int = 1
    ) -> Reason | None:
        """Return why ``wanted`` further forwards may not be spent, or None if they may."""
        if self.forwards is not None and forwards + wanted > self.forwards:
            return Reason.FORWARDS
        if self.seconds is not None and seconds >= self.seconds:
            return Reason.SECONDS
        if self.steps is not None and steps >= self.steps:
            return Reason.STEPS
        return None
