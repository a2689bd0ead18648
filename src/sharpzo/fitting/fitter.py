"""Fit a classifier to a data set: shared by the command line, the bench and `PromptClassifier`."""

# Callers' code need not be typed:
# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

from sharpzo import __version__, machine
from sharpzo.budget import Budget
from sharpzo.data.dataset import TEMPLATE, Dataset, LabelledPhotos
from sharpzo.detour import detours, fixed_views
from sharpzo.errors import InputError
from sharpzo.evaluate import Evaluation, evaluate
from sharpzo.fitting.answers import Answers
from sharpzo.fitting.forecast import forecast
from sharpzo.fitting.kept import keep_splits, splits_of
from sharpzo.fitting.strangers import LOST, rule_of, strange_record
from sharpzo.fitting.trained import Trained, silent
from sharpzo.memory import Need, parse_size, peak_memory_mb
from sharpzo.methods import Fit, Images, Task, find, fit
from sharpzo.methods.searching import cautions
from sharpzo.methods.zero_shot import zero_shot_head
from sharpzo.settings import as_dict, check_path, flat, integer
from sharpzo.storage.journal import Journal
from sharpzo.storage.record import Inputs, Limits, More, Record, Row
from sharpzo.towers.features import Progress, wanted_views
from sharpzo.towers.open import Towers
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.towers.runtime import Arithmetic, Engine, Runtime
from sharpzo.types import Array, Decoding, Features, Head, Step

_PUBLISHED = "paper", "published", "release"  # presets that begin so
DEFAULT = "ladder+tokens"  # docs/how-to-choose.md says why


@dataclass(frozen=True, eq=False)
class Fitted(Trained):
    """What a fit leaves beside the classifier: its cost, the untuned head, features by split."""

    fit: Fit = field(kw_only=True)
    zero_shot: Head = field(kw_only=True)
    features: Mapping[str, Features] = field(kw_only=True)
    test: LabelledPhotos | None = field(kw_only=True)

    def measure(
        self,
        tests: Mapping[str, LabelledPhotos | None] | None = None,
        beside: Sequence[Fitted] = (),
        progress: Progress = silent,
    ) -> list[Row]:
        """Return a row per method (zero-shot, those ``beside``, this one) and record them.

        A row has the accuracy on the validation photos and on each of ``tests``, which is read
        here and nowhere else; a test set of some of the classes is classified among these, as is
        the custom for ImageNet-A.
        """
        heads = [one.head for one in (self, *beside)]
        return self._record_rows({
            name: self.encode(photos, progress=progress, heads=heads)
            for name, photos in (tests or {}).items()
            if photos is not None
        }, beside)  # fmt: skip

    def forecast(self) -> dict[str, Any] | None:
        """What twice the photos would bring, by `forecast`, which the record learns; None where
        there is no forecast."""
        if not self.method.grows or fixed_views([self.head]):
            return None
        tower = self.towers.text(self.class_names, self.template)
        method, record, train = self.method, self.record, self.features["training"]
        try:
            settings = method.restored(record["preset"], record["settings"])
            found = forecast(method, settings, train, tower, record["seed"])
        finally:
            tower.close()
        if found is not None:
            self.record["more_photos"] = cast(More, found)
        return found

    def evaluate(
        self, split: LabelledPhotos, *, lost: float = LOST, progress: Progress = silent
    ) -> Evaluation:
        """Evaluate on labelled photos; the record learns the accuracy if it is the test split."""
        known, others = split.apart()
        if self.test is None or not _same(known, self.test):
            return super().evaluate(split, lost=lost, progress=progress)
        photos, places = self.encode(known, progress=progress)
        self._record_rows({"test": (photos, places)})
        strange = self.answer(others, progress).complete() if others else None
        found = Answers.of(self.head, self.strangers, known.photos, photos)
        return self.evaluation(found, places[known.labels], strange, lost)

    def _record_rows(
        self, read: Mapping[str, tuple[Features, Array]], beside: Sequence[Fitted] = ()
    ) -> list[Row]:
        rows = [one._row(one.method.name, one.head, one.fit, read) for one in (*beside, self)]
        if (self.method.name, self.record["settings"]) != _ZERO_SHOT:
            rows.insert(0, self._row("zero-shot", self.zero_shot, None, read))
        untuned, tuned = next(row for row in rows if row["method"] == "zero-shot"), rows[-1]
        self.record["methods"] = rows
        self.record["validation"]["zero_shot_accuracy"] = untuned["validation"]
        for split in ("test", "shifted"):
            if split == "test" or tuned[split] is not None:
                self.record[split] = {
                    "accuracy": tuned[split], "zero_shot_accuracy": untuned[split],
                }  # fmt: skip
        self.record["peak_memory_mb"] = peak_memory_mb()
        return rows

    def _row(
        self, name: str, head: Head, fit: Fit | None, read: Mapping[str, tuple[Features, Array]]
    ) -> Row:
        validation = self.features.get("validation")
        row: Row = {
            "method": name,
            "forwards": fit.forwards if fit else 1,
            "seconds": fit.seconds if fit else 0.0,
            "validation": evaluate(head, validation).accuracy if validation else None,
            "test": None,
            "shifted": None,
        }
        for split, (photos, places) in read.items():
            row[split] = evaluate(head, photos, places).accuracy
        return row

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "features": {}, "test": None}  # photos stay here


_ZERO_SHOT = "zero-shot", as_dict(find("zero-shot").settings)


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
    ) -> None:
        if settings is not None and not (
            isinstance(settings, Mapping) and all(isinstance(name, str) for name in settings)
        ):
            raise InputError(
                f"settings is {settings!r}; give a dictionary such as {{'search.zo.keep': 0.1}}"
            )
        if not isinstance(budget, Budget | None):
            raise InputError(f"budget is {budget!r}; give sharpzo.Budget(forwards=…)")
        words = {"method": method, "engine": engine, "precision": precision, "template": template}
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
                f"method {self.method.name} needs more than the towers block by block; choose "
                "another method, or leave out the memory limit"
            )
        self.preset, self.settings = preset, self.method.configure(preset, settings)
        self.template, self.seed = template, integer("seed", seed)
        self.budget = budget or Budget()
        self.runtime = Runtime(engine, precision, threads)
        self.cache = None if cache is None else Path(cache).absolute()
        if decoding is None:  # a published figure is that of a published preprocessing
            decoding = "exact" if (preset or "").startswith(_PUBLISHED) else "reduced"
        elif decoding not in get_args(Decoding):
            raise InputError(f"decoding is {decoding!r}; choose {' or '.join(get_args(Decoding))}")
        self.towers = Towers(model, self.runtime, self.memory_limit, decoding=decoding)

    @property
    def planned(self) -> Budget:
        """What a search will spend: the caller's budget, else its settings'."""
        return self.method.plan(self.settings) if self.budget == Budget() else self.budget

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
        method, towers = self.method, self.towers
        splits = {"training": dataset.training()}
        splits |= {"validation": dataset.val} if dataset.val else {}
        splits |= {"none": dataset.none} if dataset.none and method.grows else {}
        views = method.views(self.settings)
        splits |= wanted_views(towers.checkpoint, splits["training"], views, self.seed)
        looks = method.fixed_views(self.settings) if method.fixed_views else frozenset[str]()
        # The text tower comes first: its complaints about class names come before the work.
        tower = towers.text(dataset.class_names, self.template)
        if self.memory_limit is not None:
            need = method.need(self.settings, tower) if method.need else Need()
            after = [dataset.test] if dataset.test else []
            before = [*splits.values(), *(s.seen(v) for v in looks for s in splits.values())]
            after += [photos.seen(view) for view in looks for photos in after]
            towers.plan(tower, need, before=before, after=after)
        history = list[Step]()

        def keep(step: Step) -> None:
            if journal is None:
                history.append(step)
            else:
                journal.append(step)
            listen(step)

        try:
            features = {n: v for n, v in (encoded or {}).items() if n != "views"}
            missing = {
                name: split
                for name, split in splits.items()
                if name not in features or not looks <= features[name].by_view.keys()
            }
            features |= towers.encode(missing, progress, self.cache, (), sorted(looks))
            inputs = self._inputs(dataset, features["training"], tower.fingerprint)
            if journal is not None:
                journal.begin(self._made_of(inputs, features))
            task = Task(
                train=features["training"],
                validation=features.get("validation"),
                tower=tower,
                seed=self.seed,
                budget=self.budget,
                listen=keep,
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
            known = towers.checkpoint.warnings
            warnings = cautions(method, untuned, features, warn, unused, known)
            fitted = fit(method, self.settings, task)
            strange = strange_record(kept, fixed_views([fitted.head]))
            ways = detours([fitted.head])
            if dataset.val and ways:  # what is evaluated on it needs them taken
                features |= towers.encode(
                    {"validation": dataset.val}, progress, self.cache, ways, sorted(looks)
                )
        finally:
            tower.close()
        record: Record = {
            **inputs,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "stopped": fitted.reason.value,
            "forwards": fitted.forwards,
            "steps": fitted.steps,
            "seconds": round(fitted.seconds, 3),
            "peak_memory_mb": peak_memory_mb(),
            "notes": dict(fitted.notes),
            "validation": {"accuracy": fitted.validation_accuracy},
            "test": {"accuracy": None},
            "budget": cast(Limits, as_dict(self.budget)),
            "engine": self.runtime.engine,
            "precision": self.runtime.precision,
            "threads": self.runtime.threads,
            "machine": {"processor": machine.processor(), "blas_kernel": machine.kernel()},
            "image_passes": fitted.image_passes,
            "warnings": warnings,
        }
        record = cast(Record, {**record, **strange})
        found = Fitted(
            method, towers, self.cache, dataset.class_names, fitted.head,
            {**fitted.arrays, **fitted.head.arrays(), **keep_splits(kept)}, record,
            history if journal is None else journal.steps,
            fit=fitted, zero_shot=untuned, features=features, test=dataset.test,
        )  # fmt: skip
        vars(found)["verified"] = True  # it was made with this very model
        return found

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

    def _images(self, splits: Mapping[str, LabelledPhotos]) -> Images:
        sized = {name: self.towers.sized(split) for name, split in splits.items()}
        return Images(
            sized["training"], sized.get("validation"), self.towers.image, sized.get("views")
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


def _same(split: LabelledPhotos, other: LabelledPhotos) -> bool:
    """Whether both are the same photos with the same labels; no file is read."""
    return (
        len(split) == len(other)
        and split.class_names == other.class_names
        and bool((split.labels == other.labels).all())
        and all(
            one.path == two.path and one.pixels is two.pixels
            for one, two in zip(split.photos, other.photos, strict=True)
        )
    )


def _model_id(model: str | Path | None, folder: Path) -> str | None:
    """What finds the checkpoint again from any working directory; None is the embedded model."""
    if model is None:
        return None
    if Path(model).exists():
        return str(Path(model).resolve())
    return f"{str(model).partition('@')[0]}@{folder.name}"  # the hub's commit names its folder
