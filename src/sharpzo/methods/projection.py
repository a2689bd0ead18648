"""Text projection tuned in closed form: shared by all names (ours).

Text features are t_k = (W0 + dW) h_k, where h_k is the text tower's state at EOS after the final
norm. One forward gives all h_k; from then on loss and gradient are closed forms and cost no
forward. dW is shared by all classes, so names never seen in training keep a classifier (how good a
one: docs/closed-forms.md). Minimised:

    mean_i CE(s * x_i . t_k / |W0 h_k|) + penalty * ||dW||_F**2

Features are divided by their untuned length: so the logits are linear in dW, the problem is convex
and its minimum unique. Divided by |t_k|, it would not be: a feature that has to turn by more than a
right angle is then cheapest at length zero, and where the search ends depends on rounding.

At the minimum every row of dW lies in the span of the h_k (the loss sees nothing else and the
penalty removes the rest), so dW = G Q' with Q an orthonormal basis of that span: rank <= K, stored
as two factors. The same on the image side is ProLIP (arXiv 2410.05270).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sharpzo.linear import LinearHead, keep, take
from sharpzo.methods.cached import Grid, logspace
from sharpzo.methods.choose import PenaltySettings, choose_penalty
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.metrics import loss_and_error
from sharpzo.settings import NotNegative
from sharpzo.types import Array, Features, Reason, TextTower


@dataclass(frozen=True)
class ProjectionSettings(PenaltySettings):
    """Penalties tried, strongest first; without validation photos ``penalty`` is used.

    States and untuned text features have a mean length of 1 where the penalty acts, so that one
    grid suits every checkpoint.
    """

    penalties: Grid = logspace(0, -5, 11)
    penalty: NotNegative = 1e-3


@dataclass(frozen=True, eq=False)
class TunedProjection:
    """dW = left @ right: left (D, r), right (r, H); and the classifier of the known classes."""

    left: Array
    right: Array
    head: LinearHead
    penalty: float


def fit_projection(
    states: Array,
    projection: Array,
    logit_scale: float,
    train: Features,
    validation: Features | None,
    settings: ProjectionSettings,
) -> TunedProjection:
    """Tune the projection (D, H) on the states (K, H) of the class names.

    A class name never seen gets the feature (projection + left @ right) @ state.
    """
    states = states.astype(np.float64)
    base = states @ projection.astype(np.float64).T  # (K, D): the untuned t_k
    lengths = np.linalg.norm(base, axis=1, keepdims=True)
    gain = lengths.mean() / np.linalg.norm(states, axis=1).mean()
    _, singular, rows = np.linalg.svd(states, full_matrices=False)
    basis = rows[singular > 1e-6 * singular[0]].T  # Q (H, r)
    unit, coordinates = base / lengths, gain * (states @ basis) / lengths
    vectors = train.vectors.astype(np.float64)

    def loss(tuned: Array, penalty: float) -> tuple[float, Array]:
        logits = logit_scale * vectors @ (unit + coordinates @ tuned.T).T
        fit_loss, error = loss_and_error(logits, train.labels)
        error *= logit_scale / len(vectors)
        gradient = (error.T @ vectors).T @ coordinates + 2 * penalty * tuned
        return float(penalty * (tuned**2).sum() + fit_loss), gradient

    def head(tuned: Array) -> LinearHead:
        return LinearHead.of_text(unit + coordinates @ tuned.T, logit_scale)

    start = np.zeros((projection.shape[0], basis.shape[1]))
    tuned, chosen, penalty = choose_penalty(loss, head, start, settings, validation)
    left, right = (gain * tuned).astype(np.float32), basis.T.astype(np.float32)
    return TunedProjection(left, right, chosen, penalty)


def fit(settings: ProjectionSettings, task: Task) -> Fit:
    """One forward gives the states; the rest is a convex problem."""
    tower = task.tower
    tuned = fit_projection(
        tower.states(tower.start[None])[0],
        tower.projection,
        tower.logit_scale,
        task.train,
        task.validation,
        settings,
    )
    return Fit(
        tuned.head,
        Reason.CLOSED_FORM,
        forwards=1,
        arrays=keep(projection_left=tuned.left, projection_right=tuned.right),
        notes={"penalty": tuned.penalty},
    )


def rename(arrays: Mapping[str, Array], tower: TextTower) -> LinearHead:
    """A name never seen gets the feature (W0 + left @ right) h, divided by its untuned length."""
    states = tower.states(tower.start[None])[0]
    base = states @ tower.projection.T
    left, right = take(arrays, projection_left=("D", "r"), projection_right=("r", "H"))
    tuned = base + states @ right.T @ left.T
    return LinearHead.of_text(
        tuned / np.linalg.norm(base, axis=1, keepdims=True), tower.logit_scale
    )


register(
    Method(
        "projection",
        "text projection tuned in closed form; one forward, keeps unseen classes",
        ProjectionSettings(),
        fit,
        rename=rename,
    )
)
