"""Encode labelled photos to features, by the image tower or from the cache."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from sharpzo.data.dataset import LabelledPhotos, combined
from sharpzo.detour import Detour, PhotoBatch
from sharpzo.errors import PhotoError, PhotosError
from sharpzo.metrics import normalise
from sharpzo.settings import ViewSettings
from sharpzo.towers.checkpoint import Checkpoint, check_finite
from sharpzo.towers.digests import image_digest
from sharpzo.towers.families import image_family
from sharpzo.towers.feature_store import FeatureStore
from sharpzo.towers.image import with_decoding
from sharpzo.towers.image_precision import with_precision
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.types import Array, Decoding, Features, ImagePrecision, ImageTower

if TYPE_CHECKING:
    from PIL.Image import Image

    from sharpzo.towers.tower import OnnxImageTower

T = TypeVar("T")
_KEPT = 128  # photos that are encoded before they are kept: what an interruption costs
_TAKEN = 16  # photos that are in memory before a detour
Progress = Callable[[str, int, int], None]  # split, photos done, photos in all


class Summaries(ImageTower, Protocol):
    """What makes summaries of photos: a tower in this process, or one in a process of its own."""

    def pixels(self, photos: Iterable[Array | Image]) -> Array: ...

    def summaries(
        self, photos: Iterable[Array | Image], progress: Callable[[int], object] | None = None
    ) -> Array: ...


def encode(
    checkpoint: Checkpoint,
    splits: Mapping[str, LabelledPhotos],
    *,
    threads: int | None = None,
    progress: Progress = lambda what, done, total: None,
    cache: Path | None = None,
    detours: Sequence[Detour] = (),
    open_tower: Callable[[], Summaries] | None = None,
    decoding: Decoding = "exact",
    fixed_views: Sequence[str] = (),
    precision: ImagePrecision = "float32",
) -> dict[str, Features]:
    """Encode every split by an `Encoder`, which is gone before returning."""
    if not splits:  # the fingerprint alone reads the whole tower
        return {}
    with Encoder(
        checkpoint, threads, cache, detours, open_tower, decoding, fixed_views, precision
    ) as encoder:
        return encoder(splits, progress)


class Encoder:
    """Splits to features; the image tower is opened when it is needed, and stays until the end.

    The fingerprint of a split's features is the hash of its photos' contents, the image tower and
    the preprocessing. With a ``cache`` folder, photos that were encoded once are read from there,
    each on its own. With ``detours`` every photo takes each of them, too.
    ``open_tower`` gives a tower in place of one in this process; as it rounds otherwise, what it
    makes is kept apart. ``decoding`` is of photos much larger than the tower's input.
    Through each of ``fixed_views`` every photo passes the tower once more: `Features.by_view`.
    ``precision`` is that of a tower in this process; features of each are kept apart.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        threads: int | None = None,
        cache: Path | None = None,
        detours: Sequence[Detour] = (),
        open_tower: Callable[[], Summaries] | None = None,
        decoding: Decoding = "exact",
        fixed_views: Sequence[str] = (),
        precision: ImagePrecision = "float32",
    ) -> None:
        self._store = FeatureStore(cache) if cache else None
        self._tower_is = image_digest(checkpoint, cache)
        self._precision: ImagePrecision = precision
        self._identity = with_precision(with_decoding(self._tower_is, decoding), precision)
        self._checkpoint, self._threads = checkpoint, threads
        self._projection = image_family(checkpoint).projection(checkpoint)
        self._width = self._projection.shape[1]
        self._rows = image_family(checkpoint).rows  # of a photo's summary
        self._least = Preprocessing.open(checkpoint, decoding).least
        self._detours, self._open, self._views = detours, open_tower, fixed_views
        where = " elsewhere" if open_tower else ""
        # "" is straight through the tower to summaries, the others are detours to states.
        marks = {"": f"with patches{where}"} | {one.digest: one.digest + where for one in detours}
        self._keys = {
            way: hashlib.sha256((self._identity + mark).encode()).hexdigest()
            for way, mark in marks.items()
        }
        self._errors: list[PhotoError] = []
        self._elsewhere: Summaries | None = None
        self._here: OnnxImageTower | None = None

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(
        self,
        splits: Mapping[str, LabelledPhotos],
        progress: Progress = lambda what, done, total: None,
    ) -> dict[str, Features]:
        """Encode every split.

        Raises `PhotosError` with all photos of all splits that cannot be read, after the others
        have been encoded and kept.
        """
        found = {name: self.read(split, name, progress) for name, split in splits.items()}
        once = {error.photo: error for _, _, errors in found.values() for error in errors}
        if once:
            raise PhotosError(list(once.values()), sum(map(len, splits.values())))
        return {name: features for name, (features, _, _) in found.items()}

    def read(
        self,
        split: LabelledPhotos,
        name: str,
        progress: Progress = lambda what, done, total: None,
        fixed_views: Sequence[str] | None = None,
    ) -> tuple[Features, list[int], list[PhotoError]]:
        """Return the features of the photos that can be read, which these are (ascending), and the
        errors of the others; ``progress`` is told the ``name``. ``fixed_views`` are those of the
        encoder if not given."""
        views = self._views if fixed_views is None else fixed_views
        self._errors = []
        passed = {
            view: self._states(
                f"{name}, {view}" if view else name,
                (split.seen(view) if view else split).sized(self._least),
                progress,
            )
            for view in ("", *views)
        }
        once = {error.photo: error for error in self._errors}  # views are of the same photos
        rows = sorted(set[int].intersection(*(set(by_row) for by_row, _ in passed.values())))
        seen = {
            view: self._features(split.take(rows), [by_row[row] for row in rows], by)
            for view, (by_row, by) in passed.items()
        }
        by_view = {view: seen[view] for view in views}
        return replace(seen[""], by_view=by_view), rows, list(once.values())

    def _features(
        self, split: LabelledPhotos, digests: list[str], found: Mapping[str, Mapping[str, Array]]
    ) -> Features:
        by = {
            way: np.array([kept[digest] for digest in digests], np.float32).reshape(
                self._shape(way)
            )
            for way, kept in found.items()
        }

        def of_tokens(first: int, end: int) -> Array | None:
            return by[""][:, first:end] if self._rows >= end else None

        return Features(
            normalise(by[""][:, 0] @ self._projection.T),
            split.labels,
            split.class_names,
            hashlib.sha256((combined(digests) + self._identity).encode()).hexdigest(),
            by[""][:, 0],
            {
                one.digest: normalise(
                    by[one.digest] @ self._projection.T if one.projected else by[one.digest]
                )
                for one in self._detours
            },
            tokens=of_tokens(1, 3),
            patches=of_tokens(3, 5),
        )

    def _states(
        self, name: str, split: LabelledPhotos, progress: Progress
    ) -> tuple[dict[int, str], dict[str, dict[str, Array]]]:
        """Return digests of the photos by row, and by way what each of them gives, (R, S) or (S,);
        photos that cannot be read are missing in both and stand in ``_errors``."""
        tried = {row: self._try(photo.digest) for row, photo in enumerate(split.photos)}
        photos = {row: digest for row, digest in tried.items() if digest is not None}
        wanted = set(photos.values())
        found = {
            way: self._kept(key, wanted, way) if self._store else {}
            for way, key in self._keys.items()
        }
        missing = [row for row, digest in photos.items()
                   if any(digest not in by for by in found.values())]  # fmt: skip
        done = len(photos) - len(missing)
        chunk = _KEPT
        if self._detours and missing:
            chunk = self._tower().at_once or _TAKEN
        for first in range(0, len(missing), chunk):
            known = {row: found[""].get(photos[row]) for row in missing[first : first + chunk]}

            def report(more: int, before: int = done + first) -> None:
                progress(name, before + more, len(split))

            took, by = self._pass(split, known, report)
            for way, states in by.items():
                check_finite(states, self._checkpoint, "image tower's states")
                fresh = {photos[row]: one for row, one in zip(took, states, strict=True)}
                found[way] |= fresh
                if self._store:
                    self._store.write(self._keys[way], fresh)
        read = {row: digest for row, digest in photos.items() if digest in found[""]}
        return read, found

    def _kept(self, key: str, photos: set[str], way: str) -> dict[str, Array]:
        assert self._store is not None
        shape = self._shape(way)[1:]
        rows = self._store.read(key, photos, math.prod(shape))
        return {photo: row.reshape(shape) for photo, row in rows.items()}

    def _shape(self, way: str) -> tuple[int, ...]:
        return (-1, self._width) if way else (-1, self._rows, self._width)

    def _pass(
        self,
        split: LabelledPhotos,
        known: Mapping[int, Array | None],
        report: Callable[[int], object],
    ) -> tuple[list[int], dict[str, Array]]:
        """Which rows could be read, and their states by way; ``known`` has some rows' already."""
        took: list[int] = []

        def decoded() -> Iterator[Array | Image]:
            for row in known:
                photo = self._try(split.photos[row].image)
                if photo is not None:
                    took.append(row)
                    yield photo
                    del photo  # before the next one is decoded

        tower = self._tower()
        if not self._detours:
            return took, {"": tower.summaries(decoded(), progress=report)}
        pixels = tower.pixels(decoded())
        if not took:
            return took, {way: np.zeros((0, self._width), np.float32) for way in self._keys}
        there = [summary for row in took if (summary := known[row]) is not None]
        batch = PhotoBatch(tower, pixels, np.stack(there) if len(there) == len(took) else None)
        # Detours first: the pass of the tower that they need also gives the summaries.
        by = {one.digest: one(batch) for one in self._detours}
        report(len(known))
        return took, {"": batch.summaries, **by}

    def _try(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except PhotoError as error:
            self._errors.append(error)
            return None

    def _tower(self) -> Summaries:
        if self._open is not None:
            self._elsewhere = self._elsewhere or self._open()
            return self._elsewhere
        if self._here is None:
            from sharpzo.towers.graph_store import GraphStore
            from sharpzo.towers.tower import OnnxImageTower

            store = self._store
            graphs = GraphStore(store.folder, store.limit) if store else GraphStore(None)
            self._here = OnnxImageTower(
                self._checkpoint, threads=self._threads, graphs=graphs,
                fingerprint=self._tower_is, precision=self._precision,
            )  # fmt: skip
        return self._here

    def close(self) -> None:
        """Release the towers."""
        for one in (self._elsewhere, self._here):
            if one is not None:
                one.close()
        self._checkpoint.weights.release()


def wanted_views(
    checkpoint: Checkpoint, photos: LabelledPhotos, views: ViewSettings | None, seed: int
) -> dict[str, LabelledPhotos]:
    """Return augmented views of photos, as large as the image tower sees these, as a split called
    ``views``; nothing if none are wanted."""
    if views is None:
        return {}
    side = max(Preprocessing.open(checkpoint).size)
    return {"views": photos.views(views.views, side, seed, views.view_scale)}
