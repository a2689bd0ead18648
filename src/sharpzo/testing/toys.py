"""Small smooth towers and matching photos, on which a method runs in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from zlib import crc32

import numpy as np

from sharpzo.methods.last_block import Seen, forward
from sharpzo.towers.patches import spread
from sharpzo.types import SINGLE, Array, Features, LastBlock


class ToyTower:
    """A text tower: features = projection @ tanh(name_k + mixed context), nonlinear in the context.

    >>> tower = ToyTower(classes=3)
    >>> tower.forward(tower.start[None]).shape
    (1, 3, 6)
    """

    logit_scale = 20.0
    logit_bias = None
    token_distance = 1.0
    rounding = SINGLE
    exact = True
    fingerprint = "toy"

    def __init__(
        self,
        classes: int = 4,
        width: int = 8,
        features: int = 6,
        seed: int = 0,
        tokens: int = 2,
        class_names: Sequence[str] | None = None,
        template: str = "a photo of a {}.",
        specific: bool = False,
    ) -> None:
        self._sizes = {"width": width, "features": features, "seed": seed}
        self.template = template
        self._n = tokens
        draws = np.random.default_rng(seed)
        self.class_names = tuple(class_names or (f"class {k}" for k in range(classes)))
        start = draws.normal(size=(tokens, width))
        # Another sentence begins elsewhere; the usual one stays where it is.
        self.start = (start + (len(template) - 16) / 100).astype(np.float32)
        self.specific = specific
        self.names = np.stack(
            [np.random.default_rng([seed, crc32(n.encode())]).normal(size=width)
             for n in self.class_names]
        ).astype(np.float32)  # fmt: skip
        if specific:
            self.start = np.tile(self.start, (len(self.class_names), 1))
        self.tokens = len(self.start) + 2 * len(self.class_names)
        self.mix = draws.normal(size=(width, tokens * width)).astype(np.float32) / 4
        self.projection = draws.normal(size=(features, width)).astype(np.float32)

    @property
    def untuned(self) -> Array:
        return self.forward(self.start[None])[0]

    def states(self, contexts: Array) -> Array:
        return np.tanh(self.names + self._mixed(contexts))

    def _mixed(self, contexts: Array) -> Array:
        """What contexts add to the names, (P, K, H), or (P, 1, H) where all share them."""
        parts = len(self.class_names) if self.specific else 1
        return contexts.reshape(len(contexts), parts, -1) @ self.mix.T

    def forward(self, contexts: Array) -> Array:
        return (self.states(contexts) @ self.projection.T).astype(np.float32)

    def jvp(self, context: Array, directions: Array) -> tuple[Array, Array]:
        states = self.states(context[None])[0]
        derivatives = (1 - states**2) * self._mixed(directions) @ self.projection.T
        return self.forward(context[None])[0], derivatives.astype(np.float32)

    def variant(
        self,
        *,
        class_names: Sequence[str] | None = None,
        template: str | None = None,
        n_context: int | None = None,
        specific: bool = False,
    ) -> ToyTower:
        return ToyTower(
            **self._sizes,
            tokens=n_context or self._n,
            specific=specific,
            class_names=class_names or self.class_names,
            template=template or self.template,
        )

    def close(self) -> None:
        """Nothing is held."""


class ToyImageTower:
    """An image tower of one block over tokens tanh(weight @ pixels), for photos that are made
    ``side`` x ``side`` pixels; ``states`` of an even width, read at the first of three tokens."""

    fingerprint, at_once = "toy", None

    def __init__(self, side: int = 8, states: int = 10, features: int = 6, seed: int = 0) -> None:
        draws = np.random.default_rng([seed, 1])
        self.side = side
        self._weight = (draws.normal(size=(states, 3 * side * side)) / side).astype(np.float32)
        self.projection = draws.normal(size=(features, states)).astype(np.float32)
        self._others = draws.normal(size=(2, states, states)).astype(np.float32)
        self.last_block = _toy_block(draws, states)

    def pixels(self, photos: Iterable[Array]) -> Array:
        return np.stack([self._resized(np.asarray(photo, np.float32)) for photo in photos])

    def _resized(self, photo: Array) -> Array:
        rows, columns = (np.arange(self.side) * one // self.side for one in photo.shape[:2])
        return photo[rows][:, columns].transpose(2, 0, 1) / 127.5 - 1

    def forward(self, pixels: Array) -> Array:
        return self.trace(pixels)[1][:, 0]

    def trace(self, pixels: Array) -> tuple[Array, Array]:
        first = np.tanh(pixels.reshape(len(pixels), -1) @ self._weight.T)
        tokens = np.stack([first, *(np.tanh(first @ w) for w in self._others)], axis=1)
        states = forward(self.last_block, Seen.of(tokens, self.last_block.eps)).states
        last = np.stack([states, first, tokens[:, 1:].mean(axis=1)], axis=1)
        return tokens, np.concatenate([last, spread(np.tanh(2 * tokens[:, 1:]))], axis=1)

    def close(self) -> None:
        """Nothing is held."""


def _toy_block(draws: np.random.Generator, width: int) -> LastBlock:
    shapes = {"fc1": (2 * width, width), "fc2": (width, 2 * width)}
    parts = {}
    for part in ("norm1", "query", "key", "value", "out", "norm2", "fc1", "fc2", "norm"):
        shape = (width,) if part.startswith("norm") else shapes.get(part, (width, width))
        weight = np.ones(shape) if len(shape) == 1 else draws.normal(size=shape) / 2 / width**0.5
        parts[part] = weight.astype(np.float32), np.zeros(shape[0], np.float32)
    return LastBlock(parts, heads=2, activation="gelu", eps=1e-5)


def make_features(
    tower: ToyTower, per_class: int = 8, noise: float = 0.7, seed: int = 0, truth: int = 99
) -> Features:
    """Photos around directions that the untouched tower knows half."""
    draws = np.random.default_rng(seed)
    classes, width = len(tower.class_names), len(tower.projection)
    known = tower.forward(tower.start[None])[0]
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    centres = 2 * known + np.random.default_rng(truth).normal(size=(classes, width))
    labels = np.repeat(np.arange(classes), per_class)
    vectors = centres[labels] + noise * draws.normal(size=(len(labels), width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Features(vectors.astype(np.float32), labels, tower.class_names)
