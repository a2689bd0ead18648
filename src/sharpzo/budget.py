"""The budget of a run: forwards, seconds, steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from sharpzo.errors import BudgetError, InputError
from sharpzo.settings import Settings
from sharpzo.types import Reason

_MORE = 2**63  # than any run.json may hold
Limit = Annotated[int, Meta(ge=1, le=_MORE - 1, description="an integer above 0")]
Seconds = Annotated[float, Meta(gt=0, lt=_MORE, description="a finite number above 0")]


@dataclass(frozen=True)
class Budget(Settings):
    """Limits of one run; ``None`` means no limit of that kind.

    A forward is one candidate context through the text tower for all class names. The budget is
    never exceeded: a batch of candidates that no longer fits is not evaluated.

    >>> Budget(forwards=100).exhausted(forwards=60, seconds=0.0, steps=3, wanted=40)
    >>> Budget(forwards=100).exhausted(forwards=61, seconds=0.0, steps=3, wanted=40).name
    'FORWARDS'
    """

    forwards: Limit | None = None
    seconds: Seconds | None = None
    steps: Limit | None = None

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except InputError as error:
            raise BudgetError(f"budget of {error} for no limit") from None

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
