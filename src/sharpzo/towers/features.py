"""Labelled photos to features: the only time that the image tower is awake."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sharpzo.data.augment import augment
from sharpzo.data.dataset import LabelledPhotos
from sharpzo.metrics import normalise
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.types import Array, Detour, Features, Sight

if TYPE_CHECKING:
    from sharpzo.towers.tower import OnnxImageTower

Progress = Callable[[str, int, int], None]  # split, photos done, photos in all


class States(Protocol):
    """What makes states of photos: a tower in this process, or one in a process of its own."""

    def states(
        self, photos: Iterable[Array], progress: Callable[[int], object] | None = None
    ) -> Array: ...

    def close(self) -> None: ...


def encode(
    checkpoint: Checkpoint,
    splits: Mapping[str, LabelledPhotos],
    *,
    threads: int | None = None,
    progress: Progress = lambda what, done, total: None,
    cache: Path | None = None,
    detours: Sequence[Detour] = (),
    open_tower: Callable[[], States] | None = None,
) -> dict[str, Features]:
    """Encode every split; the image tower is opened if it is needed and gone before returning.

    The fingerprint of a split's features is the hash of its photos' contents, the image tower and
    the preprocessing; with a ``cache`` folder, features that were computed once are read from
    there. With ``detours`` every photo takes each of them, too, in this process. ``open_tower``
    gives a tower in place of one in this process. Photos that cannot be read raise InputError
    naming the file.
    """
    if not splits:  # the fingerprint alone reads the whole tower
        return {}
    identity = image_fingerprint(checkpoint)
    projection = image_projection(checkpoint)
    tower: States | None = None
    here: OnnxImageTower | None = None
    try:
        encoded = {}
        for name, split in splits.items():

            def report(done: int, name: str = name, total: int = len(split)) -> None:
                progress(name, done, total)

            key = hashlib.sha256((split.digest() + identity).encode()).hexdigest()
            states = _read(cache, key, len(split))
            by = {one.digest: _read(cache, _joint(key, one), len(split)) for one in detours}
            ways = [one for one in detours if by[one.digest] is None]
            if ways:
                here = here or _tower(checkpoint, threads)
                passed, *found = _pass(here, split, states, ways, report)
                if states is None:
                    states = passed
                    _write(cache, key, states)
                for one, changed in zip(ways, found, strict=True):
                    by[one.digest] = changed
                    _write(cache, _joint(key, one), changed)
            elif states is None:
                if tower is None:
                    tower = open_tower() if open_tower else _tower(checkpoint, threads)
                states = tower.states(split.decoded(), progress=report)
                _write(cache, key, states)
            assert states is not None
            encoded[name] = Features(
                normalise(states @ projection.T),
                split.labels,
                split.class_names,
                key,
                states,
                {digest: normalise(found @ projection.T) for digest, found in by.items()},
            )
        return encoded
    finally:
        for one in (tower, here):
            if one is not None:
                one.close()
        checkpoint.weights.release()


def image_fingerprint(checkpoint: Checkpoint) -> str:
    """sha256 over image weights and preprocessing; no tower is opened for it."""
    prefixes = ("vision_model.", "visual_projection.")
    preprocessing = Preprocessing.open(checkpoint)
    return checkpoint.digest(prefixes, repr(checkpoint.image), repr(preprocessing))


def image_projection(checkpoint: Checkpoint) -> Array:
    """Final image projection, float32 (D, S): features = normalised states @ projection.T."""
    shape = (checkpoint.image.projection, checkpoint.image.width)
    return checkpoint.tensor("visual_projection.weight", shape)


def _tower(checkpoint: Checkpoint, threads: int | None) -> OnnxImageTower:
    from sharpzo.towers.tower import OnnxImageTower

    return OnnxImageTower(checkpoint, threads=threads)


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


def _joint(key: str, detour: Detour) -> str:
    return hashlib.sha256((key + detour.digest).encode()).hexdigest()


def _pass(
    tower: OnnxImageTower,
    split: LabelledPhotos,
    known: Array | None,
    ways: Sequence[Detour],
    report: Callable[[int], object],
) -> list[Array]:
    """States (N, S) of the photos, and those by each of the ways; a few in memory at a time."""
    parts = [[np.zeros((0, tower.projection.shape[1]), np.float32)] for _ in (None, *ways)]
    for first in range(0, len(split), 16):
        rows = range(first, min(first + 16, len(split)))
        pixels = tower.pixels(split.take(rows).decoded())
        sight = Sight(tower, pixels, None if known is None else known[rows.start : rows.stop])
        # Ways first: what they ask of the tower may give the states for nothing.
        found = [one(sight) for one in ways]
        for part, states in zip(parts, [sight.states, *found], strict=True):
            part.append(states)
        report(rows.stop)
    return [np.concatenate(part) for part in parts]


def _read(cache: Path | None, key: str, many: int) -> Array | None:
    """States (N, S) from the cache; None where there are none that can be used."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if cache is None:
        return None
    try:
        found = load((cache / f"{key}.safetensors").read_bytes())
        states = found["states"]
    except (OSError, SafetensorError, KeyError):
        return None
    if states.dtype != np.float32 or states.ndim != 2 or len(states) != many:
        return None
    if "crc32" in found and found["crc32"].item() != zlib.crc32(states.data):
        return None
    return states


def _write(cache: Path | None, key: str, states: Array) -> None:
    from safetensors.numpy import save

    if cache is None:
        return
    states = np.ascontiguousarray(states)
    check = np.array(zlib.crc32(states.data), np.uint32)
    unfinished = cache / f"{key}.{os.getpid()}.tmp"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(save({"states": states, "crc32": check}))
        unfinished.replace(cache / f"{key}.safetensors")
    except OSError:  # a full disk costs the next run some time, but not this one its work
        unfinished.unlink(missing_ok=True)
