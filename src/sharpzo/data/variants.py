"""FGVC-Aircraft's own text files: the variants, and the photos of each split."""

from __future__ import annotations

from pathlib import Path

from sharpzo.data.layouts import Layout
from sharpzo.data.listing import Listing, Rows, inside, unusable, words

_ADVICE = "take it from the data/ folder of the 2013b archive again"


def list_variants(folder: Path, layout: Layout) -> Listing:
    """Read ``variants.txt``, whose rows are the labels, and a file of "photo variant" a split.

    Raises `InputError` if a file is damaged or names a variant that variants.txt lacks.
    """
    variants = _lines(folder / layout.index[0])
    labels = {variant: label for label, variant in enumerate(variants)}
    images = folder / layout.images[0]
    splits: dict[str, Rows] = {}
    for split, name in zip(("train", "val", "test"), layout.index[1:], strict=True):
        rows: Rows = []
        for line in _lines(folder / name):
            photo, _, variant = line.partition(" ")
            try:
                if variant not in labels:
                    raise ValueError(f"{layout.index[0]} has no variant {variant!r}")
                rows.append((str(images / f"{inside(photo)}.jpg"), labels[variant]))
            except ValueError as error:
                raise unusable(folder / name, error, _ADVICE) from error
        splits[split] = rows
    return Listing(tuple(words(variant) for variant in variants), splits)


def _lines(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        if not all(lines) or not lines:
            raise ValueError("it is empty or has an empty line")
    except (OSError, ValueError) as error:
        raise unusable(file, error, _ADVICE) from error
    return lines
