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
from typing import ClassVar, Protocol

import numpy as np

from sharpzo.descent import Adam, minimise
from sharpzo.detour import PhotoBatch, digest_of
from sharpzo.linear import keep, take
from sharpzo.methods.last_block import Seen, forward, slopes
from sharpzo.metrics import loss_and_error, normalise, through_norm
from sharpzo.rng import generator
from sharpzo.types import Array, LastBlock

PARTS = ("query", "value", "out", "fc1", "fc2")


class Photos(Protocol):
    """Photos before the last block, `Seen` or in a file; what is read of them together."""

    @property
    def at_once(self) -> int: ...

    def __len__(self) -> int: ...

    def take(self, rows: slice) -> Seen: ...


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

    def states(self, block: LastBlock, photos: Photos, among: range | None = None) -> Array:
        """States (N, S) of photos, or of those ``among`` them, through the tower's ``block`` with
        this change."""
        block, among = self.change(block), range(len(photos)) if among is None else among
        parts = [block.parts["norm"][0][None][:0]]
        for rows in _chunks(among, photos.at_once):
            parts.append(forward(block, photos.take(rows).widened()).states)
        return np.concatenate(parts)

    def __call__(self, batch: PhotoBatch) -> Array:
        block = batch.tower.last_block
        return self.states(block, Seen.of(batch.tokens, block.eps))

    @property
    def changed_bytes(self) -> int:
        """Of the matrices that are changed, 4 for each number."""
        return sum(4 * low.shape[1] * high.shape[0] for low, high in self.pairs.values())

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
    photos: Photos,
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
        slope = np.float32(2 * penalty) * offsets
        by_part = _slopes(
            factors.change(block), photos, labels, projection, text + offsets, scale, slope
        )
        for part, (low, high) in pairs.items():
            along, (down, up) = by_part.pop(part), descent[part]
            along *= sizes[part]
            pairs[part] = down.move(low, high.T @ along, rate), up.move(high, along @ low.T, rate)
            del along  # nothing as large stays while others look at the factors
        offsets = offsetting.move(offsets, slope, rate / 5)
        yield Factors({part: (low, sizes[part] * high) for part, (low, high) in pairs.items()})


def _slopes(
    block: LastBlock,
    photos: Photos,
    labels: Array,
    projection: Array,
    text: Array,
    scale: float,
    slope: Array,
) -> dict[str, Array]:
    """The derivatives of (2)'s cross-entropy by the matrices; that by the text (K, D) is added to
    ``slope``."""
    by_part = {part: np.zeros_like(block.parts[part][0]) for part in PARTS}
    for rows in _chunks(range(len(photos)), photos.at_once):
        some = photos.take(rows).widened()
        trace = forward(block, some)
        by_states, more = error_slopes(
            trace.states, labels[rows], projection, text, scale, len(photos)
        )
        slope += more
        for part, (weight, _) in slopes(block, some, trace, by_states):
            if part in PARTS:
                by_part[part] += weight
    return by_part


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


def _chunks(among: range, size: int) -> list[slice]:
    return [slice(rows[0], rows[-1] + 1) for first in range(0, len(among), size)
            if (rows := among[first : first + size])]  # fmt: skip
