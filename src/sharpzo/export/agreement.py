"""Whether an exported file gives the answers of `sharpzo predict` on real photos."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sharpzo.data.dataset import strange
from sharpzo.data.demo import load_demo
from sharpzo.data.photo import Photo
from sharpzo.errors import EngineError
from sharpzo.export.precision import FilePrecision
from sharpzo.fitting.trained import Trained
from sharpzo.metrics import sigmoid
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.types import Array

MOST = 64  # photos that are compared
# The share of photos whose most probable class may be another one; of few photos, one may.
_OTHERS = {"float32": 0.0, "float16": 0.002, "int8": 0.01}
# A photo uint8 (H, W, 3) -> class probabilities (K,) and its familiarity, None without a rule.
Answer = Callable[[Array], tuple[Array, float | None]]


@dataclass(frozen=True)
class Agreement:
    """Of ``photos`` of a ``source``: the share with the same most probable class, the largest
    difference of a probability, and the share of the same decision about photos of no class, None
    without a rule. Where each class is on its own, ``named`` is the share with the same classes of
    at least 50 %."""

    source: str
    photos: int
    top1: float
    largest_difference: float
    none: float | None
    named: float | None = None

    def record(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return asdict(self)

    def require(self, precision: FilePrecision) -> None:
        """Raise EngineError where a file of that precision disagrees with more photos than it may.

        float32: with none; float16 with one of 500, int8 with one of 100, rounded up.
        """
        allowed = math.ceil(_OTHERS[precision] * self.photos)
        told = {"most probable class": self.top1, "none of these": self.none,
                "classes of at least 50 %": self.named}  # fmt: skip
        for what, share in told.items():
            others = 0 if share is None else round((1 - share) * self.photos)
            if others > allowed:
                raise EngineError(
                    f"the exported file disagrees with predict on {others} of {self.photos} photos "
                    f"({what}; {self.source}), and in {precision} {allowed or 'none'} may differ; "
                    "nothing was written"
                    + ("" if precision == "float32" else "; export with --precision float32")
                )


def chosen(photos: Sequence[Photo], most: int = MOST) -> list[Photo]:
    """At most so many photos, evenly from all.

    >>> [photo.name for photo in chosen([Photo(str(n), pixels=np.zeros(1)) for n in range(5)], 2)]
    ['0', '2']
    """
    step = max(len(photos) / most, 1.0)
    return [photos[int(place * step)] for place in range(min(most, len(photos)))]


def demo_photos() -> list[Photo]:
    """The demo's test photos."""
    return list(load_demo().test.photos)  # type: ignore[union-attr]


def compare(
    trained: Trained,
    answer: Answer,
    threshold: float | None,
    photos: Sequence[Photo],
    lost: float,
    source: str,
    multi: bool = False,
) -> Agreement:
    """Compare answers with those of `Trained.answer`, photos being decoded in the same way;
    ``multi``: with probabilities of each class on its own."""
    if trained.towers.image_precision != "float32":  # a file is compared with its own arithmetic
        trained = replace(trained, towers=trained.towers.exact())
    least = Preprocessing.open(trained.towers.checkpoint, trained.towers.decoding).least
    told = trained.answer(strange(photos)).complete()
    if multi:
        wanted = sigmoid(told.logits.astype(np.float64) + trained.logit_bias())
    else:
        wanted = told.probabilities
    found = [answer(photo.sized(least).decode()) for photo in photos]
    probabilities = np.array([row for row, _ in found])
    none = None
    if threshold is not None:
        seen = [familiar is None or familiar >= threshold for _, familiar in found]
        known = told.known(trained.require_rule().threshold(lost))
        none = float(np.mean([a == b for a, b in zip(seen, known, strict=True)]))
    return Agreement(
        source,
        len(photos),
        float((probabilities.argmax(axis=1) == wanted.argmax(axis=1)).mean()),
        float(np.abs(probabilities - wanted).max()),
        none,
        _same(probabilities, wanted) if multi else None,
    )


def _same(found: Array, wanted: Array) -> float:
    """The share of photos with the same classes of at least 50 %; a class that is nearer to 50 %
    than rounding may be on either side."""
    near = np.abs(wanted - 0.5) < 1e-4
    return float((((found >= 0.5) == (wanted >= 0.5)) | near).all(axis=1).mean())
