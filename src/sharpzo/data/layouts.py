"""The table of data sets: where CoOp keeps each, how large it is, and its hand-made template."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from sharpzo.errors import InputError
from sharpzo.wording import meant

TEMPLATE = "a photo of a {}."
INSTRUCTIONS = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"

# How the index files and the image folders are read:
#   split     CoOp's JSON names photos, labels and classes
#   variants  FGVC-Aircraft's own text files do
#   synsets   one folder per class, called like its synset; all of classnames.txt
#   numbers   the same, called like the row of the class in classnames.txt
#   subset    the same, but the folders that are there are the classes
Form = Literal["split", "variants", "synsets", "numbers", "subset"]

# The seven prompts that Tip-Adapter's family of methods averages on ImageNet and its variants.
IMAGENET_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


class Layout(msgspec.Struct, frozen=True):
    """Where a data set lies, below CoOp's ``$DATA``, and what the published one holds.

    ``folder`` has the folders ``images`` and the files ``index``. ``published`` is the number of
    photos of each split, as far as it is known; for data sets of ImageNet's kind its splits belong
    to ``images`` in that order. ``home`` is the page of those who made the data set.
    """

    title: str
    folder: str
    images: tuple[str, ...]
    index: tuple[str, ...]
    classes: int
    published: dict[str, int]
    home: str
    template: str = TEMPLATE
    form: Form = "split"


class _Table(msgspec.Struct):
    """``aliases``: the short names of the published presets, and a common spelling."""

    data_sets: dict[str, Layout]
    aliases: dict[str, str]


_TABLE = msgspec.json.decode(
    (Path(__file__).parent.parent / "assets" / "data_sets.json").read_bytes(), type=_Table
)
LAYOUTS: Mapping[str, Layout] = _TABLE.data_sets
ALIASES: Mapping[str, str] = _TABLE.aliases


def layout(name: str) -> Layout:
    """Return the layout of the data set ``name``, a key of `LAYOUTS` or of `ALIASES`.

    Raises `InputError` for another name; it lists the known ones.

    >>> layout("pets").folder, layout("pets").classes
    ('oxford_pets', 37)
    """
    found = LAYOUTS.get(ALIASES.get(name, name))
    if found is None:
        like = meant(name, [*LAYOUTS, *ALIASES])
        known = ", ".join(LAYOUTS)
        raise InputError(f"data set {name!r} is unknown{like}; the known ones: {known}")
    return found
