"""What a classifier says of photos, a part of them at a time, so that any number fits in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sharpzo.detour import fixed_views
from sharpzo.errors import PhotoError, PhotosError
from sharpzo.metrics import softmax
from sharpzo.types import Array, Features, Head

if TYPE_CHECKING:
    from sharpzo.data.dataset import LabelledPhotos
    from sharpzo.data.photo import Photo
    from sharpzo.fitting.strangers import Strangers
    from sharpzo.towers.features import Encoder, Progress

PART = 256  # photos that are answered together


@dataclass(frozen=True, eq=False)
class Answers:
    """About ``photos``, of which N can be read: which these are (``rows``), the logits (N, K), how
    familiar they are (N,), None where nothing tells photos of no class, and the others' errors."""

    photos: tuple[Photo, ...]
    rows: list[int]
    logits: Array
    familiarity: Array | None
    errors: tuple[PhotoError, ...]

    @classmethod
    def of(
        cls,
        head: Head,
        rule: Strangers | None,
        photos: tuple[Photo, ...],
        features: Features,
        rows: list[int] | None = None,
        errors: Sequence[PhotoError] = (),
    ) -> Answers:
        """About photos of which ``rows`` have features, all if not given."""
        familiarity = None if rule is None else rule.scores(features)
        rows = list(range(len(features))) if rows is None else rows
        return cls(photos, rows, head.scores(features), familiarity, tuple(errors))

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """All parts, of which there is at least one, as one."""
        before = np.cumsum([0, *(len(part.photos) for part in parts)])
        told = [part.familiarity for part in parts if part.familiarity is not None]
        return cls(
            tuple(photo for part in parts for photo in part.photos),
            [first + row for first, part in zip(before, parts, strict=False) for row in part.rows],
            np.concatenate([part.logits for part in parts]),
            np.concatenate(told) if told else None,
            tuple(error for part in parts for error in part.errors),
        )

    @property
    def probabilities(self) -> Array:
        """Of each class, float64 (N, K)."""
        return softmax(self.logits.astype(np.float64))

    def known(self, threshold: float) -> list[bool | None]:
        """Whether each photo is of any class; None where nothing tells."""
        if self.familiarity is None:
            return [None] * len(self.rows)
        return (self.familiarity >= threshold).tolist()

    def complete(self) -> Answers:
        """The same; raises PhotosError if a photo cannot be read."""
        if self.errors:
            raise PhotosError(self.errors, len(self.photos))
        return self


def ask(
    head: Head, rule: Strangers | None, encoder: Encoder, split: LabelledPhotos, progress: Progress
) -> Iterator[Answers]:
    """Answer about one part of the photos after the other; a split without photos is one part."""
    for first in range(0, max(len(split), 1), PART):

        def report(what: str, done: int, _: int, before: int = first) -> None:
            progress(what, before + done, len(split))

        part = split.take(range(first, min(first + PART, len(split))))
        found = encoder.read(part, "new", report, fixed_views([head]))
        yield Answers.of(head, rule, part.photos, *found)
