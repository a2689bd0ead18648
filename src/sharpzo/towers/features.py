"""Labelled photos to features: the only time that the image tower is awake."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpzo.data.augment import augment
from sharpzo.data.dataset import LabelledPhotos
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.types import Array, Features, Prompter

if TYPE_CHECKING:
    from sharpzo.towers.tower import OnnxImageTower

Progress = Callable[[str, int, int], None]  # split, photos done, photos in all


def encode(
    checkpoint: Checkpoint,
    splits: Mapping[str, LabelledPhotos],
    *,
    threads: int | None = None,
    progress: Progress = lambda what, done, total: None,
    cache: Path | None = None,
    prompters: Sequence[Prompter] = (),
) -> dict[str, Features]:
    """Encode every split; the image tower is opened for it and released before returning.

    The fingerprint of a split's features is the hash of its photos' contents, the image tower and
    the preprocessing; with a ``cache`` folder, features that were computed once are read from
    there. With ``prompters`` every photo also passes the tower as each of them changes it. Photos
    that cannot be read raise InputError naming the file.
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
            states = _read(cache, key, len(split))
            if states is None:
                states = tower.states(split.decoded(), progress=report)
                _write(cache, key, states)
            prompted = {}
            for prompter in prompters:
                both = hashlib.sha256((key + prompter.digest).encode()).hexdigest()
                changed = _read(cache, both, len(split))
                if changed is None:
                    changed = _prompted(tower, split, states, prompter)
                    _write(cache, both, changed)
                prompted[prompter.digest] = tower.project(changed)
            encoded[name] = Features(
                tower.project(states), split.labels, split.class_names, key, states, prompted
            )
        return encoded
    finally:
        tower.close()


def wanted_views(
    checkpoint: Checkpoint, photos: LabelledPhotos, settings: Any, seed: int
) -> dict[str, LabelledPhotos]:
    """Return the augmented views that a method's settings ask for, as a split called ``views``.

    As many of each photo as their field ``views`` says (nothing for 0 or without one), crops of a
    share of ``view_scale``, as large as the image tower sees photos.
    """
    many = getattr(settings, "views", 0)
    if not many:
        return {}
    side = max(Preprocessing.open(checkpoint).size)
    scale = getattr(settings, "view_scale", (0.08, 1.0))
    return {"views": augment(photos, many, side, seed, scale)}


def _prompted(
    tower: OnnxImageTower, split: LabelledPhotos, states: Array, prompter: Prompter
) -> Array:
    """States (N, S) of the photos as the prompter changes them, a few in memory at a time."""
    parts = [states[:0]]
    for first in range(0, len(split), 16):
        rows = range(first, min(first + 16, len(split)))
        pixels = tower.pixels(split.take(rows).decoded())
        parts.append(tower.forward(prompter(pixels, states[rows.start : rows.stop])))
    return np.concatenate(parts)


def _read(cache: Path | None, key: str, many: int) -> Array | None:
    """States (N, S) from the cache; None where there are none that can be used."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if cache is None:
        return None
    try:
        states = load((cache / f"{key}.safetensors").read_bytes())["states"]
    except (OSError, SafetensorError, KeyError):
        return None
    return states if len(states) == many else None


def _write(cache: Path | None, key: str, states: Array) -> None:
    from safetensors.numpy import save

    if cache is None:
        return
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = cache / f"{key}.{os.getpid()}.tmp"
    unfinished.write_bytes(save({"states": states}))
    unfinished.replace(cache / f"{key}.safetensors")
