"""What methods that search have in common: how long, how often validated, what is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sharpzo.budget import Budget
from sharpzo.memory import Need, matrices
from sharpzo.methods.registry import Method, Task
from sharpzo.optim import Search
from sharpzo.run import run
from sharpzo.settings import Count, Settings
from sharpzo.types import Kind, Result, TextTower


@dataclass(frozen=True)
class SearchingSettings(Settings):
    """How a search is run, whatever it searches.

    ``validate_every``: forwards between two validations (one forward each). ``choose``: keep the
    point that validated best instead of the last one. ``forwards`` and ``steps``: what is spent
    where the caller sets no budget.
    """

    validate_every: Count = 200
    choose: bool = True
    forwards: Count | None = 8000
    steps: Count | None = None

    def budget(self, task: Task) -> Budget:
        """What may be spent: the caller's budget, else these settings'."""
        return self.plan() if task.budget == Budget() else task.budget

    def plan(self) -> Budget:
        """What is spent where the caller sets no budget."""
        return Budget(self.forwards, steps=self.steps)

    def chooses(self) -> bool:
        """Whether the validation photos choose the point."""
        return self.choose


R = TypeVar("R", bound=SearchingSettings)


@dataclass(frozen=True, eq=False)
class SearchMethod(Method[R]):
    """A method whose settings are `SearchingSettings`, and say how it is run."""

    milestones: bool = True
    validation: Callable[[R], bool] = SearchingSettings.chooses
    plan: Callable[[R], Budget] = SearchingSettings.plan


def map_and_covariance(dim: int | None, tower: TextTower) -> Need:
    """What a search over ``dim`` numbers keeps: its map, float32, and a covariance, which no search
    has of more than 4,096 numbers."""
    return Need(4 * tower.start.size * (dim or 0) + matrices(min(dim or 0, 4096)))


def search_until_spent(
    search: Search[Kind], objective: Kind, settings: SearchingSettings, task: Task
) -> Result:
    """Run the loop as the settings say and the task allows."""
    return run(
        search,
        objective,
        settings.budget(task),
        validate_every=settings.validate_every,
        choose=settings.choose,
        milestones=task.milestones,
        listen=task.listen,
        begin=task.begin,
    )
