"""The image side of the ladder: the tower's last block, tuned by low-rank factors (ours).

A matrix W (out, in) of the last block at the class token becomes

    W + s high low,  s = std(W) sqrt(S),  high (out, r), low (r, in)                     (1)

for query, value, output and both matrices of the MLP. ``high`` starts at 0 and ``low`` at random,
so that the descent starts at the tower as it is. Adam moves them, full batch, along the exact
gradient (`tail.py`) of

    CE(scale normalise(states W') (t + d)') + penalty |d|**2                             (2)

with t the class texts and d their offsets, which start where (2) is least for the block as it is
and go on moving beside it. They are scaffolding: what classifies is `ladder.py`, fitted anew to the
features of the tuned block, so that only the factors have to be kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sharpzo.errors import ArtifactError
from sharpzo.heads.by_detour import vectors_by
from sharpzo.heads.cached import require, require_numbers
from sharpzo.heads.descent import Adam
from sharpzo.heads.ladder import LadderSettings
from sharpzo.heads.tail import Seen, forward, gradient
from sharpzo.lbfgs import minimise
from sharpzo.metrics import normalise, softmax
from sharpzo.rng import generator
from sharpzo.types import Array, Features, Sight, Tail

PARTS = ("query", "value", "out", "fc1", "fc2")
_CHUNK = 64  # photos at a time: what is made on the way to their states stays in a few MB


@dataclass(frozen=True)
class TunedSettings(LadderSettings):
    """``rank`` of the factors; validation photos choose among ``steps`` and none.

    Without validation photos ``fixed`` steps are made, where there are ``enough`` photos a class.
    ``rate`` is Adam's for the factors, a fifth of it for the offsets; ``penalty_offsets`` is
    equation 2's.
    """

    gaussian: float = 0.25
    rank: int = 4
    rate: float = 0.01
    steps: tuple[int, ...] = (10, 20, 40)
    fixed: int = 20
    enough: int = 8
    penalty_offsets: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rank >= 1, "rank", self.rank, "1 or more")
        require(self.rate > 0, "rate", self.rate, "a number above 0")
        rising = all(a < b for a, b in zip((0, *self.steps), self.steps, strict=False))
        require(rising and bool(self.steps), "steps", self.steps, "rising numbers above 0")
        require(self.fixed >= 1, "fixed", self.fixed, "1 or more")
        require_numbers("penalty_offsets", (self.penalty_offsets,), 1e-9)


@dataclass(frozen=True, eq=False)
class Factors:
    """Low-rank changes of the last image block, equation 1; fulfils `types.Detour`.

    ``pairs``: part -> low (r, in) and high (out, r).
    """

    pairs: Mapping[str, tuple[Array, Array]]

    @classmethod
    def start(cls, tail: Tail, rank: int, seed: int) -> Factors:
        """Factors that change nothing yet."""
        pairs = {}
        for i, part in enumerate(PARTS):
            out, wide = tail.parts[part][0].shape
            draws = generator(seed, "image-factors", direction=i)
            low = draws.standard_normal((rank, wide)) / wide**0.5
            pairs[part] = low.astype(np.float32), np.zeros((out, rank), np.float32)
        return cls(pairs)

    def change(self, tail: Tail) -> Tail:
        """The tail with its matrices changed."""
        changed = dict(tail.parts)
        for part, (low, high) in self.pairs.items():
            weight, bias = tail.parts[part]
            changed[part] = weight + _size(weight) * (high @ low), bias
        return replace(tail, parts=changed)

    def states(self, tail: Tail, photos: Seen) -> Array:
        """States (N, S) of photos by way of the changed ``tail`` of the tower."""
        tail, parts = self.change(tail), [photos.first[:0]]
        for rows in _chunks(len(photos)):
            parts.append(forward(tail, photos.take(rows)).states)
        return np.concatenate(parts)

    def __call__(self, sight: Sight) -> Array:
        """Photos before the tower -> states (B, S) through the changed block."""
        tail = sight.tower.tail
        return self.states(tail, Seen.of(sight.tokens, tail.eps))

    @cached_property
    def digest(self) -> str:
        """sha256 over all factors."""
        arrays = self.arrays()
        return hashlib.sha256(
            b"".join(arrays[name].tobytes() for name in sorted(arrays))
        ).hexdigest()

    def arrays(self) -> dict[str, Array]:
        """What the artefact keeps."""
        return {
            f"image_{part}_{name}": np.ascontiguousarray(array, np.float32)
            for part, pair in self.pairs.items()
            for name, array in zip(("low", "high"), pair, strict=True)
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Factors:
        """Rebuild from an artefact; raises ArtifactError if an array is missing or misshapen."""
        pairs = {}
        for part in PARTS:
            low, high = (arrays.get(f"image_{part}_{name}") for name in ("low", "high"))
            if low is None or high is None or low.ndim != 2 or high.shape[1:] != low.shape[:1]:
                raise ArtifactError(
                    f"the artefact has no factors of the image block's '{part}' that fit each "
                    "other; fit the run again"
                )
            pairs[part] = low, high
        return cls(pairs)


@dataclass(frozen=True, eq=False)
class TunedHead:
    """Logits = z @ tuned.T + x @ plain.T + bias, x (N, D) the photos' vectors and z those by way
    of ``detour``; tuned and plain (K, D), bias (K,)."""

    tuned: Array
    plain: Array
    bias: Array
    detour: Factors

    @property
    def n_classes(self) -> int:
        """Number of classes K."""
        return len(self.bias)

    def scores(self, photos: Features) -> Array:
        """N photos -> logits (N, K); InputError if they were encoded without the detour."""
        by = vectors_by(self.detour, photos)
        return by @ self.tuned.T + photos.vectors @ self.plain.T + self.bias

    def arrays(self) -> dict[str, Array]:
        """What the artefact keeps."""
        rows = {"tuned": self.tuned, "plain": self.plain, "bias": self.bias}
        return {n: np.asarray(a, np.float32) for n, a in rows.items()} | self.detour.arrays()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> TunedHead:
        """Rebuild from an artefact; raises ArtifactError if it does not hold one."""
        for name in ("tuned", "plain", "bias"):
            if name not in arrays:
                raise ArtifactError(f"the artefact lacks the array '{name}'; fit the run again")
        return cls(arrays["tuned"], arrays["plain"], arrays["bias"], Factors.from_arrays(arrays))


def tune(
    tail: Tail,
    projection: Array,
    photos: Seen,
    labels: Array,
    text: Array,
    scale: float,
    settings: TunedSettings,
    seed: int,
) -> Iterator[Factors]:
    """Yield the factors after each step of the descent; ``text`` (K, D) has unit rows."""
    factors = Factors.start(tail, settings.rank, seed)
    plain = normalise(factors.states(tail, photos) @ projection.T)
    offsets = _offsets(plain, labels, text, scale, settings.penalty_offsets)
    moving = [array for part in PARTS for array in factors.pairs[part]]
    descents = [Adam() for _ in (*moving, offsets)]
    while True:
        slope = np.float32(2 * settings.penalty_offsets) * offsets
        slopes = [np.zeros_like(array) for array in moving]
        changed = Factors(
            dict(zip(PARTS, zip(moving[::2], moving[1::2], strict=True), strict=True))
        ).change(tail)
        for rows in _chunks(len(photos)):
            some = photos.take(rows)
            trace = forward(changed, some)
            by_states, by_text = _slopes(
                trace.states, labels[rows], projection, text + offsets, scale, len(photos)
            )
            slope += by_text
            found = gradient(changed, some, trace, by_states)
            for i, part in enumerate(PARTS):
                along = found[part][0] * _size(tail.parts[part][0])
                slopes[2 * i] += moving[2 * i + 1].T @ along
                slopes[2 * i + 1] += along @ moving[2 * i].T
        moving = [
            adam.move(array, by, settings.rate)
            for adam, array, by in zip(descents, moving, slopes, strict=False)
        ]
        offsets = descents[-1].move(offsets, slope, settings.rate / 5)
        yield Factors(dict(zip(PARTS, zip(moving[::2], moving[1::2], strict=True), strict=True)))


def _offsets(vectors: Array, labels: Array, text: Array, scale: float, penalty: float) -> Array:
    """The offsets (K, D) of least loss (2) with the block as it is."""
    vectors, one_hot = vectors.astype(np.float64), np.eye(len(text))[labels]

    def loss(offsets: Array) -> tuple[float, Array]:
        chances = softmax(scale * vectors @ (text + offsets).T)
        error = scale / len(vectors) * (chances - one_hot)
        value = penalty * (offsets**2).sum() - np.log((chances * one_hot).sum(axis=1)).mean()
        return float(value), error.T @ vectors + 2 * penalty * offsets

    return minimise(loss, np.zeros(text.shape)).astype(np.float32)


def _slopes(
    states: Array, labels: Array, projection: Array, text: Array, scale: float, many: int
) -> tuple[Array, Array]:
    """The derivatives of (2)'s cross-entropy, a mean over ``many`` photos, by the states of some
    of them and by the text (K, D)."""
    raw = states @ projection.T
    length = np.linalg.norm(raw, axis=1, keepdims=True)
    unit = raw / length
    error = softmax(scale * unit @ text.T)
    error[np.arange(len(labels)), labels] -= 1
    error *= scale / many
    along = error @ text
    along = (along - (along * unit).sum(axis=1, keepdims=True) * unit) / length
    return along @ projection, error.T @ unit


def _size(weight: Array) -> np.float32:
    """What a change of a matrix is measured in: its standard deviation times sqrt(S)."""
    return np.float32(weight.std() * min(weight.shape) ** 0.5)


def _chunks(many: int) -> list[slice]:
    return [slice(first, min(first + _CHUNK, many)) for first in range(0, many, _CHUNK)]
