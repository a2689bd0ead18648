"""Add photos and classes to a trained classifier, or forget photos, without the other photos.

The method is fitted again to the features that the run keeps (`kept.py`), with the run's settings:
what comes out is what a fit to all of these photos gives, whatever way they came.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from sharpzo.data.dataset import NONE, LabelledPhotos, class_name
from sharpzo.data.photo import Photo
from sharpzo.detour import fixed_views
from sharpzo.errors import ArtifactError, InputError
from sharpzo.fitting.kept import PREFIX, TRAINING, VALIDATION, Split, keep_splits, without
from sharpzo.fitting.strangers import strange_record
from sharpzo.fitting.trained import OF_THE_FIT, Trained, silent
from sharpzo.methods import Task, fit
from sharpzo.storage.record import Record
from sharpzo.towers.features import Progress
from sharpzo.wording import some


@dataclass(frozen=True, eq=False)
class Grown:
    """The classifier after a change, how many photos changed it, and sentences about the rest."""

    trained: Trained
    photos: int
    notes: tuple[str, ...]


def add(
    trained: Trained,
    photos: Sequence[Photo],
    labels: Sequence[str | int],
    *,
    progress: Progress = silent,
) -> Grown:
    """Fit to these photos, too; their labels may name new classes, and "none" counter-examples.

    Photos that the run has already are passed over. Raises InputError for one that is of another
    class there, ArtifactError for a run that keeps nothing of its photos, and what encoding raises.
    """
    splits = _splits(trained)
    if len(photos) != len(labels):
        raise InputError(f"there are {len(photos)} photos and {len(labels)} labels; give one each")
    words = _words(trained, labels)
    digests = [photo.digest() for photo in photos]
    rows = _new_rows(splits, photos, digests, words)
    old = [photos[i].name for i in sorted({*range(len(photos))} - {*rows})]
    notes = (
        [
            f"passed over {len(old):,} of {len(photos):,} photos, in the run already or given "
            f"twice: {some(old)}"
        ]
        if old
        else []
    )
    if not rows:
        return Grown(trained, 0, tuple(notes))
    given = dict.fromkeys(words[i] for i in rows)
    new = [word for word in given if word not in (*trained.class_names, NONE)]
    if new and not isinstance(trained.classes.tolist()[0], str):
        raise InputError(
            f"{new[0]!r} is a new class, and this run's labels are numbers, of which none "
            "stands for it; add photos of its own classes, or fit again"
        )
    names = (*trained.class_names, *new)
    split = LabelledPhotos(
        tuple(photos[i] for i in rows),
        np.array([(*names, NONE).index(words[i]) for i in rows], np.int64),
        (*names, NONE),
    )
    settings = trained.method.restored(trained.record["preset"], trained.record["settings"])
    looks = trained.method.fixed_views
    features = trained.encoded(split, progress, sorted(looks(settings) if looks else ()))
    found = Split(features, tuple(digests[i] for i in rows))
    strange = split.labels == len(names)
    same = np.arange(len(trained.class_names))
    splits = {n: s if n == NONE else s.relabelled(same, names) for n, s in splits.items()}
    if not strange.all():
        known = found.take(~strange).relabelled(np.arange(len(names) + 1), names)
        splits[TRAINING] = splits[TRAINING].plus(known)
    if strange.any():
        other = found.take(strange).relabelled(np.zeros(len(names) + 1, np.int64), (NONE,))
        splits[NONE] = splits[NONE].plus(other) if NONE in splits else other
    return Grown(_fitted(trained, splits, names), len(rows), tuple(notes))


def forget(trained: Trained, photos: Iterable[Photo]) -> Grown:
    """Fit without these photos, which the run knows by their content; a class that is left without
    any is gone.

    Raises InputError for a photo that the run does not have, and if fewer than two classes are
    left; ArtifactError as `add`.
    """
    splits = _splits(trained)
    gone = {photo.digest(): photo.name for photo in photos}
    there = {digest for split in splits.values() for digest in split.digests}
    unknown = [name for digest, name in gone.items() if digest not in there]
    if unknown:
        raise InputError(
            f"the run was not fitted to {some(unknown)}; nothing was forgotten. It knows photos by "
            "the content of their files"
        )
    left = without(splits, gone)
    counts = np.bincount(left[TRAINING].features.labels, minlength=len(trained.class_names))
    before = np.bincount(splits[TRAINING].features.labels, minlength=len(counts))
    lost = (counts == 0) & (before > 0)
    names = tuple(name for name, out in zip(trained.class_names, lost, strict=True) if not out)
    if len(names) < 2:
        raise InputError("fewer than two classes would have photos; remove the run instead")
    places = np.cumsum(~lost) - 1
    for name in (TRAINING, VALIDATION):
        if name in left:
            stays = left[name].take(~lost[left[name].features.labels])
            left[name] = stays.relabelled(places, names)
    dropped = [name for name, out in zip(trained.class_names, lost, strict=True) if out]
    notes = [f"classes without a training photo are gone: {some(dropped)}"] if dropped else []
    return Grown(_fitted(trained, left, names), len(gone), tuple(notes))


def _words(trained: Trained, labels: Sequence[str | int]) -> list[str]:
    """The class name of each label; InputError for a number where labels are names."""
    named = isinstance(trained.classes.tolist()[0], str)
    number = next((label for label in labels if named and not isinstance(label, str)), None)
    if number is not None:
        raise InputError(f"the label {number!r} is a number, and this run's are names; give a name")
    return [class_name(str(label), f"the class {label!r}") for label in labels]


def _new_rows(
    splits: Mapping[str, Split], photos: Sequence[Photo], digests: Sequence[str],
    words: Sequence[str],
) -> list[int]:  # fmt: skip
    """Which photos no split has, each once; InputError for a photo of two classes."""
    there: dict[str, set[str]] = {}
    for split in splits.values():
        labels: list[int] = split.features.labels.tolist()
        for digest, label in zip(split.digests, labels, strict=True):
            there.setdefault(digest, set()).add(split.features.class_names[label])
    first: dict[str, int] = {}
    for i, (photo, digest, word) in enumerate(zip(photos, digests, words, strict=True)):
        if digest in there and word not in there[digest]:
            raise InputError(
                f"photo {photo.name} is in the run as {some(sorted(there[digest]))}, not as "
                f"{word}; to change its class, forget it first. Nothing was added"
            )
        if digest not in there and words[first.setdefault(digest, i)] != word:
            raise InputError(
                f"photo {photo.name} is given as {words[first[digest]]} and as {word}; give it one "
                "class. Nothing was added"
            )
    return list(first.values())


def _splits(trained: Trained) -> dict[str, Split]:
    if TRAINING not in trained.splits:
        raise ArtifactError(
            f"the run keeps nothing of its photos (method {trained.method.name}, sharpzo "
            f"{trained.record['sharpzo_version']}), so none can be added or forgotten; the default "
            "method keeps their features, under the class names of the fit: fit again"
        )
    return dict(trained.splits)


def _fitted(trained: Trained, splits: Mapping[str, Split], names: tuple[str, ...]) -> Trained:
    """The method of a classifier fitted to other features, with what its record says of it."""
    splits = {name: split for name, split in splits.items() if len(split.digests)}
    method, record = trained.method, trained.record
    settings = method.restored(record["preset"], record["settings"])
    tower = trained.towers.text(names, trained.template)
    begin = time.perf_counter()
    validation = splits[VALIDATION].features if VALIDATION in splits else None
    try:
        task = Task(splits[TRAINING].features, validation, tower, record["seed"])
        fitted = fit(method, settings, task)
        text_sha256 = tower.fingerprint
    finally:
        tower.close()
    others = {name: value for name, value in record.items() if name not in OF_THE_FIT}
    if "labels" in record:
        shown = dict(zip(trained.class_names, record["labels"], strict=True))
        others["labels"] = [shown.get(name, name) for name in names]
    updated: dict[str, Any] = {
        **others,
        **strange_record(splits, fixed_views([fitted.head])),
        "model": {**record["model"], "text_sha256": text_sha256},
        "class_names": list(names),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.perf_counter() - begin, 3),
        "notes": dict(fitted.notes),
        "validation": {"accuracy": fitted.validation_accuracy},
        "test": {"accuracy": None},
        "data": {
            **{n: value for n, value in record["data"].items() if n != "training_sha256"},
            "training_photos": len(splits[TRAINING].digests),
            "validation_photos": 0 if validation is None else len(validation),
            "notes": [],  # those of the fit name photos, which may be forgotten now
            "skipped": [],
        },
    }
    arrays = {
        **{name: array for name, array in trained.arrays.items() if not name.startswith(PREFIX)},
        **fitted.arrays,
        **fitted.head.arrays(),
        **keep_splits(splits),
    }
    found = Trained(
        method, trained.towers, trained.cache, names, fitted.head, arrays, cast(Record, updated),
        trained.history,
    )  # fmt: skip
    vars(found)["verified"] = True
    return found
