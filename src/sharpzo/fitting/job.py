"""What a fit was asked for, as a run folder keeps it until the run is finished."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from sharpzo.budget import Budget
from sharpzo.data.dataset import NONE, TEMPLATE, Dataset, LabelledPhotos, strange
from sharpzo.data.few_shot import half_of
from sharpzo.data.loading import gather, load, read
from sharpzo.data.photo_check import check, duplicates, without
from sharpzo.errors import ArtifactError, InputError, PhotosError
from sharpzo.fitting.fitter import DEFAULT, Fitter
from sharpzo.methods import find
from sharpzo.storage.artifact import digest_values
from sharpzo.storage.claim import STARTED, read_started
from sharpzo.towers.feature_store import FeatureStore
from sharpzo.towers.runtime import Arithmetic, Engine, cores
from sharpzo.types import Decoding, ImagePrecision
from sharpzo.wording import utf8


@dataclass(frozen=True)
class Job:
    """The options of ``sharpzo fit``, which `PromptClassifier` shares; paths are absolute.

    ``data`` None: photos that only the program knows that began the fit. ``plugin`` is not loaded:
    the document of a stranger may name any code.

    >>> Job("/photos", shots=4).document()[:19]
    b'{"data": "/photos",'
    """

    data: str | None = None
    dataset: str | None = None
    shots: int | None = None
    labels: str | None = None
    half: Literal["base", "new"] | None = None
    none: str | None = None
    test_on: str | None = None
    test_on_dataset: str | None = None
    skip_damaged: bool = False
    plugin: tuple[str, ...] = ()
    method: str = DEFAULT
    preset: str | None = None
    settings: dict[str, Any] | None = None
    model: str | None = None
    template: str = TEMPLATE
    seed: int = 1
    budget_forwards: int | None = None
    budget_seconds: float | None = None
    budget_steps: int | None = None
    threads: int | None = None
    engine: Engine = "onnxruntime"
    precision: Arithmetic = "float32"
    cache: str | None = None
    memory_limit: str | int | None = None
    decoding: Decoding | None = None
    image_size: int | None = None
    image_precision: ImagePrecision = "float32"

    def document(self) -> bytes:
        """As JSON, with its hash."""
        values = json.loads(json.dumps(asdict(self), default=_plain))
        whole = values | {"record_sha256": digest_values(values)}
        return utf8(json.dumps(whole, ensure_ascii=False))

    @classmethod
    def of(cls, folder: Path) -> Job:
        """What the fit was asked for that was stopped in a folder; ArtifactError if none was."""
        try:
            values = json.loads(read_started(folder))
            found, digest = msgspec.convert(values, cls), digest_values(values)
            if values.get("record_sha256", digest) != digest:  # early fits have none
                raise ValueError("it was changed after it was written")
            return found
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{folder / STARTED} is damaged ({error}); fit again") from None

    @classmethod
    def of_parameters(
        cls, parameters: Mapping[str, Any], data: str | None, shots: int | None
    ) -> Job:
        """What `PromptClassifier` was asked for."""
        budget = parameters["budget"] or Budget()
        limits = {f"budget_{name}": value for name, value in vars(budget).items()}
        rest = {name: value for name, value in parameters.items() if name != "budget"}
        for name in ("model", "cache"):
            rest[name] = absolute(rest[name])
        return cls(data=absolute(data), shots=shots, **rest, **limits)

    def parameters(self) -> dict[str, Any]:
        """Those of a `Fitter` and of a `PromptClassifier`."""
        budget = Budget(self.budget_forwards, self.budget_seconds, self.budget_steps)
        return {
            "method": self.method, "preset": self.preset, "settings": self.settings,
            "model": self.model, "template": self.template, "seed": self.seed,
            "budget": None if budget == Budget() else budget, "threads": self.threads,
            "engine": self.engine, "precision": self.precision, "cache": self.cache,
            "memory_limit": self.memory_limit, "decoding": self.decoding,
            "image_size": self.image_size, "image_precision": self.image_precision,
        }  # fmt: skip

    def photos(self) -> tuple[Dataset, Dataset | None]:
        """What to fit, and the second test set if there is one."""
        data, labels, test_on = map(_from_here, (self.data, self.labels, self.test_on))
        none = _from_here(self.none)
        assert data is not None
        found = half_of(load(data, self.dataset, self.shots, self.seed, labels), self.half)
        if none is not None:
            counter = (*(found.none.photos if found.none else ()), *gather([none]))
            found = replace(found, none=strange(counter))
        return found, None if test_on is None else read(test_on, self.test_on_dataset)

    def usable(
        self,
        photos: Dataset,
        shifted: Dataset | None,
        fitter: Fitter,
        progress: Callable[[int, int], object] = lambda done, total: None,
    ) -> tuple[Dataset, Dataset | None]:
        """Both data sets without the photos that cannot be used, if these may be skipped.

        Notes list them, and which photos are there twice. Raises `PhotosError` if there are some
        and they may not.
        """
        sized_to = fitter.suit(photos)
        sized = fitter.towers.sized
        splits = {name: sized(split) for name, split in _splits(photos, shifted).items()}
        known = FeatureStore(fitter.cache).known if fitter.cache else _none
        threads = 1 if fitter.memory_limit else fitter.runtime.threads or cores()
        found = check(splits, known, threads, progress)
        if found.errors and not self.skip_damaged:
            raise PhotosError(
                found.errors,
                len({photo.name for split in splits.values() for photo in split.photos}),
                "Mend or remove them, or leave them out with --skip-damaged.",
            )
        photos = without(photos, found.errors)
        shifted = shifted and without(shifted, found.errors)
        notes = duplicates(_splits(photos, shifted), found.digests)
        notes += (sized_to,) if sized_to else ()
        return replace(photos, notes=photos.notes + notes), shifted


def passes(views: str | None, name: str) -> dict[str, int]:
    """What ``--views`` sets of a method; InputError for anything else, and for more than one pass
    of a method that reads photos as they are.

    >>> passes("auto", "ladder+tokens"), passes("2", "ladder+tokens"), passes(None, "gda")
    ({'views': 4}, {'views': 2}, {})
    >>> passes("1", "gda")
    {}
    """
    if views is None:
        return {}
    if views != "auto" and not (views.isascii() and views.isdigit() and int(views) > 0):
        raise InputError(f"--views is {views!r}; give auto, or a number of at least 1")
    many = 4 if views == "auto" else int(views)
    if find(name).fixed_views is not None:
        return {"views": many}
    if many > 1:
        raise InputError(f"--views is for ladder+tokens, not for {name}; leave it out")
    return {}  # what `ViewSettings` call views are others: crops of the training photos


def absolute(path: str | os.PathLike[str] | None) -> str | None:
    """A path as it is found from any folder; what is no path, such as a hub id, stays."""
    if path is None or not os.path.exists(path):
        return path if path is None else os.fspath(path)
    return os.path.abspath(path)


def _from_here(path: str | None) -> str | None:
    """A path below the current folder as people write it, and as messages name it."""
    if path is None or not Path(path).is_relative_to(Path.cwd()):
        return path
    return os.path.relpath(path)


def _plain(value: Any) -> Any:
    """Numbers of NumPy and paths, as JSON has them."""
    return value.item() if hasattr(value, "item") else str(value)


def _none(digests: Iterable[str]) -> set[str]:
    return set()


def _splits(photos: Dataset, shifted: Dataset | None) -> dict[str, LabelledPhotos]:
    more = {NONE: photos.none, "shifted test": shifted and (shifted.test or shifted.train)}
    return photos.splits | {name: split for name, split in more.items() if split}
