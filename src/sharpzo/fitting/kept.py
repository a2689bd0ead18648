"""What a run keeps of the photos that it was fitted to, so that others can be added or forgotten.

Not the photos: of each its features (a few kilobytes, through every view that a fit may choose),
its class, and the SHA-256 of its content. A method in closed form that is fitted again to these is
exactly what a fit to the photos gives, all its choices included. No statistics of a fixed size do
that: z of `token_ladder.py` is scaled to length 1 after the training photos' mean is subtracted, so
every photo that is added changes the rows of all others, and the choices need each row left out.
The products of 1,024 features would also be larger than the features of 400 photos.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sharpzo.data.dataset import NONE, LabelledPhotos
from sharpzo.data.photo import Photo
from sharpzo.errors import ArtifactError
from sharpzo.metrics import normalise
from sharpzo.types import Array, Features

PREFIX = "kept/"  # before the names of its arrays
TRAINING, VALIDATION = "training", "validation"
_FIELDS = ("states", "tokens", "patches")  # of features, what the others are made of


@dataclass(frozen=True, eq=False)
class Split:
    """Features of N photos and the digests of their contents, in hexadecimal."""

    features: Features
    digests: tuple[str, ...]

    def take(self, rows: Array) -> Split:
        """The photos of ``rows`` (indices or booleans)."""
        places: list[int] = np.arange(len(self.digests))[rows].tolist()
        return Split(
            self.features.take(np.array(places, np.int64)), tuple(self.digests[i] for i in places)
        )

    def plus(self, other: Split) -> Split:
        """Both, one after the other; their features name the same classes."""
        return Split(_joined(self.features, other.features), self.digests + other.digests)

    def relabelled(self, places: Array, class_names: tuple[str, ...]) -> Split:
        """The same photos, class k of them now being ``places[k]`` of ``class_names``."""
        return replace(self, features=_relabelled(self.features, places, class_names))


def seen_by_fit(splits: Mapping[str, Split], photos: Iterable[Photo]) -> int | None:
    """How many photos are among those that are kept, by content; None where none are kept."""
    known = {digest for split in splits.values() for digest in split.digests}
    return sum(photo.digest() in known for photo in photos) if known else None


def splits_of(
    photos: Mapping[str, LabelledPhotos], features: Mapping[str, Features]
) -> dict[str, Split]:
    """The splits that are kept, of photos and features by the names of theirs."""
    return {
        name: Split(features[name], tuple(photo.digest() for photo in photos[name].photos))
        for name in (TRAINING, VALIDATION, NONE)
        if name in photos
    }


def keep_splits(splits: Mapping[str, Split]) -> dict[str, Array]:
    """Arrays of an artefact; nothing where features come without states."""
    if any(split.features.states is None for split in splits.values()):
        return {}
    arrays: dict[str, Array] = {}
    for name, split in splits.items():
        digests = b"".join(map(bytes.fromhex, split.digests))
        arrays[f"{PREFIX}{name}/digests"] = np.frombuffer(digests, np.uint8).reshape(-1, 32)
        arrays[f"{PREFIX}{name}/labels"] = split.features.labels
        seen = {"": split.features} | {f"{v}/": one for v, one in split.features.by_view.items()}
        for view, features in seen.items():
            for field in _present(features):
                arrays[f"{PREFIX}{name}/{view}{field}"] = getattr(features, field)
    return arrays


def kept_splits(
    arrays: Mapping[str, Array], class_names: tuple[str, ...], projection: Array
) -> dict[str, Split]:
    """What `keep_splits` kept, an empty dictionary if nothing; ``projection`` (D, S) makes features
    of states. Raises ArtifactError for arrays that do not belong together."""
    parts: dict[str, dict[str, Array]] = {}
    for path, array in arrays.items():
        if path.startswith(PREFIX):
            name, _, field = path.removeprefix(PREFIX).partition("/")
            parts.setdefault(name, {})[field] = array
    found: dict[str, Split] = {}
    for name, own in sorted(parts.items()):
        many = {len(array) for array in own.values()}
        classes = class_names if name != NONE else (NONE,)
        views = {field.rpartition("/")[0] for field in own} - {""}
        damaged = f"the artefact's kept {name} photos are damaged; fit the run again"
        try:
            labels = own["labels"].astype(np.int64)
            digests = tuple(bytes(row).hex() for row in own["digests"])
            features = Features(labels=labels, class_names=classes, **_seen(own, "", projection))
            by_view = {
                view: replace(features, **_seen(own, f"{view}/", projection)) for view in views
            }
            sound = len(many) == 1 and bool(((labels >= 0) & (labels < len(classes))).all())
        except (KeyError, ValueError, TypeError):
            raise ArtifactError(damaged) from None
        if not sound:
            raise ArtifactError(damaged)
        found[name] = Split(replace(features, by_view=by_view), digests)
    return found


def _seen(own: Mapping[str, Array], view: str, projection: Array) -> dict[str, Any]:
    """The arrays of features of photos through a view."""
    fields = {field: own[view + field] for field in _FIELDS if view + field in own}
    return {**fields, "vectors": normalise(fields["states"] @ projection.T)}


def without(splits: Mapping[str, Split], digests: Iterable[str]) -> dict[str, Split]:
    """The splits less the photos of these digests."""
    gone = set(digests)
    return {
        name: split.take(np.array([one not in gone for one in split.digests], bool))
        for name, split in splits.items()
    }


def _joined(one: Features, two: Features) -> Features:
    fields = ("vectors", "labels", *_present(one))
    arrays = {n: np.concatenate([getattr(one, n), getattr(two, n)]) for n in fields}
    by_view = {view: _joined(seen, two.by_view[view]) for view, seen in one.by_view.items()}
    return replace(one, **arrays, by_view=by_view)


def _relabelled(features: Features, places: Array, class_names: tuple[str, ...]) -> Features:
    by_view = {v: _relabelled(one, places, class_names) for v, one in features.by_view.items()}
    labels = places[features.labels]
    return replace(features, labels=labels, class_names=class_names, by_view=by_view)


def _present(features: Features) -> list[str]:
    """The fields that a fit reads: tokens where no patches are known."""
    found = [field for field in _FIELDS if getattr(features, field, None) is not None]
    return [field for field in found if field != "tokens" or "patches" not in found]
