"""Labelled photos to features: the only time that the image tower is awake."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.types import Features

Progress = Callable[[str, int, int], None]  # split, photos done, photos in all


def encode(
    checkpoint: Checkpoint,
    splits: Mapping[str, LabelledPhotos],
    *,
    threads: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, Features]:
    """Encode every split; the image tower is opened for it and released before returning.

    The fingerprint of a split's features is the hash of its photos' contents, the image tower and
    the preprocessing. Photos that cannot be read raise InputError naming the file.
    """
    from sharpzo.towers.tower import OnnxImageTower

    tower = OnnxImageTower(checkpoint, threads=threads)
    try:
        encoded = {}
        for name, split in splits.items():

            def report(done: int, name: str = name, total: int = len(split)) -> None:
                progress(name, done, total)

            vectors = tower.encode(split.decoded(), progress=report)
            content = hashlib.sha256((split.digest() + tower.fingerprint).encode())
            encoded[name] = Features(vectors, split.labels, split.class_names, content.hexdigest())
        return encoded
    finally:
        tower.close()
