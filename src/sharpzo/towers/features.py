"""Labelled photos to features: the only time that the image tower is awake."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.types import Array, Features

Progress = Callable[[str, int, int], None]  # split, photos done, photos in all


def encode(
    checkpoint: Checkpoint,
    splits: Mapping[str, LabelledPhotos],
    *,
    threads: int | None = None,
    progress: Progress = lambda what, done, total: None,
    cache: Path | None = None,
) -> dict[str, Features]:
    """Encode every split; the image tower is opened for it and released before returning.

    The fingerprint of a split's features is the hash of its photos' contents, the image tower and
    the preprocessing; with a ``cache`` folder, features that were computed once are read from
    there. Photos that cannot be read raise InputError naming the file.
    """
    from sharpzo.towers.tower import OnnxImageTower

    tower = OnnxImageTower(checkpoint, threads=threads)
    identity = tower.fingerprint
    try:
        encoded = {}
        for name, split in splits.items():

            def report(done: int, name: str = name, total: int = len(split)) -> None:
                progress(name, done, total)

            key = hashlib.sha256((split.digest() + identity).encode()).hexdigest()
            states = None if cache is None else _read(cache / f"{key}.safetensors", len(split))
            if states is None:
                states = tower.states(split.decoded(), progress=report)
                if cache is not None:
                    _write(cache / f"{key}.safetensors", states)
            encoded[name] = Features(
                tower.project(states), split.labels, split.class_names, key, states
            )
        return encoded
    finally:
        tower.close()


def _read(file: Path, many: int) -> Array | None:
    """States (N, S) from the cache; None where there are none that can be used."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        states = load(file.read_bytes())["states"]
    except (OSError, SafetensorError, KeyError):
        return None
    return states if len(states) == many else None


def _write(file: Path, states: Array) -> None:
    from safetensors.numpy import save

    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_bytes(save({"states": states}))
    unfinished.replace(file)
