"""A small smooth text tower and features to match, so that the spine is tested without graphs."""

from __future__ import annotations

import numpy as np

from sharpzo.types import Array, Features


class FakeTower:
    """Features = projection @ tanh(name_k + mixed context): nonlinear in the context."""

    logit_scale = 20.0
    token_distance = 1.0
    fingerprint = "fake"
    template = "a photo of a {}."

    def __init__(
        self, classes: int = 4, width: int = 8, features: int = 6, seed: int = 0, tokens: int = 2
    ) -> None:
        self.sizes = {"classes": classes, "width": width, "features": features, "seed": seed}
        draws = np.random.default_rng(seed)
        self.class_names = tuple(f"class {k}" for k in range(classes))
        self.start = draws.normal(size=(tokens, width)).astype(np.float32)
        self.names = draws.normal(size=(classes, width)).astype(np.float32)
        self.mix = draws.normal(size=(width, tokens * width)).astype(np.float32) / 4
        self.projection = draws.normal(size=(features, width)).astype(np.float32)

    def states(self, contexts: Array) -> Array:
        mixed = contexts.reshape(len(contexts), -1) @ self.mix.T
        return np.tanh(self.names + mixed[:, None])

    def forward(self, contexts: Array) -> Array:
        return (self.states(contexts) @ self.projection.T).astype(np.float32)

    def variant(self, *, class_names=None, template=None, n_context=None) -> FakeTower:
        """Names are known by their order alone; a template moves the start."""
        classes = self.sizes | ({"classes": len(class_names)} if class_names else {})
        made = FakeTower(**classes, tokens=n_context or len(self.start))
        if class_names:
            made.class_names = tuple(class_names)
        if template is not None:
            made.template = template
            made.start += np.float32(len(template) / 100)
        return made

    def close(self) -> None:
        pass


def make_features(
    tower: FakeTower, per_class: int = 8, noise: float = 0.7, seed: int = 0, truth: int = 99
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
