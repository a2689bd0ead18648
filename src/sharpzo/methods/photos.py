"""The training photos as heads on cached features ask for them."""

from __future__ import annotations

from sharpzo.errors import InputError
from sharpzo.methods.cached import states_of
from sharpzo.methods.registry import Task
from sharpzo.metrics import normalise
from sharpzo.types import Array, Features


def every_view(task: Task) -> Features:
    """All augmented views, each a sample of its own; without views the photos."""
    return task.train if task.views is None else task.views


def image_passes(task: Task) -> int:
    """Passes of the image tower beyond the one a photo: the views."""
    return 0 if task.views is None else len(task.views)


def image_projection(task: Task) -> Array:
    """The matrix (D, S) that makes features of states, read from the checkpoint."""
    if task.images is None:
        raise InputError("this task comes without its image tower; give the task its images")
    return task.images.open_tower().projection


def mean_views(task: Task, many: int = 0) -> Array:
    """Unit rows (N, D): the photos' features, or the mean of their first ``many`` views (0: all).

    Raw features are averaged, so that a view counts by the length of its feature.
    """
    if task.views is None:
        return task.train.vectors
    states = states_of(task.views)
    states = states.reshape(-1, len(task.train), states.shape[1])
    return normalise(states[: many or None].mean(axis=0) @ image_projection(task).T)
