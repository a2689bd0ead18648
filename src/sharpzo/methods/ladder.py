"""The text corrected by photos in closed form, beside a Gaussian expert (ours).

Two corrections of the text, fitted by least squares to one-hot labels y over unit features x:

    score_k(x) = a x . t_k + b + x . d_k                                              (1)

1. a and b, shared by all classes, by ordinary least squares over all pairs of a photo and a class:
   how much a cosine with a name says here. A name that training never saw has the same two.
2. d_k, an offset of class k's text: d = argmin sum (y - score)**2 + penalty sum_k |d_k|**2, so
   D = (X'X + penalty I)^-1 X'R with R what (1) leaves over without d. It is ProKeR (see
   `proker.py`) with a linear kernel and a scaled text, hence K numbers of width D instead of all
   photos; and leaving one photo out costs nothing: its residual is R_i divided by 1 - H_ii,
   H = X (X'X + penalty I)^-1 X'. That is exact for D alone: a and b, two numbers fitted to all
   N K pairs, keep what the photo that is left out gave to them.

The Gaussian expert is `gda.py`'s rule, weighted by the share of degrees of freedom that its
covariance is estimated with:

    logits_k(x) = sharpness score_k(x) + weight (1 - K / N) (x . w_k + c_k)           (2)

One photo per class does not determine its covariance, and the expert has no
weight; with many photos it decides. K counts the classes that have photos and N those photos.

The logits are divided by a temperature; `choose.py` says which. The spread that it needs is
that of the training photos, times what leaving each of them out does to the spread of (1).

Least squares favours the classes with many photos, as if they were also frequent where the
classifier is used: the fewer photos a class has, the lower it scores its own. How much lower, the
photos say that are left out of (1): s_i is the score of photo i for its own class, of n_i photos,

    s_i = alpha + beta r(n_i - 1),  r(n) = n / (n + 16)                               (3)

by least squares, beta being at least 0. Class k of n_k photos then gets beta (mean r - r(n_k))
more, times 3/4 of the sharpness, and times the fourth root of how many times farther than
sharpness times (1) the expert makes (2) spread the logits of a photo. The expert also takes photos
of such a class to be too far from it, as the mean of n_k photos is itself off: with S the
covariance within the classes and P the expert's precision, by tr(P S) / n_k in expected square. So
the class gets

    weight (1 - K / N) tr(P S) (1 / n_k - 1 / max n) / 2                                  (4)

more. Where all classes have as many photos, nothing is added.

A class without a photo has d_k = 0, and for the expert it is the average class (the mean of the
means): where no class has a photo, (2) orders the classes exactly as their texts do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sharpzo.linear import LinearHead, keep, left_out, take
from sharpzo.methods.cached import Penalty, PenaltyGrid, Text, cached_fit, logspace, read_text
from sharpzo.methods.choose import CALIBRATED, centre, choose_temperature, spread
from sharpzo.methods.gda import gaussian
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.settings import NotNegative, Positive, Settings
from sharpzo.types import Array, Features, TextTower

ENOUGH, BALANCE = 16.0, 0.75  # photos per class, and its part, of equation 3


@dataclass(frozen=True)
class LadderSettings(Settings):
    """``gaussian`` is the expert's weight in equation 2; 0 leaves the corrected text alone.

    ``penalties`` are tried on the validation photos (by squared error), without these on the
    training photos left out one by one; where no class has two photos, ``penalty`` is used.
    ``temperatures`` divide the logits: validation photos choose one, with a log-normal prior that
    is ``prior`` wide; without these it is the prior's centre, within their range.
    """

    gaussian: NotNegative = 0.0
    sharpness: Positive = 20.0
    penalties: PenaltyGrid = logspace(-1, 1, 9)
    penalty: Penalty = 0.5
    temperatures: PenaltyGrid = logspace(-0.6, 1.4, 21)
    prior: Penalty = 0.2
    calibrated: ClassVar[float] = CALIBRATED  # of equation 1 in choose.py


@dataclass(frozen=True, eq=False)
class Ladder:
    """The head, and what gives any other name its row: ``unseen`` = (weight (D,), bias, factor).

    A name without photos with unit text t has the weight factor * t + weight, and the bias.
    """

    head: LinearHead
    unseen: tuple[Array, float, float]
    penalty: float
    temperature: float
    left_out: float

    @property
    def notes(self) -> dict[str, float]:
        return {"penalty": self.penalty, "temperature": self.temperature}

    def arrays(self) -> dict[str, Array]:
        """What ``rename`` needs beside the head's own arrays."""
        weight, *line = self.unseen
        return keep(unseen_weight=weight, unseen_text=np.array(line))


def fit_ladder(
    train: Features,
    text: Array,
    validation: Features | None,
    settings: LadderSettings,
    views: int = 1,
) -> Ladder:
    """Fit equations 1 and 2 to the photos; ``text`` (K, D) has unit rows.

    Of several ``views`` of each photo, which follow each other in ``train``, each is a row of the
    least squares that counts 1 / views, and a photo is left out with all of its views.
    """
    vectors, text = train.vectors.astype(np.float64), text.astype(np.float64)
    labels, many = train.labels[::views], len(train) // views
    one_hot = np.eye(len(text))[train.labels]
    cosines = vectors @ text.T
    factor, shift = line(cosines, one_hot)
    left = one_hot - factor * cosines - shift
    left[:, one_hot.sum(axis=0) == 0] = 0.0  # no photo, no offset
    held = None
    if validation is not None:
        residual = np.eye(len(text))[validation.labels]
        residual -= factor * (validation.vectors @ text.T) + shift
        held = validation.vectors, residual
    penalty, offsets, hat = _offsets(vectors, left, labels, held, settings)

    rarity = len(np.unique(labels)) / many  # K / N
    share = settings.gaussian * (1 - rarity)
    # The row after the last class has no photo: it is the average class.
    weight, bias, away = gaussian(vectors, train.labels, len(text) + 1, many)
    bias[:-1] += away * excess_variance(labels, len(text))
    rows = settings.sharpness * (factor * text + offsets) + share * weight[:-1]
    biases = settings.sharpness * shift + share * bias[:-1]

    scores = _mean(factor * cosines + shift + vectors @ offsets.T, views)
    alone = scores - _gained(hat, left - vectors @ offsets.T)
    as_new = spread(alone) / max(spread(scores), 1e-12)
    reach = spread(_mean(vectors @ rows.T + biases, views))
    middle = centre(as_new * reach, 1 / rarity, settings.calibrated)
    own = alone[np.arange(many), labels]
    wider = reach / max(settings.sharpness * spread(scores), 1e-12)
    unit = BALANCE * settings.sharpness * wider**0.25
    biases = biases + unit * balance(own, labels, len(text))
    held_out = None
    if validation is not None:
        held_out = validation.vectors @ rows.T + biases, validation.labels
    temperature = choose_temperature(settings.temperatures, middle, settings.prior, held_out)
    head = LinearHead(
        (rows / temperature).astype(np.float32), (biases / temperature).astype(np.float32), 1.0
    )
    average = share * weight[-1] / temperature
    level = (settings.sharpness * shift + share * bias[-1]) / temperature
    unseen = average, float(level), settings.sharpness * factor / temperature
    error = float(((alone - one_hot[::views]) ** 2).sum() / many)
    return Ladder(head, unseen, penalty, temperature, error)


def other_names(arrays: Mapping[str, Array], text: Array, rows: Array) -> LinearHead:
    """The classifier of names with unit text (M, D): ``rows`` (M,) say which class of the fitted
    head a name is, -1 for one without photos; raises ArtifactError if an array is missing."""
    fitted = LinearHead.from_arrays(arrays)
    unseen, (bias, factor) = take(arrays, unseen_weight=("D",), unseen_text=(2,))
    known = (rows >= 0)[:, None]
    weight = np.where(known, fitted.weight[rows], factor * text + unseen)
    biases = np.where(known[:, 0], fitted.bias[rows], bias)
    return LinearHead(weight.astype(np.float32), biases.astype(np.float32), fitted.scale)


def line(cosines: Array, one_hot: Array) -> tuple[float, float]:
    """Slope and intercept of least squares from cosines (N, K) to ``one_hot`` (N, K), over all
    pairs. The slope is at least 0.01, so that names without photos keep their order."""
    spread = cosines - cosines.mean()
    slope = float((spread * one_hot).sum() / max((spread**2).sum(), 1e-12))
    slope = max(slope, 0.01)
    return slope, float(one_hot.mean() - slope * cosines.mean())


def balance(own: Array, labels: Array, classes: int) -> Array:
    """What equation 3 adds to the scores of the classes (K,), by the scores (N,) of photos for
    their own class; nothing for a class without photos.

    >>> own, labels = np.array([0.1, 0.1, 0.6, 0.7, 0.5, 0.6]), np.array([0, 0, 1, 1, 1, 1])
    >>> balance(own, labels, 3).round(2).tolist()
    [0.22, -0.22, 0.0]
    >>> balance(own[:4], labels[:4], 2).tolist()  # two photos each
    [0.0, 0.0]
    """
    counts = np.bincount(labels, minlength=classes)
    before = (counts - 1) / (counts - 1 + ENOUGH)
    away = before[labels] - before[labels].mean()
    across = float(away @ away)
    slope = max(float(away @ own) / across, 0.0) if across > 1e-12 else 0.0
    share, shown = counts / (counts + ENOUGH), counts > 0
    return np.where(shown, slope * (share[shown].mean() - share), 0.0)


def excess_variance(labels: Array, classes: int) -> Array:
    """1 / n_k - 1 / max n of equation 4 (K,): by how much of a photo's variance that of a class's
    mean exceeds the smallest; 0 for a class without photos.

    >>> excess_variance(np.array([0, 1, 1, 1, 1]), 3).tolist()
    [0.75, 0.0, 0.0]
    """
    counts = np.bincount(labels, minlength=classes)
    return np.where(counts > 0, 1 / np.maximum(counts, 1) - 1 / counts.max(), 0.0)


def _offsets(
    vectors: Array,
    left: Array,
    labels: Array,
    validation: tuple[Array, Array] | None,
    settings: LadderSettings,
) -> tuple[float, Array, Array]:
    """Penalty, offsets (K, D), and what of H a photo's own views share (N, V, V). One decomposition
    of X'X serves every penalty."""
    views = len(vectors) // len(labels)
    vectors, left = vectors / np.sqrt(views), left / np.sqrt(views)
    latent, basis = np.linalg.eigh(vectors.T @ vectors)
    latent, turned = np.maximum(latent, 0), vectors @ basis
    along = turned.T @ left

    def offsets(penalty: float) -> Array:
        return (basis @ (along / (latent[:, None] + penalty))).T

    def hat(penalty: float) -> Array:
        if views == 1:
            return (turned**2 / (latent + penalty)).sum(axis=1)[:, None, None]
        of_photo = turned.reshape(len(labels), views, -1)
        return of_photo / (latent + penalty) @ of_photo.swapaxes(1, 2)

    def error(penalty: float) -> float:
        if validation is not None:
            residual = validation[1] - validation[0] @ offsets(penalty).T
        else:
            residual = left - turned @ (along / (latent[:, None] + penalty))
            residual = _mean(left_out(residual, hat(penalty)), views)
        return float((residual**2).sum())

    penalty = settings.penalty
    if validation is not None or np.bincount(labels).max() > 1:
        penalty = min(settings.penalties, key=error)
    return penalty, offsets(penalty), hat(penalty)


def _mean(rows: Array, views: int) -> Array:
    """Rows (N V, K) averaged over the views of each photo (N, K)."""
    return rows if views == 1 else rows.reshape(-1, views, rows.shape[1]).mean(axis=1)


def _gained(hat: Array, residual: Array) -> Array:
    """What a photo's own views add to its scores, on average over these (N, K)."""
    views = hat.shape[1]
    if views == 1:
        return residual * (hat / (1 - hat))[:, 0]
    return _mean(left_out(residual, hat), views) - _mean(residual, views)


def fit(settings: LadderSettings, task: Task) -> Fit:
    """The class names once; the rest is one D x D decomposition (two with the expert)."""
    return fit_to(read_text(task.tower), settings, task)


def fit_to(text: Text, settings: LadderSettings, task: Task) -> Fit:
    """The same where the class names have been read."""
    tuned = fit_ladder(task.train, text.features, task.validation, settings)
    arrays = {**tuned.arrays(), "names": record_names(task)}
    return cached_fit(tuned.head, task, text, tuned.notes, arrays=arrays)


def rename(arrays: Mapping[str, Array], tower: TextTower) -> LinearHead:
    """Names with photos keep their classifier, others get their text, on one scale."""
    return other_names(arrays, read_text(tower).features, recorded_rows(arrays, tower))


def record_names(task: Task) -> Array:
    """Which names have photos, as an array for the artefact; a class without photos is treated as
    a name that was never given."""
    shown = {task.tower.class_names[k] for k in np.unique(task.train.labels)}
    names = [name if name in shown else "" for name in task.tower.class_names]
    return np.frombuffer("\0".join(names).encode(), np.uint8)


def recorded_rows(arrays: Mapping[str, Array], tower: TextTower) -> Array:
    """Which recorded class each of the tower's names is (M,), -1 for one without photos."""
    (array,) = take(arrays, names=("N",))
    names = array.tobytes().decode().split("\0")
    rows = {name: k for k, name in enumerate(names) if name}
    return np.array([rows.get(name, -1) for name in tower.class_names])


register(
    Method(
        "ladder",
        "the text, scaled and corrected by photos in closed form; other names keep their text",
        LadderSettings(),
        fit,
        rename=rename,
        grows=True,
    )
)
register(
    Method(
        "ladder+gda",
        "ladder beside Gaussian classes, as far as there are photos to estimate these",
        LadderSettings(gaussian=0.25),
        fit,
        rename=rename,
        grows=True,
    )
)
