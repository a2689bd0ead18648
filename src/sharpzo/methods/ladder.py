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

With many photos and classes, a and b, d and the expert are still fitted to all photos, from sums in
blocks; only the penalty, the temperature and equation 3 are then of some photos that stand for all
(`moments.py`).

A class without a photo has d_k = 0, and for the expert it is the average class (the mean of the
means): where no class has a photo, (2) orders the classes exactly as their texts do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sharpzo.errors import ArtifactError
from sharpzo.linear import LinearHead, keep, keep_words, left_out, take, take_words
from sharpzo.methods.cached import Penalty, PenaltyGrid, Text, cached_fit, logspace, read_text
from sharpzo.methods.choose import CALIBRATED, centre, choose_temperature, spread
from sharpzo.methods.gda import gaussian
from sharpzo.methods.moments import Moments, Read, own_vectors, subsample
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
    read: Read = own_vectors,
    calibrated: float = CALIBRATED,
) -> Ladder:
    """Fit equations 1 and 2 to the photos; ``text`` (K, D) has unit rows.

    ``read`` gives rows (N, V, D) of V views of photos. Each view is a row of the least squares that
    counts 1 / V, and a photo is left out with all of its views; a validation photo is the mean of
    its views. ``calibrated`` is that of equation 1 in `choose.py`.
    """
    text = text.astype(np.float64)
    classes, many = len(text), len(train)
    # The class after the last has no photo: it is the average class.
    moments = Moments.of(train, classes + 1, read)
    views = moments.many // many
    counts = np.bincount(train.labels, minlength=classes)
    factor, shift = line(moments, text)

    def shown(photos: Features, averaged: bool = False) -> Shown:
        chosen = photos.take(subsample(photos.labels, views * text.shape[1], views * classes))
        rows = read(chosen)
        if averaged:
            rows = rows.mean(axis=1, keepdims=True)
        rows = rows.reshape(-1, text.shape[1])
        left = np.eye(classes)[np.repeat(chosen.labels, len(rows) // len(chosen))]
        left -= factor * (rows @ text.T) + shift
        return Shown(rows, chosen.labels, left)

    tried = shown(train)
    tried.left[:, counts == 0] = 0.0  # no photo, no offset
    held = None if validation is None else shown(validation, averaged=True)
    # X'R of equation 1, from sums.
    along = moments.sums[:-1].T - factor * (moments.gram @ text.T)
    along -= shift * moments.sums.sum(axis=0)[:, None]
    along[:, counts == 0] = 0.0
    penalty, offsets, hat = _offsets(moments.gram, along, counts, tried, held, settings)

    rarity = np.count_nonzero(counts) / many  # K / N
    share = settings.gaussian * (1 - rarity)
    weight, bias, away = gaussian(moments, many)
    bias[:-1] += away * excess_variance(counts)
    rows = settings.sharpness * (factor * text + offsets) + share * weight[:-1]
    biases = settings.sharpness * shift + share * bias[:-1]

    seen = mean_of_views(tried.rows, views)
    scores = seen @ (factor * text + offsets).T + shift
    within, reach = spread(scores), spread(seen @ rows.T + biases)
    as_new, own, error = _as_left_out(scores, tried, offsets, hat)
    del scores
    middle = centre(as_new / max(within, 1e-12) * reach, 1 / rarity, calibrated)
    wider = reach / max(settings.sharpness * within, 1e-12)
    unit = BALANCE * settings.sharpness * wider**0.25
    biases = biases + unit * balance(own, tried.labels, counts)
    held_out = None if held is None else (held.rows @ rows.T + biases, held.labels)
    temperature = choose_temperature(settings.temperatures, middle, settings.prior, held_out)
    head = LinearHead(
        (rows / temperature).astype(np.float32), (biases / temperature).astype(np.float32), 1.0
    )
    average = share * weight[-1] / temperature
    level = (settings.sharpness * shift + share * bias[-1]) / temperature
    unseen = average, float(level), settings.sharpness * factor / temperature
    return Ladder(head, unseen, penalty, temperature, error)


@dataclass(frozen=True, eq=False)
class Shown:
    """Photos that choose what has no closed form: rows (n V, D) of their views, labels (n,), and
    what the text alone leaves of their labels (n V, K)."""

    rows: Array
    labels: Array
    left: Array


def squares(rows: Array) -> float:
    """The sum of all squares."""
    return float(np.vdot(rows, rows))


def mean_of_views(rows: Array, views: int) -> Array:
    """Rows (N V, K) averaged over the views of each photo (N, K)."""
    return rows if views == 1 else rows.reshape(-1, views, rows.shape[1]).mean(axis=1)


def other_names(arrays: Mapping[str, Array], text: Array, rows: Array) -> LinearHead:
    """The classifier of names with unit text (M, D): ``rows`` (M,) say which class of the fitted
    head a name is, -1 for one without photos; raises ArtifactError if an array is missing."""
    fitted = LinearHead.from_arrays(arrays)
    unseen, (bias, factor) = take(arrays, unseen_weight=("D",), unseen_text=(2,))
    known = (rows >= 0)[:, None]
    weight = np.where(known, fitted.weight[rows], factor * text + unseen)
    biases = np.where(known[:, 0], fitted.bias[rows], bias)
    return LinearHead(weight.astype(np.float32), biases.astype(np.float32), fitted.scale)


def line(moments: Moments, text: Array) -> tuple[float, float]:
    """Slope and intercept of least squares from the cosines of rows with ``text`` (K, D) to one-hot
    labels, over all pairs of a row and a class. The slope is at least 0.01, so that names without
    photos keep their order."""
    many, middle = moments.many, text @ moments.mean
    level = float(middle.mean())
    along = float((moments.sums[: len(text)] * text).sum()) - many * level
    across = (text @ moments.spread * text).sum() + many * ((middle - level) ** 2).sum()
    slope = max(along / max(float(across), 1e-12), 0.01)
    return slope, 1 / len(text) - slope * level


def balance(own: Array, labels: Array, counts: Array) -> Array:
    """What equation 3 adds to the scores of classes with so many photos each (K,), by the scores
    (n,) of some photos for their own class; nothing for a class without photos.

    >>> own, labels = np.array([0.1, 0.1, 0.6, 0.7, 0.5, 0.6]), np.array([0, 0, 1, 1, 1, 1])
    >>> balance(own, labels, np.array([2, 4, 0])).round(2).tolist()
    [0.22, -0.22, 0.0]
    >>> balance(own[:4], labels[:4], np.array([2, 2])).tolist()
    [0.0, 0.0]
    """
    before = (counts - 1) / (counts - 1 + ENOUGH)
    away = before[labels] - before[labels].mean()
    across = float(away @ away)
    slope = max(float(away @ own) / across, 0.0) if across > 1e-12 else 0.0
    share, shown = counts / (counts + ENOUGH), counts > 0
    return np.where(shown, slope * (share[shown].mean() - share), 0.0)


def excess_variance(counts: Array) -> Array:
    """1 / n_k - 1 / max n of equation 4 (K,): by how much of a photo's variance that of a class's
    mean exceeds the smallest; 0 for a class without photos.

    >>> excess_variance(np.array([1, 4, 0])).tolist()
    [0.75, 0.0, 0.0]
    """
    return np.where(counts > 0, 1 / np.maximum(counts, 1) - 1 / counts.max(), 0.0)


def _offsets(
    gram: Array,
    along: Array,
    counts: Array,
    tried: Shown,
    held: Shown | None,
    settings: LadderSettings,
) -> tuple[float, Array, Array]:
    """Penalty, offsets (K, D), and what of H each photo's own views in ``tried`` share (n, V, V);
    ``gram`` is X'X, ``along`` X'R. One decomposition of X'X serves every penalty."""
    views = len(tried.rows) // len(tried.labels)
    latent, basis = np.linalg.eigh(gram / views)
    latent, turned = np.maximum(latent, 0), tried.rows @ basis
    of_held = turned if held is None else held.rows @ basis
    along = basis.T @ (along / views)

    def offsets(penalty: float) -> Array:
        return (basis @ (along / (latent[:, None] + penalty))).T

    def hat(penalty: float) -> Array:
        if views == 1:
            return (turned**2 @ (1 / (latent + penalty)))[:, None, None]
        of_photo = turned.reshape(len(tried.labels), views, -1)
        return of_photo / (latent + penalty) @ of_photo.swapaxes(1, 2) / views

    def error(penalty: float) -> float:
        if held is not None:
            return squares(held.left - of_held @ (along / (latent[:, None] + penalty)))
        residual = tried.left - turned @ (along / (latent[:, None] + penalty))
        return squares(mean_of_views(left_out(residual, hat(penalty)), views))

    penalty = settings.penalty
    if held is not None or counts.max() > 1:
        penalty = min(settings.penalties, key=error)
    return penalty, offsets(penalty), hat(penalty)


def _as_left_out(
    scores: Array, tried: Shown, offsets: Array, hat: Array
) -> tuple[float, Array, float]:
    """What equation 1 makes of each photo that is left out, of ``scores`` (n, K) with all of them
    in: the spread, the scores for its own class (n,), and the mean squared error."""
    residual = tried.left - tried.rows @ offsets.T
    views, places = hat.shape[1], (np.arange(len(scores)), tried.labels)
    alone = scores - mean_of_views(left_out(residual, hat) - residual, views)
    found, own = spread(alone), alone[places]
    alone[places] -= 1
    return found, own, squares(alone) / len(alone)


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
    return keep_words(names)


def recorded_rows(arrays: Mapping[str, Array], tower: TextTower) -> Array:
    """Which recorded class each of the tower's names is (M,), -1 for one without photos."""
    names, (bias,) = take_words(arrays, "names"), take(arrays, bias=("K",))
    if len(names) != len(bias):
        raise ArtifactError(
            f"the artefact has {len(names)} names of {len(bias)} classes; fit the run again"
        )
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
