"""Detours: ways from photos to vectors other than straight through the image tower.

A method that tunes pixels or the tower's last block gives its head a ``detour``.
`towers.features.encode` sends photos along the detours and keeps their vectors by digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

from sharpzo.errors import InputError
from sharpzo.metrics import normalise
from sharpzo.types import Array, Features, Head, ImageTower


@dataclass(frozen=True, eq=False)
class PhotoBatch:
    """A batch of photos before the image tower, which it passes at most once, when needed.

    ``pixels`` (B, 3, h, w) are preprocessed; ``known`` are their summaries (B, R, S) if these are
    known.
    """

    tower: ImageTower
    pixels: Array
    known: Array | None = None

    @cached_property
    def _passed(self) -> tuple[Array, Array]:
        return self.tower.trace(self.pixels)

    @property
    def tokens(self) -> Array:
        """Tokens (B, T, S) before the last block."""
        return self._passed[0]

    @property
    def states(self) -> Array:
        """States (B, S) of the untouched photos and tower."""
        return self.summaries[:, 0]

    @property
    def summaries(self) -> Array:
        """States and summaries of tokens (B, R, S); see `ImageTower.trace`."""
        return self._passed[1] if self.known is None else self.known


class Detour(Protocol):
    """A tuned way from photos to states, whose vectors are ``projected`` as those of the tower are,
    or are the states themselves at length 1."""

    projected: ClassVar[bool]

    @property
    def digest(self) -> str:
        """Name of the result: a hash of all that was tuned."""
        ...

    def __call__(self, batch: PhotoBatch) -> Array:
        """Photos before the tower -> states (B, S)."""
        ...


def digest_of(arrays: Mapping[str, Array]) -> str:
    """sha256 over arrays in the order of their names."""
    return hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()


def fixed_views(heads: Iterable[Head | None]) -> list[str]:
    """The fixed views that these heads read photos through, each once."""
    return list(dict.fromkeys(view for head in heads for view in getattr(head, "fixed_views", ())))


def seen_through(photos: Features, views: Sequence[str]) -> list[Features]:
    """Photos as they are, then through each of ``views``; InputError if they were encoded
    without one."""
    missing = [view for view in views if view not in photos.by_view]
    if missing:
        raise InputError(
            f"the photos were encoded without the view '{missing[0]}'; encode them with "
            "towers.features.encode(..., fixed_views=head.fixed_views)"
        )
    return [photos, *(photos.by_view[view] for view in views)]


def detours(heads: Iterable[Head | None]) -> list[Detour]:
    """The detours whose vectors these heads read, each once."""
    found = (getattr(head, "detour", None) for head in heads)
    return list({one.digest: one for one in found if one is not None}.values())


def vectors_of(detour: Detour, states: Array, projection: Array) -> Array:
    """Unit vectors (N, D) or (N, S) of the states (N, S) that a detour gave."""
    return normalise(states @ projection.T if detour.projected else states)


def vectors_by(detour: Detour, photos: Features) -> Array:
    """The vectors (N, D) of photos by way of a detour; InputError if they did not take it."""
    if detour.digest not in photos.detours:
        raise InputError(
            f"the photos were encoded without the detour {detour.digest[:12]}…; encode them with "
            "towers.features.encode(..., detours=[head.detour])"
        )
    return photos.detours[detour.digest]
