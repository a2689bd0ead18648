"""Published figures, for columns beside ours: other models, often other protocols."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

BACKBONES = ("ViT-B/16", "RN50")  # the two that nearly every paper has


@dataclass(frozen=True)
class Figure:
    """``accuracy`` in percent as printed; ``source`` is a key of `sources`."""

    data_set: str
    method: str
    backbone: str
    shots: int
    accuracy: float
    source: str


@cache
def _asset() -> dict[str, Any]:
    return json.loads(
        (files("sharpzo") / "assets" / "published" / "few_shot.json").read_text(encoding="utf-8")
    )


def sources() -> dict[str, dict[str, str]]:
    """Key -> title, and where it matters protocol and caveat."""
    return _asset()["sources"]


@cache
def figures() -> tuple[Figure, ...]:
    """Every published figure in the package."""
    return tuple(Figure(*row) for row in _asset()["rows"])


def find_published(
    registered: str, data_set: str, shots: int | None, backbone: str
) -> Figure | None:
    """The figure that matches a method of ours, the first source that has one; None if none does.

    >>> find_published("sharpzo", "eurosat", 16, "ViT-B/16").accuracy
    79.42
    """
    wanted = 0 if registered == "zero-shot" else shots
    at = _asset()["names"].get(registered), data_set, wanted, backbone
    for figure in figures():
        if (figure.method, figure.data_set, figure.shots, figure.backbone) == at:
            return figure
    return None
