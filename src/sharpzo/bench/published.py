"""Published figures, for columns beside ours: other models, often other protocols."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import msgspec

BACKBONES = ("ViT-B/16", "RN50")  # the two that nearly every paper has


class Figure(msgspec.Struct, frozen=True, array_like=True):
    """``accuracy`` in percent as printed; ``source`` is a key of `Published.sources`."""

    data_set: str
    method: str
    backbone: str
    shots: int
    accuracy: float
    source: str


class Published(msgspec.Struct, frozen=True):
    """Every figure in the package; ``names`` are those in print of our methods, ``sources`` have a
    title, and where it matters protocol and caveat."""

    names: dict[str, str]
    sources: dict[str, dict[str, str]]
    rows: tuple[Figure, ...]


@cache
def published() -> Published:
    """Return what the package holds."""
    file = files("sharpzo") / "assets" / "published" / "few_shot.json"
    return msgspec.json.decode(file.read_bytes(), type=Published)


def find_published(
    registered: str, data_set: str, shots: int | None, backbone: str
) -> Figure | None:
    """The figure that matches a method of ours, the first source that has one; None if none does.

    >>> find_published("sharpzo", "eurosat", 16, "ViT-B/16").accuracy
    79.42
    """
    method, shots = published().names.get(registered), 0 if registered == "zero-shot" else shots
    at = data_set, method, backbone, shots
    return next((f for f in published().rows if msgspec.structs.astuple(f)[:4] == at), None)
