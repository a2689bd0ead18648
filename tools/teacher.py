"""The teacher: it predicts image features of nouns that have no photos.

A Gaussian process over nouns, fitted on the mean image feature of every class with photos. Its
kernel is the sum of two: the cosine of sentence embeddings ("tench, cyprinid") and the cosine of
WordNet ancestries, in which rare ancestors have larger weights. On Tiny-ImageNet classes held out
of the fit the ancestry kernel is the better one, and their sum better than either.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

import wordnet

MODEL_NOISE = 0.5  # variance that words do not explain
PHOTO_NOISE = 10.0  # variance of one photo, divided by the number of photos of the class


def ancestry(
    nouns: dict[str, wordnet.Noun], offsets: Sequence[str], fit: Sequence[str]
) -> sparse.csr_matrix:
    """Return unit rows (N, synsets), sparse: the ancestors of each offset, weighted by rarity.

    Rarity is counted over `fit`, the classes with photos.
    """
    above = {o: wordnet.ancestors(nouns, o) for o in {*offsets, *fit}}
    counts: dict[str, int] = {}
    for o in fit:
        for a in above[o]:
            counts[a] = counts.get(a, 0) + 1
    column = {a: i for i, a in enumerate(sorted({a for o in above for a in above[o]}))}
    rows, columns, values = [], [], []
    for row, o in enumerate(offsets):
        ids = list(above[o])
        value = np.sqrt(np.log((len(fit) + 1) / np.array([counts.get(a, 0.5) for a in ids])))
        rows += [row] * len(ids)
        columns += [column[a] for a in ids]
        values += (value / np.linalg.norm(value)).tolist()
    return sparse.csr_matrix((values, (rows, columns)), shape=(len(offsets), len(column)))


def predict(
    kernel: np.ndarray, cross: np.ndarray, means: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the predicted feature of each noun (M, D), and the prior mean (D,).

    kernel (C, C) of classes with photos, cross (M, C), means (C, D) of counts (C,) photos each.
    """
    noise = MODEL_NOISE + PHOTO_NOISE / counts
    centre = np.average(means, axis=0, weights=1 / noise)
    return cross @ np.linalg.solve(kernel + np.diag(noise), means - centre) + centre, centre


def projection(rows: np.ndarray, labels: np.ndarray, means: np.ndarray, centre: np.ndarray,
               width: int, power: float = 0.5, shrink: float = 0.1) -> np.ndarray:  # fmt: skip
    """Return the visual projection (width, D), in closed form and then frozen.

    It damps the directions in which photos of one class differ (within-class covariance, shrunk,
    to the power -`power`), removes the centre's direction, and keeps the principal axes.
    """
    inside = rows - means[labels]
    many = np.bincount(labels)[labels] > 20
    covariance = inside[many].T @ inside[many] / many.sum()
    size = len(covariance)
    covariance *= 1 - shrink
    covariance += shrink / (1 - shrink) * np.trace(covariance) / size * np.eye(size)
    values, vectors = np.linalg.eigh(covariance)
    damp = (vectors * (values / values.mean()) ** -power) @ vectors.T
    axis = damp @ centre
    axis /= np.linalg.norm(axis)
    damp -= np.outer(axis, axis @ damp)
    spread = (rows - centre) @ damp.T
    _, axes = np.linalg.eigh(spread.T @ spread)
    return (axes[:, ::-1][:, :width].T @ damp).astype(np.float32)
