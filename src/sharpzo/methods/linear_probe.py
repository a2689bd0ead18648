"""Linear probe: multinomial logistic regression on cached features.

The strongest simple baseline for photos of known classes. It never reads a class name, so it has
no classifier for unseen ones. Objective: mean cross-entropy + penalty * ||W||**2, intercepts
free, as in CoOp's ``lpclip`` but with the penalty from one grid instead of its bisection. With many
photos and classes, products are in float32, in blocks of photos.
"""

from __future__ import annotations

import numpy as np

from sharpzo import linear
from sharpzo.linear import LinearHead, loss_and_slopes
from sharpzo.methods.choose import PenaltySettings, choose_penalty
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.types import Array, Reason


def fit(settings: PenaltySettings, task: Task) -> Fit:
    """No forward: no class name is read."""
    train = task.train
    classes, width = len(train.class_names), train.vectors.shape[1]
    large = len(train) * classes > linear.NUMBERS
    vectors = train.vectors.astype(np.float32 if large else np.float64, copy=False)

    def loss(parameters: Array, penalty: float) -> tuple[float, Array]:
        weight, bias = parameters[:, :width], parameters[:, width]
        fit_loss, along, summed = loss_and_slopes(
            weight, bias, vectors, train.labels, divide=len(vectors)
        )
        gradient = np.column_stack([along + 2 * penalty * weight, summed])
        return float(penalty * (weight**2).sum() + fit_loss), gradient

    def first_step(penalty: float) -> float | None:
        """Newton's, where all probabilities are 1 / K and photos are orthogonal."""
        return 1 / (2 * penalty + 1 / classes) if large else None

    def head(parameters: Array) -> LinearHead:
        weight, bias = parameters[:, :width], parameters[:, width]
        return LinearHead(weight.astype(np.float32), bias.astype(np.float32), 1.0)

    start = np.zeros((classes, width + 1))
    _, chosen, penalty = choose_penalty(loss, head, start, settings, task.validation, first_step)
    return Fit(chosen, Reason.CLOSED_FORM, forwards=0, notes={"penalty": penalty})


register(
    Method(
        "linear-probe",
        "logistic regression on image features; no class names, no forwards",
        PenaltySettings(),
        fit,
    )
)
