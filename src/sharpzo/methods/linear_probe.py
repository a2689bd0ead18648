"""``linear-probe``: logistic regression on image features."""

from __future__ import annotations

from sharpzo.heads.linear_probe import LinearProbeSettings, fit_linear_probe
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.types import Reason


def fit(settings: LinearProbeSettings, task: Task) -> Fit:
    """No forward: no class name is read."""
    head, penalty = fit_linear_probe(task.train, task.validation, settings)
    return Fit(head, Reason.CLOSED_FORM, forwards=0, notes={"penalty": penalty})


register(
    Method(
        "linear-probe",
        "logistic regression on image features; knows no names, no forwards",
        LinearProbeSettings(),
        fit,
    )
)
