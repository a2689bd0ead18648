"""The image side of the ladder: the tower's last block, tuned by low-rank factors (ours).

A matrix W (out, in) of the last block at the class token becomes

    W + s high low,  high (out, r), low (r, in),  s = std(W) sqrt(S)                     (1)

for query, value, output and both matrices of the MLP. ``high`` starts at 0 and ``low`` at random,
so that the descent starts at the tower as it is. Adam moves both, all photos per step, along the
exact gradient (`last_block.py`) of

    CE(scale normalise(states P') (t + d)') + penalty |d|**2                             (2)

with P the image projection, t the texts of the classes and d offsets of them. These start where
(2) is least for the block as it is, and are scaffolding: what classifies is `ladder.py`, fitted
anew to the features that the tuned block gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from sharpzo.descent import Adam, minimise
from sharpzo.detour import PhotoBatch, digest_of
from sharpzo.linear import keep, take
from sharpzo.methods.last_block import Seen, forward, gradient
from sharpzo.metrics import loss_and_error, normalise, through_norm
from sharpzo.rng import generator
from sharpzo.types import Array, LastBlock

PARTS = ("query", "value", "out", "fc1", "fc2")
_CHUNK = 64  # photos at a time: what is made on the way to their states stays in a few MB


@dataclass(frozen=True, eq=False)
class Factors:
    """What is added to matrices of the last image block; fulfils `detour.Detour`.

    ``pairs``: part -> low (r, in) and high (out, r), which holds equation 1's s.
    """

    pairs: Mapping[str, tuple[Array, Array]]
    projected: ClassVar[bool] = True

    def change(self, block: LastBlock) -> LastBlock:
        """The block with its matrices changed."""
        changed = dict(block.parts)
        for part, (low, high) in self.pairs.items():
            weight, bias = block.parts[part]
            changed[part] = weight + high @ low, bias
        return replace(block, parts=changed)

    def states(self, block: LastBlock, photos: Seen) -> Array:
        """States (N, S) of photos through the tower's ``block`` with this change."""
        block, parts = self.change(block), [photos.first[:0]]
        for rows in _chunks(len(photos)):
            parts.append(forward(block, photos.take(rows).widened()).states)
        return np.concatenate(parts)

    def __call__(self, batch: PhotoBatch) -> Array:
        block = batch.tower.last_block
        return self.states(block, Seen.of(batch.tokens, block.eps))

    @property
    def digest(self) -> str:
        return digest_of(self.arrays())

    def arrays(self) -> dict[str, Array]:
        lows = {f"image_{part}_low": low for part, (low, _) in self.pairs.items()}
        highs = {f"image_{part}_high": high for part, (_, high) in self.pairs.items()}
        return keep(**lows, **highs)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Factors:
        pairs = {}
        for part in PARTS:
            shapes = {f"image_{part}_low": ("r", "in"), f"image_{part}_high": ("out", "r")}
            pairs[part] = tuple(take(arrays, **shapes))
        return cls(pairs)


def tune(
    block: LastBlock,
    projection: Array,
    photos: Seen,
    labels: Array,
    text: Array,
    scale: float,
    *,
    rank: int,
    rate: float,
    penalty: float,
    seed: int,
) -> Iterator[Factors]:
    """Yield the factors after one step of the descent, after two, and so on.

    ``text`` (K, D) has unit rows; ``scale`` is the factor on cosines. The offsets move at a fifth
    of the ``rate``.
    """
    text, descent = text.astype(np.float32), {part: (Adam(), Adam()) for part in PARTS}
    pairs = {part: _start(block, part, rank, seed) for part in PARTS}
    weights = {part: block.parts[part][0] for part in PARTS}
    sizes = {part: np.float32(w.std() * min(w.shape) ** 0.5) for part, w in weights.items()}
    plain = normalise(Factors(pairs).states(block, photos) @ projection.T)
    offsets, offsetting = least_offsets(plain, labels, text, scale, penalty), Adam()
    while True:
        factors = Factors({part: (low, sizes[part] * high) for part, (low, high) in pairs.items()})
        changed = factors.change(block)
        slope = np.float32(2 * penalty) * offsets
        slopes = {part: np.zeros_like(weight) for part, weight in weights.items()}
        for rows in _chunks(len(photos)):
            some = photos.take(rows).widened()
            trace = forward(changed, some)
            by_states, by_text = error_slopes(
                trace.states, labels[rows], projection, text + offsets, scale, len(photos)
            )
            slope += by_text
            found = gradient(changed, some, trace, by_states)
            for part in PARTS:
                slopes[part] += found[part][0]
        for part, (low, high) in pairs.items():
            along, (down, up) = sizes[part] * slopes[part], descent[part]
            pairs[part] = down.move(low, high.T @ along, rate), up.move(high, along @ low.T, rate)
        offsets = offsetting.move(offsets, slope, rate / 5)
        yield Factors({part: (low, sizes[part] * high) for part, (low, high) in pairs.items()})


def least_offsets(
    vectors: Array, labels: Array, text: Array, scale: float, penalty: float
) -> Array:
    """The offsets (K, D) for which (2) is least while features (N, D) stay as they are."""
    vectors = vectors.astype(np.float64)

    def loss(offsets: Array) -> tuple[float, Array]:
        fit_loss, error = loss_and_error(scale * vectors @ (text + offsets).T, labels)
        error *= scale / len(vectors)
        value = penalty * (offsets**2).sum() + fit_loss
        return float(value), error.T @ vectors + 2 * penalty * offsets

    return minimise(loss, np.zeros(text.shape)).astype(np.float32)


def error_slopes(
    states: Array, labels: Array, projection: Array, text: Array, scale: float, many: int
) -> tuple[Array, Array]:
    """The derivatives of (2)'s cross-entropy, a mean over ``many`` photos, by the states (n, S)
    of n of them and by the text (K, D)."""
    raw = states @ projection.T
    length = np.linalg.norm(raw, axis=1, keepdims=True)
    unit = raw / length
    _, error = loss_and_error(scale * unit @ text.T, labels)
    error *= scale / many
    return through_norm(error @ text, unit, length) @ projection, error.T @ unit


def _start(block: LastBlock, part: str, rank: int, seed: int) -> tuple[Array, Array]:
    out, wide = block.parts[part][0].shape
    draws = generator(seed, "image-factors", direction=PARTS.index(part))
    low = draws.standard_normal((rank, wide)) / wide**0.5
    return low.astype(np.float32), np.zeros((out, rank), np.float32)


def _chunks(many: int) -> list[slice]:
    return [slice(first, min(first + _CHUNK, many)) for first in range(0, many, _CHUNK)]
