"""Photos looked at before a fit: all that cannot be used are named at once, or left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sharpzo.cli.progress import Display
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.photo_check import check, twins, without
from sharpzo.errors import PhotosError
from sharpzo.towers.feature_store import FeatureStore


def usable(
    dataset: Dataset,
    shifted: Dataset | None,
    *,
    skip: bool,
    cache: Path | None,
    threads: int,
    display: Display,
) -> tuple[Dataset, Dataset | None]:
    """Return both data sets without the photos that cannot be used, if these may be skipped.

    Notes tell which, and which photos are there twice. Raises `PhotosError` if there are some and
    they may not.
    """
    splits = _splits(dataset, shifted)
    known = FeatureStore(cache).known if cache else lambda digests: set()
    found = check(splits, known, threads, display.checking)
    if found.errors and not skip:
        raise PhotosError(
            found.errors,
            len({photo.name for split in splits.values() for photo in split.photos}),
            "Mend or remove them, or leave them out with --skip-damaged.",
        )
    dataset = without(dataset, found.errors)
    shifted = shifted and without(shifted, found.errors)
    notes = twins(_splits(dataset, shifted), found.digests)
    return replace(dataset, notes=dataset.notes + notes), shifted


def _splits(dataset: Dataset, shifted: Dataset | None) -> dict[str, LabelledPhotos]:
    there = {"training": dataset.train, "validation": dataset.val, "test": dataset.test}
    there |= {"shifted test": shifted and (shifted.test or shifted.train)}
    return {name: split for name, split in there.items() if split}
