"""Fit a classifier to a data set: shared by the command line, the bench and `PromptClassifier`."""

# Callers' code need not be typed:
# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from copy import copy
from pathlib import Path
from typing import Any, cast, get_args

from sharpzo import __version__, machine
from sharpzo.budget import Budget
from sharpzo.data.dataset import TEMPLATE, Dataset, LabelledPhotos
from sharpzo.data.photo import FIXED_VIEWS
from sharpzo.detour import detours, fixed_views
from sharpzo.errors import InputError
from sharpzo.fitting.fitted import Fitted
from sharpzo.fitting.kept import keep_splits, splits_of
from sharpzo.fitting.strangers import rule_of, strange_record
from sharpzo.fitting.trained import silent
from sharpzo.memory import Need, parse_size, peak_memory_mb
from sharpzo.methods import Fit, Images, Task, find, fit
from sharpzo.methods.searching import cautions
from sharpzo.methods.zero_shot import zero_shot_head
from sharpzo.settings import as_dict, check_path, flat, integer
from sharpzo.storage.journal import Journal
from sharpzo.storage.record import Inputs, Record
from sharpzo.towers.features import Progress, wanted_views
from sharpzo.towers.image_precision import parse_precision, require
from sharpzo.towers.open import Towers
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.towers.runtime import Arithmetic, Engine, Runtime
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Decoding, Features, ImagePrecision, Step

_PUBLISHED = "paper", "published", "release"  # presets that begin so
DEFAULT = "ladder+tokens"  # docs/how-to-choose.md says why


class Fitter:
    """A method with its settings, a model and a budget, checked: what fits data sets.

    Parameters are those of `PromptClassifier`; raises InputError for what cannot be used.
    """

    def __init__(
        self,
        method: str = DEFAULT,
        *,
        preset: str | None = None,
        settings: Mapping[str, Any] | None = None,
        model: str | Path | None = None,
        template: str = TEMPLATE,
        seed: int = 1,
        budget: Budget | None = None,
        threads: int | None = None,
        engine: Engine = "onnxruntime",
        precision: Arithmetic = "float32",
        cache: str | Path | None = None,
        memory_limit: str | int | None = None,
        decoding: Decoding | None = None,
        image_size: int | None = None,
        image_precision: ImagePrecision = "float32",
    ) -> None:
        if settings is not None and not (
            isinstance(settings, Mapping) and all(isinstance(name, str) for name in settings)
        ):
            raise InputError(
                f"settings is {settings!r}; give a dictionary such as {{'search.zo.keep': 0.1}}"
            )
        if not isinstance(budget, Budget | None):
            raise InputError(f"budget is {budget!r}; give sharpzo.Budget(forwards=…)")
        words = {"method": method, "engine": engine, "precision": precision, "template": template,
                 "image_precision": image_precision}  # fmt: skip
        words |= {n: v for n, v in (("preset", preset), ("decoding", decoding)) if v is not None}
        for name, value in words.items():
            if not isinstance(value, str):
                raise InputError(f"{name} is {value!r}; give a string")
        if any("\ud800" <= character <= "\udfff" for character in template):
            raise InputError(f"template is {template!r}, which is no UTF-8; write it anew")
        for name, value in (("model", model), ("cache", cache)):
            check_path(name, value)
        self.method = find(method)
        self.memory_limit = None if memory_limit is None else parse_size(memory_limit)
        if self.memory_limit is not None and self.method.need is None:
            raise InputError(
                f"method {self.method.name} needs the whole model in memory; choose "
                "another method, or leave out the memory limit"
            )
        parse_precision(image_precision)
        if image_precision != "float32":
            if self.memory_limit is not None:
                raise InputError(
                    "under a memory limit the image tower is computed block by block in float32, "
                    f"not in {image_precision}; leave out one of them"
                )
            if self.method.images:
                raise InputError(
                    f"method {self.method.name} passes photos through the image tower while it is "
                    f"fitted, which is done in float32; leave out image_precision {image_precision}"
                )
            require(image_precision)
        self.preset, self.settings = preset, self.method.configure(preset, settings)
        self.template, self.seed = template, integer("seed", seed)
        self.budget = budget or Budget()
        self.runtime = Runtime(engine, precision, threads)
        self.cache = None if cache is None else Path(cache).absolute()
        if decoding is None:  # a published figure is that of a published preprocessing
            decoding = "exact" if (preset or "").startswith(_PUBLISHED) else "reduced"
        elif decoding not in get_args(Decoding):
            raise InputError(f"decoding is {decoding!r}; choose {' or '.join(get_args(Decoding))}")
        size = None if image_size is None else integer("image_size", image_size)
        # With exact decoding photos are prepared as the checkpoint says.
        self._size_is_open = size is None and decoding == "reduced"
        self.towers = Towers(
            model, self.runtime, self.memory_limit, decoding=decoding, image_size=size,
            image_precision=image_precision,
        )  # fmt: skip

    @property
    def planned(self) -> Budget:
        """What a search will spend: the caller's budget, else its settings'."""
        return self.method.plan(self.settings) if self.budget == Budget() else self.budget

    def suit(self, dataset: Dataset) -> str | None:
        """Choose the size that photos are read at by those for training, if none was given; return
        a sentence if it is not the model's own."""
        is_open, self._size_is_open = self._size_is_open, False
        if not is_open or self.method.images:  # further passes would take minutes and gigabytes
            return None
        self.towers = self.towers.suited(dataset.train)
        size = self.towers.image_size
        if size is None:
            return None
        return (
            f"photos are read at {size} pixels a side, which is more accurate; --image-size "
            f"{size // 2} takes a quarter of the time"
        )

    def by(self, method: str) -> Fitter:
        """The same by another method, with its own settings; the towers are shared."""
        other = copy(self)
        other.method, other.preset, other.budget = find(method), None, Budget()
        other.settings = other.method.settings
        return other

    def fit(
        self,
        dataset: Dataset,
        *,
        encoded: Mapping[str, Features] | None = None,
        milestones: Sequence[int] = (),
        journal: Journal | None = None,
        listen: Callable[[Step], None] = lambda step: None,
        progress: Progress = silent,
        warn: Callable[[str], None] | None = None,
    ) -> Fitted:
        """Tune on the training photos; the test split is not read.

        ``encoded`` may have the features of "training" and "validation", which are then not encoded
        again. A search keeps its choice at ``milestones`` of forwards. It keeps its steps and its
        state in ``journal`` and goes on from what is in it; ArtifactError if that search was made
        of something else. ``listen`` is called with every validated step, ``progress`` with the
        number of photos encoded, ``warn`` (None: Python's warnings) with reasons for less.
        """
        self.suit(dataset)
        method, towers = self.method, self.towers
        splits, looks = self._splits(dataset), self._looks()
        history = list[Step]()
        keep = history.append if journal is None else journal.append

        def on_step(step: Step) -> None:
            keep(step)
            listen(step)

        # The text tower comes first: its complaints about class names come before the work.
        with closing(towers.text(dataset.class_names, self.template)) as tower:
            method.suits(self.settings, tower)
            self._plan(tower, dataset, splits, looks)
            features = self._encode(splits, looks, encoded or {}, progress)
            inputs = self._inputs(dataset, features["training"], tower.fingerprint)
            if journal is not None:
                journal.begin(self._made_of(inputs, features))
            task = Task(
                train=features["training"],
                validation=features.get("validation"),
                tower=tower,
                seed=self.seed,
                budget=self.budget,
                listen=on_step,
                views=features.get("views"),
                images=self._images(splits) if method.images else None,
                milestones=tuple(milestones),
                # The text tower is compiled at its first forward.
                begin=time.perf_counter() - (0.0 if journal is None else journal.seconds),
                journal=journal,
            )
            untuned = zero_shot_head(tower)
            kept = splits_of(splits, features) if method.grows else {}
            unused = dataset.none is not None and not rule_of(kept)
            less = method.caution(self.settings, features)
            known = [*towers.checkpoint.warnings, *([] if less is None else [less])]
            warnings = cautions(method, untuned, features, warn, unused, known)
            fitted = fit(method, self.settings, task)
            strange = strange_record(kept, fixed_views([fitted.head]))
            ways = detours([fitted.head])
            if dataset.val and ways:  # what is evaluated on it needs them taken
                validation = {"validation": dataset.val}
                features |= towers.encode(validation, progress, self.cache, ways, sorted(looks))
        size = towers.image_size
        sized: dict[str, Any] = {} if size is None else {"image_size": size}
        if towers.image_precision != "float32":
            sized["image_precision"] = towers.image_precision
        record = {**inputs, **sized, **self._outcome(fitted), "warnings": warnings, **strange}
        found = Fitted(
            method, towers, self.cache, dataset.class_names, fitted.head,
            {**fitted.arrays, **fitted.head.arrays(), **keep_splits(kept)},
            cast(Record, record), history if journal is None else journal.steps,
            fit=fitted, zero_shot=untuned, features=features, test=dataset.test,
        )  # fmt: skip
        vars(found)["verified"] = True  # it was made with this very model
        return found

    def _splits(self, dataset: Dataset) -> dict[str, LabelledPhotos]:
        """The photos that are read for a fit, by name; the test split is not among them."""
        splits = {"training": dataset.training()}
        splits |= {"validation": dataset.val} if dataset.val else {}
        splits |= {"none": dataset.none} if dataset.none and self.method.grows else {}
        views = self.method.views(self.settings)
        return splits | wanted_views(self.towers.checkpoint, splits["training"], views, self.seed)

    def _looks(self) -> frozenset[str]:
        """The fixed views through which the method reads each photo."""
        fixed = self.method.fixed_views
        return fixed(self.settings) if fixed else frozenset()

    def _plan(
        self,
        tower: OnnxTextTower,
        dataset: Dataset,
        splits: Mapping[str, LabelledPhotos],
        looks: frozenset[str],
    ) -> None:
        """Find room under the memory limit, if there is one, for all that will be read."""
        if self.memory_limit is None:
            return
        need = self.method.need(self.settings, tower) if self.method.need else Need()
        after = [dataset.test] if dataset.test else []
        before = [*splits.values(), *(s.seen(v) for v in looks for s in splits.values())]
        after += [photos.seen(view) for view in looks for photos in after]
        if self.method.images:  # photos pass the tower again, through views of the method's choice
            after += [*before, *(s.seen(v) for v in FIXED_VIEWS for s in splits.values())]
        self.towers.plan(tower, need, before=before, after=after)

    def _encode(
        self,
        splits: Mapping[str, LabelledPhotos],
        looks: frozenset[str],
        encoded: Mapping[str, Features],
        progress: Progress,
    ) -> dict[str, Features]:
        """Features of all splits, those already ``encoded`` among them."""
        known = {name: found for name, found in encoded.items() if name != "views"}
        missing = {
            name: split
            for name, split in splits.items()
            if name not in known or not looks <= known[name].by_view.keys()
        }
        return known | self.towers.encode(missing, progress, self.cache, (), sorted(looks))

    def _made_of(self, inputs: Inputs, features: Mapping[str, Features]) -> dict[str, Any]:
        """What a search depends on, by the names that a person is told."""
        photos = {
            f"{name if name != 'views' else 'augmented'} photos":
            hashlib.sha256(split.fingerprint.encode() + split.labels.tobytes()).hexdigest()
            for name, split in features.items()
        }  # fmt: skip
        return {
            "sharpzo": __version__,
            "model": inputs["model"]["sha256"],
            "text tower": inputs["model"].get("text_sha256"),
            "class names": inputs["class_names"],
            "template": self.template,
            "method": self.method.name,
            **{f"setting {name}": value for name, value in flat(inputs["settings"])},
            "seed": self.seed,
            **photos,
            "budget": as_dict(self.budget),
            "engine": self.runtime.engine,
            "precision": self.runtime.precision,
            "threads": self.runtime.threads,
            "memory limit": self.memory_limit,
        }

    def _outcome(self, fitted: Fit) -> dict[str, Any]:
        """What the fit has cost and found, and on what."""
        return {
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "stopped": fitted.reason.value,
            "forwards": fitted.forwards,
            "steps": fitted.steps,
            "seconds": round(fitted.seconds, 3),
            "peak_memory_mb": peak_memory_mb(),
            "notes": dict(fitted.notes),
            "validation": {"accuracy": fitted.validation_accuracy},
            "test": {"accuracy": None},
            "budget": as_dict(self.budget),
            "engine": self.runtime.engine,
            "precision": self.runtime.precision,
            "threads": self.runtime.threads,
            "machine": {"processor": machine.processor(), "blas_kernel": machine.kernel()},
            "image_passes": fitted.image_passes,
        }

    def _images(self, splits: Mapping[str, LabelledPhotos]) -> Images:
        sized = {name: self.towers.sized(split) for name, split in splits.items()}
        return Images(
            sized["training"], sized.get("validation"), self.towers.searched, sized.get("views")
        )

    def _inputs(self, dataset: Dataset, training: Features, text_fingerprint: str) -> Inputs:
        checkpoint = self.towers.checkpoint
        return {
            "sharpzo_version": __version__,
            "model": {
                "id": _model_id(self.towers.model, checkpoint.folder),
                "sha256": checkpoint.fingerprint,
                "text_sha256": text_fingerprint,
            },
            "class_names": list(dataset.class_names),
            "template": self.template,
            "preprocessing": as_dict(Preprocessing.open(checkpoint, self.towers.decoding)),
            "method": self.method.name,
            "preset": self.preset,
            "settings": as_dict(self.settings),
            "seed": self.seed,
            "data": {
                "source": dataset.source,
                "shots": dataset.shots,
                "training_photos": len(dataset.train),
                "training_sha256": training.fingerprint,
                "validation_photos": len(dataset.val or ()),
                "test_photos": len(dataset.test or ()),
                "notes": list(dataset.notes),
                "skipped": dataset.remarks()["skipped"],
            },
        }


def _model_id(model: str | Path | None, folder: Path) -> str | None:
    """What finds the checkpoint again from any working directory; None is the embedded model."""
    if model is None:
        return None
    if Path(model).exists():
        return str(Path(model).resolve())
    return f"{str(model).partition('@')[0]}@{folder.name}"  # the hub's commit names its folder
