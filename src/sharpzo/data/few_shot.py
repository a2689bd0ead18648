"""Few-shot draws: the rule of CoOp and Dassl, to the photo."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.errors import InputError
from sharpzo.settings import integer

VALIDATION_SHOTS = 4  # a class, as in CoOp: min(shots, 4)
Groups = dict[int, list[int]]  # label -> rows


def draw(dataset: Dataset, shots: int | None, seed: int) -> Dataset:
    """Return ``dataset`` with ``shots`` training photos per class and a small validation split.

    CoOp's rule: with Python's generator seeded once, group ``train`` by label in the order of
    first appearance, sample ``shots`` of each group (all of a group that has fewer), go on in the
    same way with min(``shots``, 4) of ``val``. So published seeds draw the published photos.

    Without a ``val`` split, one is carved from the photos of ``train`` that were not drawn,
    again min(``shots``, 4) a class. A class of n photos, too few for both, holds out n // 5, but
    at least one, and trains on the rest; a class with one photo gets no validation photo. Where
    classes fall short, ``notes`` says so.

    ``shots=None`` takes all photos of ``train`` (less the carved ones) and of ``val``. The test
    split is handed on untouched; Python's global generator is never used.

    Raises `InputError` if ``shots`` is below 1, ``seed`` is not an integer, or there are no
    training photos.
    """
    if shots is not None:
        shots = integer("shots", shots)
        if shots < 1:
            raise InputError(f"shots is {shots}; give 1 or more photos per class")
    rng = random.Random(integer("seed", seed))
    whole = dataset.training()
    if dataset.val is None:
        drawn, held = _carve(_groups(whole), shots, rng)
        val = dataset.train.take(held) if held else None
        few = replace(dataset, train=whole.take(drawn), val=val)
    elif shots is None:
        few = dataset
    else:
        train = _few(whole, shots, rng)
        val = _few(dataset.val, min(shots, VALIDATION_SHOTS), rng)
        few = replace(dataset, train=train, val=val)
    notes = (*dataset.notes, *_notes(few, shots, dataset.val is None))
    return replace(few, notes=notes, shots=shots)


def _groups(split: LabelledPhotos) -> Groups:
    groups: Groups = {}
    for row, label in enumerate(split.labels.tolist()):
        groups.setdefault(label, []).append(row)
    return groups


def _few(split: LabelledPhotos, count: int, rng: random.Random) -> LabelledPhotos:
    groups = _groups(split)
    return split.take(_sample(groups, dict.fromkeys(groups, count), rng))


def _sample(groups: Groups, counts: Mapping[int, int], rng: random.Random) -> list[int]:
    """Return sampled rows, group after group; as in Dassl, a short group consumes no randomness."""
    drawn: list[int] = []
    for label, rows in groups.items():
        drawn += rng.sample(rows, counts[label]) if len(rows) >= counts[label] else rows
    return drawn


def _carve(groups: Groups, shots: int | None, rng: random.Random) -> tuple[list[int], list[int]]:
    """Return the rows for training and for validation; the two never meet."""
    held = {label: _held_out(len(rows), shots or len(rows)) for label, rows in groups.items()}
    kept = {label: min(shots or len(r), len(r) - held[label]) for label, r in groups.items()}
    drawn = _sample(groups, kept, rng)
    taken = set(drawn)
    rest = {label: [row for row in rows if row not in taken] for label, rows in groups.items()}
    return drawn, _sample(rest, held, rng)


def _held_out(n: int, shots: int) -> int:
    """Return how many of a class's n photos validate: what training leaves, or a fifth."""
    if n < 2:
        return 0
    return min(shots, VALIDATION_SHOTS, max(n - shots, n // 5, 1))


def _notes(few: Dataset, shots: int | None, carved: bool) -> list[str]:
    notes = []
    counts = few.train.counts()
    short = [i for i, n in enumerate(counts) if shots and n < shots]
    if short:
        notes.append(
            f"{len(short)} of {len(counts)} classes have fewer than {shots} training photos; the "
            f"fewest: {counts.min()} of {few.class_names[int(counts.argmin())]!r}"
        )
    if carved and few.val is None:
        notes.append("no class has a photo to spare for validation: there is no validation split")
    elif carved and few.val is not None:
        notes.append(f"{len(few.val)} training photos were set aside for validation")
    if few.val is not None:
        missing = [few.class_names[i] for i, n in enumerate(few.val.counts()) if n == 0]
        if missing:
            notes.append(
                f"{len(missing)} of {len(counts)} classes have no validation photo, "
                f"{missing[0]!r} first"
            )
    return notes
