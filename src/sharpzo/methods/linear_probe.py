"""Linear probe: multinomial logistic regression on cached features.

The strongest simple baseline for photos of known classes. It never reads a class name, so it has
no classifier for unseen ones. Objective: mean cross-entropy + penalty * ||W||**2, intercepts
free, as in CoOp's ``lpclip`` but with the penalty from one grid instead of its bisection.
"""

from __future__ import annotations

import numpy as np

from sharpzo.linear import LinearHead
from sharpzo.methods.choose import PenaltySettings, choose_penalty
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.metrics import loss_and_error
from sharpzo.types import Array, Reason


def fit(settings: PenaltySettings, task: Task) -> Fit:
    """No forward: no class name is read."""
    train = task.train
    classes, width = len(train.class_names), train.vectors.shape[1]
    vectors = train.vectors.astype(np.float64)

    def loss(parameters: Array, penalty: float) -> tuple[float, Array]:
        weight, bias = parameters[:, :width], parameters[:, width]
        fit_loss, error = loss_and_error(vectors @ weight.T + bias, train.labels)
        error /= len(vectors)
        gradient = np.column_stack([error.T @ vectors + 2 * penalty * weight, error.sum(0)])
        return float(penalty * (weight**2).sum() + fit_loss), gradient

    def head(parameters: Array) -> LinearHead:
        weight, bias = parameters[:, :width], parameters[:, width]
        return LinearHead(weight.astype(np.float32), bias.astype(np.float32), 1.0)

    start = np.zeros((classes, width + 1))
    _, chosen, penalty = choose_penalty(loss, head, start, settings, task.validation)
    return Fit(chosen, Reason.CLOSED_FORM, forwards=0, notes={"penalty": penalty})


register(
    Method(
        "linear-probe",
        "logistic regression on image features; no class names, no forwards",
        PenaltySettings(),
        fit,
    )
)
