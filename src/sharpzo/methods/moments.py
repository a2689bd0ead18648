"""Rows of photos in blocks: their sums by class and their scatter, and some that stand for all.

With 1,000 classes of 16 photos, a matrix of a number for each photo and class is 128 MB in float64,
and the photos' own rows may be as much. So heads read rows in blocks, keep what a least-squares fit
needs of them (K + W numbers of width W), and choose what has no closed form on some of the photos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sharpzo import linear
from sharpzo.linear import blocks
from sharpzo.types import Array, Features

WORK = 2**30  # multiply-adds that photos which stand for all cost for each setting that is tried

# Photos -> float64 rows (N, V, W) of their V views.
Read = Callable[[Features], Array]


def own_vectors(photos: Features) -> Array:
    """The photos' vectors, one view each (N, 1, D), float64."""
    return photos.vectors[:, None].astype(np.float64)


def subsample(labels: Array, width: int, classes: int) -> Array:
    """Indices, in order, of photos that stand for all: as many of each class as it has a share.

    All of them, where neither their rows of ``width`` nor their scores for ``classes`` exceed
    `linear.NUMBERS`, nor the product of the two `WORK`.

    >>> labels = np.tile([0, 1], 4)
    >>> subsample(labels, 10, 2).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    >>> subsample(labels, linear.NUMBERS // 4, 2).tolist()
    [0, 1, 4, 5]
    """
    most = max(1, min(linear.NUMBERS // max(width, classes), WORK // (width * classes)))
    return evenly(labels, most)


def evenly(labels: Array, most: int) -> Array:
    """Indices, in order, of ``most`` photos, or all: of each class as many as it has a share.

    >>> evenly(np.array([0, 0, 0, 0, 1, 1]), 3).tolist()
    [0, 2, 4]
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    by_class = np.argsort(labels, kind="stable")
    return np.sort(by_class[np.arange(most) * len(labels) // most])


@dataclass(frozen=True, eq=False)
class Moments:
    """Of M rows of width W: how many each of K classes has (K,), their sums (K, W), and their
    ``scatter`` (W, W) about the means of their classes, or, where no class has two, about the mean
    of all."""

    counts: Array
    sums: Array
    scatter: Array

    @classmethod
    def of(cls, photos: Features, classes: int, read: Read = own_vectors) -> Moments:
        """Of all views of photos; reads them twice."""
        views, width = read(photos.take(slice(1))).shape[1:]

        def rows() -> Iterator[tuple[Array, Array]]:
            for part in blocks(len(photos), views * width):
                some = photos.take(part)
                yield read(some).reshape(-1, width), np.repeat(some.labels, views)

        counts, sums = np.zeros(classes, np.int64), np.zeros((classes, width))
        for block, labels in rows():
            counts += np.bincount(labels, minlength=classes)
            np.add.at(sums, labels, block)
        means = sums / np.maximum(counts, 1)[:, None]
        if counts.max() < 2:
            means = np.broadcast_to(sums.sum(axis=0) / counts.sum(), means.shape)
        scatter = np.zeros((width, width))
        for block, labels in rows():
            block = block - means[labels]
            scatter += block.T @ block
        return cls(counts, sums, scatter)

    @cached_property
    def many(self) -> int:
        return int(self.counts.sum())

    @cached_property
    def mean(self) -> Array:
        """Of all rows (W,)."""
        return self.sums.sum(axis=0) / self.many

    @cached_property
    def means(self) -> Array:
        """Of each class (K, W); of one without rows the mean of the other means."""
        means = self.sums / np.maximum(self.counts, 1)[:, None]
        means[self.counts == 0] = means[self.counts > 0].mean(axis=0)
        return means

    @cached_property
    def spread(self) -> Array:
        """The scatter (W, W) about the mean of all rows."""
        if self.counts.max() < 2:
            return self.scatter
        away = self.means - self.mean
        return self.scatter + (self.counts[:, None] * away).T @ away

    @cached_property
    def gram(self) -> Array:
        """The sum of x x' over all rows (W, W)."""
        return self.spread + self.many * np.outer(self.mean, self.mean)
