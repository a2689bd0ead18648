"""Heads that see photos by way of a detour (`types.Detour`): which ways, and what came of them.

`towers.features.encode` sends photos along the detours and keeps their vectors by digest.
"""

from __future__ import annotations

from collections.abc import Iterable

from sharpzo.errors import InputError
from sharpzo.types import Array, Detour, Features, Head


def detours(heads: Iterable[Head | None]) -> list[Detour]:
    """The detours that photos have to take before these heads can see them, each once."""
    found = (getattr(head, "detour", None) for head in heads)
    return list({one.digest: one for one in found if one is not None}.values())


def vectors_by(detour: Detour, photos: Features) -> Array:
    """The vectors (N, D) of photos by way of a detour; InputError if they did not take it."""
    if detour.digest not in photos.detours:
        raise InputError(
            f"the photos were encoded without the detour {detour.digest[:12]}…; encode them with "
            "towers.features.encode(..., detours=[head.detour])"
        )
    return photos.detours[detour.digest]
