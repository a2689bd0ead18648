"""Hashes of a model's files, remembered in the cache of features.

A model is hashed for every answer: a run refuses any other than its own. As Git does, a file is not
read again while its place, size and times are those it was hashed with. The time of change, which
no program can set, moves with every write and with whatever replaces a file. Where it is another
time (Windows), where a file has changed within the last minute, whose next change could have the
same time, and without a cache, files are read.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from sharpzo import __version__
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.feature_store import FeatureStore
from sharpzo.towers.image import IMAGE_TENSORS, image_fingerprint
from sharpzo.towers.preprocess import Preprocessing

_SETTLED = 60 * 10**9  # nanoseconds


def model_digest(checkpoint: Checkpoint, cache: Path | None) -> str:
    """Return the checkpoint's `fingerprint`."""
    if cache is None or (before := _state(checkpoint.files)) is None:
        return checkpoint.fingerprint
    store = FeatureStore(cache)
    kept = store.recall(before)
    if kept is None:
        kept = checkpoint.fingerprint
        if _state(checkpoint.files) == before:
            store.remember(before, kept)
    return kept


def image_digest(checkpoint: Checkpoint, cache: Path | None) -> str:
    """Return the `image_fingerprint`, which follows from the whole model's."""
    if cache is None:
        return image_fingerprint(checkpoint)
    store, weights = FeatureStore(cache), checkpoint.weights
    names = sorted(name for name in weights if name.startswith(IMAGE_TENSORS))
    made_of = json.dumps([
        __version__, model_digest(checkpoint, cache), repr(checkpoint.image),
        repr(Preprocessing.open(checkpoint)), [[name, weights.shape(name)] for name in names],
    ])  # fmt: skip
    kept = store.recall(made_of)
    if kept is None:
        kept = image_fingerprint(checkpoint)
        store.remember(made_of, kept)
    return kept


def _state(files: Sequence[Path]) -> str | None:
    """What is otherwise once a file has been written; None where nothing tells."""
    if os.name != "posix":
        return None
    now, found = time.time_ns(), []
    for file in files:
        stat = file.stat()
        if now - max(stat.st_mtime_ns, stat.st_ctime_ns) < _SETTLED:
            return None
        times = stat.st_mtime_ns, stat.st_ctime_ns
        found.append([os.path.abspath(file), stat.st_dev, stat.st_ino, stat.st_size, *times])
    return json.dumps(found)
