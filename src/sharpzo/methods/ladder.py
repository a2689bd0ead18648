"""``ladder`` and ``ladder+gda``: the text corrected by photos, beside a Gaussian expert."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sharpzo.heads.arrays import require_arrays
from sharpzo.heads.ladder import LadderSettings, fit_ladder, other_names
from sharpzo.heads.linear import LinearHead
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.methods.text import Text, read_text
from sharpzo.types import Array, Reason, TextTower


def fit(settings: LadderSettings, task: Task) -> Fit:
    """The class names once; the rest is one D x D decomposition (two with the expert)."""
    return fit_to(read_text(task.tower), settings, task)


def fit_to(text: Text, settings: LadderSettings, task: Task) -> Fit:
    """The same where the class names have been read."""
    tuned = fit_ladder(task.train, text.features, task.validation, settings)
    return Fit(
        tuned.head,
        Reason.CLOSED_FORM,
        text.forwards,
        arrays={**tuned.arrays(), "names": record_names(task)},
        notes={"penalty": tuned.penalty, "temperature": tuned.temperature},
    )


def rename(arrays: Mapping[str, Array], tower: TextTower) -> LinearHead:
    """Names with photos keep their classifier, others get their text, on one scale."""
    return other_names(arrays, read_text(tower).features, recorded_rows(arrays, tower))


def record_names(task: Task) -> Array:
    """Which names have photos, as an array for the artefact: a class without photos is no more
    known than a name that was never given."""
    shown = {task.tower.class_names[k] for k in np.unique(task.train.labels)}
    names = [name if name in shown else "" for name in task.tower.class_names]
    return np.frombuffer("\0".join(names).encode(), np.uint8)


def recorded_rows(arrays: Mapping[str, Array], tower: TextTower) -> Array:
    """Which recorded class each of the tower's names is (M,), -1 for one without photos."""
    require_arrays(arrays, "names")
    names = arrays["names"].tobytes().decode().split("\0")
    rows = {name: k for k, name in enumerate(names) if name}
    return np.array([rows.get(name, -1) for name in tower.class_names])


register(
    Method(
        "ladder",
        "the text, scaled and corrected by photos in closed form; other names keep their text",
        LadderSettings(),
        fit,
        rename=rename,
    )
)
register(
    Method(
        "ladder+gda",
        "ladder beside Gaussian classes, as far as there are photos to estimate these",
        LadderSettings(gaussian=0.25),
        fit,
        rename=rename,
    )
)
