"""The ladder with its image side: `ladder.py` on the features of a tuned last block, if it pays.

A name with photos is scored by its ladder on the tuned features z. Names without photos must keep
zero-shot's order, which is that of the untuned features x:

    logits_k = sharpness (a x . t_k + b) + weight (1 - K / N) (z . w + c),  over a temperature

with a and b of the ladder on x (both are regressions to 0 and 1, hence on one scale), and w and c
of the average class that the Gaussian expert on z compares with its own: it is the same for all of
them, and says how much a photo looks like a class that has photos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sharpzo.errors import ArtifactError
from sharpzo.heads.by_detour import vectors_by
from sharpzo.heads.cached import require, require_numbers
from sharpzo.heads.ladder import Ladder, LadderSettings, fit_ladder, line
from sharpzo.heads.tail import Seen
from sharpzo.heads.tuned import Factors, tune
from sharpzo.metrics import accuracy, cross_entropy, normalise
from sharpzo.types import Array, Features, Head, Tail


@dataclass(frozen=True)
class ImageLadderSettings(LadderSettings):
    """``rank`` of the factors; the validation photos choose among ``steps`` of the descent and
    none at all, by the cross-entropy of the ladder that follows.

    Without validation photos ``fixed`` steps are made where every class that has photos has
    ``enough`` of them, else none. ``rate`` is Adam's, ``offset_penalty`` that of `tuned.py`.
    """

    gaussian: float = 0.25
    rank: int = 4
    rate: float = 0.01
    steps: tuple[int, ...] = (10, 20, 40)
    fixed: int = 20
    enough: int = 8
    offset_penalty: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rank >= 1, "rank", self.rank, "1 or more")
        require(self.rate > 0, "rate", self.rate, "a number above 0")
        rising = all(a < b for a, b in zip((0, *self.steps), self.steps, strict=False))
        require(rising and bool(self.steps), "steps", self.steps, "rising numbers above 0")
        require(self.fixed >= 0, "fixed", self.fixed, "0 or more")
        require(self.enough >= 1, "enough", self.enough, "1 or more")
        require_numbers("offset_penalty", (self.offset_penalty,), 1e-9)


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


@dataclass(frozen=True, eq=False)
class ImageLadder:
    """A head and what gives other names their rows: its own arrays and ``arrays``.

    ``steps`` of the descent are in it, of ``made``; with 0 it is the ladder on untuned features.
    """

    head: Head
    arrays: Mapping[str, Array]
    penalty: float
    temperature: float
    steps: int
    made: int
    validation_accuracy: float | None


def fit_image_ladder(
    tail: Tail,
    projection: Array,
    train: tuple[Features, Seen],
    validation: tuple[Features, Seen] | None,
    text: Array,
    scale: float,
    settings: ImageLadderSettings,
    seed: int,
) -> ImageLadder:
    """Fit the ladder with and without tuning, and keep what the validation photos prefer.

    ``train`` and ``validation`` are features of photos and the same photos before the last block,
    which ``tail`` and ``projection`` (D, S) end; ``text`` (K, D) has unit rows and ``scale`` is the
    factor on their cosines.
    """
    photos, seen = train
    known = np.bincount(photos.labels, minlength=len(text))

    def by(factors: Factors, shown: tuple[Features, Seen]) -> Features:
        vectors = normalise(factors.states(tail, shown[1]) @ projection.T)
        return replace(shown[0], vectors=vectors)

    def judged(ladder: Ladder, shown: Features | None) -> tuple[float, float | None]:
        """What is to be small, and the accuracy."""
        if shown is None:
            return 0.0, None
        logits = ladder.head.scores(shown)
        return float(cross_entropy(logits, shown.labels)), accuracy(logits, shown.labels)

    plain = fit_ladder(photos, text, validation and validation[0], settings)
    best = ImageLadder(plain.head, plain.arrays(), plain.penalty, plain.temperature, 0, 0, None)
    least, right = judged(plain, validation and validation[0])
    best = replace(best, validation_accuracy=right)
    tried = settings.steps if validation else (settings.fixed,)
    if validation is None and (known[known > 0].min() < settings.enough or not settings.fixed):
        return best
    descent = tune(
        tail, projection, seen, photos.labels, text, scale,
        rank=settings.rank, rate=settings.rate, penalty=settings.offset_penalty, seed=seed,
    )  # fmt: skip
    for step, factors in zip(range(1, max(tried) + 1), descent, strict=False):
        if step not in tried:
            continue
        moved = by(factors, train)
        held = None if validation is None else by(factors, validation)
        ladder = fit_ladder(moved, text, held, settings)
        loss, right = judged(ladder, held)
        if loss < least or held is None:
            least = loss
            unseen = _unseen(ladder, photos, moved, text, settings)
            head = named(
                {
                    "tuned": ladder.head.weight,
                    "bias": ladder.head.bias,
                    **unseen,
                    **factors.arrays(),
                },
                text,
                np.where(known > 0, np.arange(len(text)), -1),
            )
            best = ImageLadder(head, unseen, ladder.penalty, ladder.temperature, step, 0, right)
    return replace(best, made=max(tried))


def _unseen(
    ladder: Ladder, photos: Features, moved: Features, text: Array, settings: ImageLadderSettings
) -> dict[str, Array]:
    """What a name without photos gets; see above."""
    one_hot = np.eye(len(text))[photos.labels]
    factor, shift = line(photos.vectors.astype(np.float64) @ text.T, one_hot)
    _, tuned_shift = line(moved.vectors.astype(np.float64) @ text.T, one_hot)
    sharpness = settings.sharpness / ladder.temperature
    weight, level, _ = ladder.unseen
    return {
        "unseen_weight": weight.astype(np.float32),
        "unseen_text": np.array(
            [level + sharpness * (shift - tuned_shift), sharpness * factor], np.float32
        ),
    }


def named(arrays: Mapping[str, Array], text: Array, rows: Array) -> TunedHead:
    """The classifier of names with unit text (M, D): ``rows`` (M,) say which class of the fitted
    head a name is, -1 for one without photos; raises ArtifactError if an array is missing."""
    for name in ("tuned", "bias", "unseen_weight", "unseen_text"):
        if name not in arrays:
            raise ArtifactError(f"the artefact lacks the array '{name}'; fit the run again")
    bias, factor = arrays["unseen_text"]
    known = (rows >= 0)[:, None]
    return TunedHead(
        np.where(known, arrays["tuned"][rows], arrays["unseen_weight"]).astype(np.float32),
        np.where(known, 0, factor * text).astype(np.float32),
        np.where(known[:, 0], arrays["bias"][rows], bias).astype(np.float32),
        Factors.from_arrays(arrays),
    )
