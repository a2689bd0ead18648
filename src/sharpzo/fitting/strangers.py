"""None of these: whether a photo is of any class that training saw (closed form, ours).

Photos are their states as unit vectors x (N, S), the mean over the views that the classifier reads
them through. With R the training photos less the means m_k of
their classes, and X the same less the mean m of all, a photo is the nearer the smaller

    d(x) = min_k  (x - m_k)' (R'R + a I)^-1 (x - m_k) / (1 + 1 / n_k)                   (1)

and the farther from everything the larger t(x), which is (1) with X in place of R, m of m_k, N of
n_k. a is 10 times the trace of R'R over S. Both are standardised over the training
photos, each left out of its own distances:

    familiar(x) = -d(x) + t(x) / 2                                                      (2)

Counter-examples add half of a third, standardised term: the largest score of a class less that of
the counter-examples, by ridge regression, both sides weighing the same. Where the scores of the
training photos, left out, are below a threshold is how many known photos it loses.

All that is left out is exact: the inverse changes by one outer product.
"""

# pyright: basic
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from sharpzo.detour import seen_through
from sharpzo.errors import InputError
from sharpzo.evaluate import Rejection
from sharpzo.fitting.kept import NONE, TRAINING, Split
from sharpzo.linear import left_out
from sharpzo.metrics import normalise, separation
from sharpzo.types import Array, Features

LOST = 0.05  # of the known photos, by default
SHRINKAGE, ALL, COUNTER, RIDGE = 10.0, 0.5, 0.5, 0.3
GROUPS = 5  # of classes that are left out in turn


class Distance:
    """Equation 1 of centred rows (N, S) and ``means`` (K, S) of so many photos, ``counts`` (K,).

    R'R has the eigenvalues ``latent`` (r,) along ``axes`` (r, S); ``ridge`` is a.
    """

    def __init__(self, rest: Array, means: Array, counts: Array) -> None:
        if len(rest) < rest.shape[1]:
            _, latent, self.axes = np.linalg.svd(rest, full_matrices=False)
            latent **= 2
        else:
            latent, axes = np.linalg.eigh(rest.T @ rest)
            latent, self.axes = np.maximum(latent, 0), axes.T
        self.latent, self.ridge = latent, SHRINKAGE * latent.sum() / rest.shape[1]
        self._off = latent / (self.ridge * (latent + self.ridge))
        self.means, self.counts = means, counts

    def _solve(self, x: Array) -> Array:
        """(R'R + a I)^-1 of each row (N, S)."""
        return x / self.ridge - ((x @ self.axes.T) * self._off) @ self.axes

    def _squares(self, x: Array) -> Array:
        """Distances (N, K) from the means, before they are divided."""
        solved, mean = self._solve(x), self._solve(self.means)
        own = (solved * x).sum(axis=1)[:, None] + (mean * self.means).sum(axis=1)
        return own - 2 * solved @ self.means.T

    def __call__(self, photos: Array) -> Array:
        """N photos (N, S) -> d (N,)."""
        return (self._squares(photos) / (1 + 1 / self.counts)).min(axis=1)

    def left_out(self, x: Array, labels: Array) -> Array:
        """The same of training photos, each left out of the mean of its class and of R."""
        own = x - self.means[labels]
        solved = self._solve(own)
        grown = self.counts[labels] / (self.counts[labels] - 1)
        leverage = grown * (solved * own).sum(axis=1)
        cross = (solved * x).sum(axis=1)[:, None] - solved @ self.means.T
        found = self._squares(x) + (grown / (1 - leverage))[:, None] * cross**2
        found /= 1 + 1 / self.counts
        found[np.arange(len(x)), labels] = leverage / (1 - leverage)
        return found.min(axis=1)


@dataclass(frozen=True, eq=False)
class Margin:
    """The largest score of a class less that of the counter-examples, which come last, from
    ``middle`` (S,), ``slopes`` (S, K + 1) and ``level`` (K + 1,)."""

    middle: Array
    slopes: Array
    level: Array

    def __call__(self, photos: Array) -> Array:
        """N photos (N, S) -> margins (N,)."""
        return self.of((photos - self.middle) @ self.slopes)

    def of(self, scores: Array) -> Array:
        """Margins of scores before the level."""
        scores = scores + self.level
        return scores[:, :-1].max(axis=1) - scores[:, -1]


Term = tuple[Distance | Margin, float, float]  # a measure of photos; its mean and deviation


def as_share(lost: float) -> float:
    """The share of known photos that may be taken for strangers; InputError for one that is not
    from 0 to 0.5."""
    if not isinstance(lost, Real) or not 0 <= lost <= 0.5:
        raise InputError(f"the share of known photos to lose is {lost!r}; give 0 to 0.5")
    return lost


@dataclass(frozen=True, eq=False)
class Strangers:
    """How familiar photos are: ``terms`` of equation 2 with their weights, and the ascending scores
    ``left_out`` (N,) of the training photos, each without itself; ``views`` beside the photo."""

    terms: tuple[tuple[float, Term], ...]
    left_out: Array
    views: tuple[str, ...] = ()

    def scores(self, photos: Features) -> Array:
        """N photos -> how familiar they are (N,), float64."""
        x = _rows(photos, self.views)
        found = np.zeros(len(x))
        for weight, (measure, middle, deviation) in self.terms:
            found += weight * (measure(x) - middle) / deviation
        return found

    def threshold(self, lost: float = LOST) -> float:
        """The score below which a photo is of no class, so that ``lost`` of the known photos are
        taken for strangers; with 0 no photo is. The lowest score where photos are few."""
        place = max(int(as_share(lost) * (len(self.left_out) + 1)), 1)
        return float(self.left_out[place - 1]) if lost > 0 else -np.inf

    def measure(self, known: Array, strange: Array | None, lost: float) -> Rejection:
        """What happens to photos of classes, this familiar (N,), and to ``strange`` ones (M,), with
        the threshold for ``lost``."""
        threshold = self.threshold(lost)
        found = Rejection(threshold, lost, float((known < threshold).mean()))
        if strange is None or not len(strange):
            return found
        return replace(
            found,
            strangers=len(strange),
            recognised=float((strange < threshold).mean()),
            auroc=separation(known, strange),
        )


def find_strangers(
    train: Features, none: Features | None = None, views: Sequence[str] = ()
) -> Strangers | None:
    """The rule of training photos, and of counter-examples ``none`` if there are any, of photos as
    they are and through ``views``; None where no class has two different photos, or photos come
    without states."""
    if train.states is None or not len(train):
        return None
    x = _rows(train, views)
    classes, labels, counts = np.unique(train.labels, return_inverse=True, return_counts=True)
    means = np.array([x[labels == k].mean(axis=0) for k in range(len(classes))])
    rest = x - means[labels]
    known = counts[labels] > 1  # of the others nothing is left
    if not (rest**2).sum() > 1e-9:
        return None
    near, far = Distance(rest, means, counts), Distance(
        x - x.mean(axis=0), x.mean(axis=0)[None], np.array([len(x)])
    )  # fmt: skip
    terms: list[tuple[float, Distance | Margin, Array]] = [
        (-1.0, near, near.left_out(x[known], labels[known])),
        (ALL, far, far.left_out(x[known], np.zeros(int(known.sum()), np.int64))),
    ]
    if none is not None and len(none):
        margin, held = _margin(x, labels, _rows(none, views))
        terms.append((COUNTER, margin, held[known]))
    left_out = np.zeros(known.sum())
    standardised: list[tuple[float, Term]] = []
    for weight, measure, held in terms:
        middle, deviation = float(held.mean()), max(float(held.std()), 1e-12)
        left_out += weight * (held - middle) / deviation
        standardised.append((weight, (measure, middle, deviation)))
    return Strangers(tuple(standardised), np.sort(left_out), tuple(views))


def rule_of(splits: Mapping[str, Split], views: Sequence[str] = ()) -> Strangers | None:
    """The rule of what a run keeps of its photos, read through ``views``; None where there is
    none."""
    if TRAINING not in splits:
        return None
    return find_strangers(*_shown(splits), views)


def strange_record(splits: Mapping[str, Split], views: Sequence[str] = ()) -> dict[str, Any]:
    """What a record says about photos of no class; nothing where there is no rule."""
    rule = rule_of(splits, views)
    if rule is None:
        return {}
    train, none = _shown(splits)
    unseen = unseen_scores(train, none, views)
    return {
        "none": {
            "counter_examples": 0 if none is None else len(none),
            "lost": LOST,
            "threshold": rule.threshold(),
            "recognised": None if unseen is None else float((unseen < rule.threshold()).mean()),
        }
    }


def _shown(splits: Mapping[str, Split]) -> tuple[Features, Features | None]:
    return splits[TRAINING].features, splits[NONE].features if NONE in splits else None


def unseen_scores(
    train: Features, none: Features | None = None, views: Sequence[str] = ()
) -> Array | None:
    """How familiar the training photos (N,) are where their class, or group of classes, is left out
    of training, each in turn: what strangers score that resemble the classes. None for fewer than
    three classes."""
    classes = np.unique(train.labels)
    found: list[Array] = []
    for group in np.array_split(classes, min(len(classes), GROUPS)) if len(classes) > 2 else []:
        away = np.isin(train.labels, group)
        rule = find_strangers(train.take(~away), none, views)
        if rule is not None:
            found.append(rule.scores(train.take(away)))
    return np.concatenate(found) if found else None


def _margin(x: Array, labels: Array, none: Array) -> tuple[Margin, Array]:
    """The margin over counter-examples (M, S): of photos, and of the training photos left out."""
    every, last = np.concatenate([x, none]), labels.max() + 1
    one_hot = np.eye(last + 1)[np.r_[labels, np.full(len(none), last)]]
    weights = np.r_[np.full(len(x), 0.5 / len(x)), np.full(len(none), 0.5 / len(none))]
    weights *= len(every)
    share = weights / weights.sum()
    middle, level = share @ every, share @ one_hot
    root = np.sqrt(weights)[:, None]
    rows, targets = root * (every - middle), root * (one_hot - level)
    inverse = np.linalg.inv(rows.T @ rows + RIDGE * np.eye(rows.shape[1]))
    slopes = inverse @ (rows.T @ targets)
    hat = ((rows @ inverse) * rows).sum(axis=1) + share
    held = targets - left_out(targets - rows @ slopes, hat)

    margin = Margin(middle, slopes, level)
    return margin, margin.of((held / root)[: len(x)])


def _rows(photos: Features, views: Sequence[str] = ()) -> Array:
    """Unit states (N, S), averaged over the photos as they are and their views."""
    seen = [one.states for one in seen_through(photos, views)]
    if any(states is None for states in seen):
        raise InputError("the photos' features come without states; encode the photos again")
    return np.mean([normalise(np.asarray(states, np.float64)) for states in seen], axis=0)
