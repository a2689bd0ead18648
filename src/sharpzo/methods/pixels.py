"""The loss of a prompt of pixels: every candidate sends photos through the image tower."""

from __future__ import annotations

import numpy as np

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.linear import LinearHead
from sharpzo.methods.decoder import (
    PARAMETERS,
    Coordinator,
    Moments,
    PromptedHead,
    add_prompts,
    decode,
)
from sharpzo.metrics import accuracy, cross_entropy, normalise
from sharpzo.objective import minibatch
from sharpzo.types import Array, Evaluated, Features, ImageTower


class PixelObjective:
    """Mean cross-entropy of BlackVIP's numbers (P, 9920) on a minibatch of photos.

    A forward is one minibatch through the image tower; ``image_passes`` counts single photos.
    ``pool`` are the photos trained on (or their views, view-major) and ``encoded`` their features,
    whose states the decoder reads. The BatchNorms use the minibatch's statistics, and every
    candidate of every step moves the running ones, which judgements use, as in the authors'
    program. A judgement sees the minibatch of step 0 and all validation photos.
    """

    dim = PARAMETERS

    def __init__(
        self,
        tower: ImageTower,
        text: LinearHead,
        pool: LabelledPhotos,
        encoded: Features,
        validation: tuple[LabelledPhotos, Features] | None,
        *,
        many: int,
        batch: int,
        epsilon: float,
        seed: int = 1,
    ) -> None:
        self.forwards = 0
        self.image_passes = 0
        self.failures = 0
        self._tower = tower
        self._text = text
        self._pool = pool
        self._encoded = encoded
        self._validation = validation
        self._many = many
        self._batch = min(batch, many)
        self._epsilon = epsilon
        self._seed = seed
        self._running = Moments.fresh()
        flat = (np.full((64, 64, 3), value, np.uint8) for value in (0, 255))
        self._low, self._high = tower.pixels(flat)[:, :, 0, 0]

    @property
    def passes_per_call(self) -> int:
        """Image passes of one candidate."""
        return self._batch

    @property
    def passes_per_judgement(self) -> int:
        """Image passes of one judgement."""
        return self._batch + (0 if self._validation is None else len(self._validation[0]))

    def price(self, points: int, directions: int = 0) -> int:
        """Forwards that answers about points, and derivatives along directions, count for."""
        return points + directions

    def losses(self, points: Array, step: int = 0) -> Array:
        """Points (P, 9920) -> losses float64 (P,) on the minibatch of ``step``."""
        rows = self._rows(step)
        pixels = self._tower.pixels(self._pool.take(rows).decoded())
        assert self._encoded.states is not None
        states, labels = self._encoded.states[rows], self._encoded.labels[rows]
        found = []
        for candidate in points:
            with np.errstate(all="ignore"):
                prompts, batch = decode(candidate, states)
                self._running = self._running.after(batch)
                prompted = add_prompts(pixels, prompts, self._epsilon, self._low, self._high)
                logits = self._logits(prompted)
                found.append(float(cross_entropy(logits, labels)))
            self.forwards += 1
        finite = np.isfinite(found)
        self.failures += int((~finite).sum())
        return np.where(finite, found, np.inf)

    def evaluate(self, point: Array) -> Evaluated:
        """One point (9920,) on the minibatch of step 0 and all validation photos."""
        self.forwards += 1
        prompter = Coordinator(
            point.astype(np.float32), self._running, self._epsilon, self._low, self._high
        )
        rows = self._rows(0)
        logits = self._prompted(prompter, self._pool.take(rows), self._encoded.take(rows))
        loss = float(cross_entropy(logits, self._encoded.labels[rows]))
        accurate, validation_loss = None, None
        if self._validation is not None:
            photos, encoded = self._validation
            logits = self._prompted(prompter, photos, encoded)
            accurate = accuracy(logits, encoded.labels)
            validation_loss = float(cross_entropy(logits, encoded.labels))
        return Evaluated(PromptedHead(self._text, prompter), loss, accurate, validation_loss)

    def _rows(self, step: int) -> Array:
        return minibatch(self._seed, step, self._many, self._batch, len(self._pool) // self._many)

    def _prompted(self, prompter: Coordinator, photos: LabelledPhotos, encoded: Features) -> Array:
        """Logits (N, K) of photos as they are predicted, a few at a time."""
        assert encoded.states is not None
        parts = []
        for first in range(0, len(photos), 32):
            rows = range(first, min(first + 32, len(photos)))
            pixels = self._tower.pixels(photos.take(rows).decoded())
            parts.append(
                self._logits(prompter.prompt(pixels, encoded.states[rows.start : rows.stop]))
            )
        return np.concatenate(parts)

    def _logits(self, pixels: Array) -> Array:
        self.image_passes += len(pixels)
        vectors = normalise(self._tower.forward(pixels) @ self._tower.projection.T)
        return self._text.scale * (vectors @ self._text.weight.T)
