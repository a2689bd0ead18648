"""What methods that search have in common: how long, how often validated, what is kept."""

from __future__ import annotations

from dataclasses import dataclass

from sharpzo.budget import Budget
from sharpzo.methods.registry import Task
from sharpzo.run import run
from sharpzo.settings import Count, Settings
from sharpzo.types import Objective, Result, Search


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
        return task.budget if task.budget != Budget() else Budget(self.forwards, steps=self.steps)


def search_until_spent(
    search: Search, objective: Objective, settings: SearchingSettings, task: Task
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
