"""From a data set to a trained classifier: what the command line, the bench and
`PromptClassifier` have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sharpzo import __version__
from sharpzo.budget import Budget
from sharpzo.data.dataset import TEMPLATE, Dataset, LabelledPhotos
from sharpzo.detour import Detour, detours
from sharpzo.errors import InputError
from sharpzo.evaluate import AmongSome, Evaluation, evaluate
from sharpzo.memory import Need, parse_size, peak_memory_mb
from sharpzo.methods import Fit, Images, Method, Task, find, fit
from sharpzo.methods.searching import cautions
from sharpzo.methods.zero_shot import zero_shot_head
from sharpzo.settings import as_dict, check_path, integer
from sharpzo.towers.features import Progress, wanted_views
from sharpzo.towers.open import Towers
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.towers.runtime import Arithmetic, Engine, Runtime
from sharpzo.trained import Trained, among, silent
from sharpzo.types import Array, Features, Head, Step

DEFAULT = "ladder+gda"  # docs/how-to-choose.md says why
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Fitted(Trained):
    """What a fit leaves beside the classifier: its cost, the untuned head, features by split."""

    fit: Fit = field(kw_only=True)
    settings: Any = field(kw_only=True)
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
        ways = detours([one.head for one in (self, *beside)])
        read = {
            name: self.encode(photos, progress=progress, ways=ways)
            for name, photos in (tests or {}).items()
            if photos is not None
        }
        return self._record_rows(read, beside)

    def evaluate(self, split: LabelledPhotos, *, progress: Progress = silent) -> Evaluation:
        """Evaluate on labelled photos; the record learns the accuracy if it is the test split."""
        photos, places = self.encode(split, progress=progress)
        if self.test is not None and _same(split, self.test):
            self._record_rows({"test": (photos, places)})
        return evaluate(self.head, among(photos, places, self.class_names))

    def _record_rows(
        self, read: Mapping[str, tuple[Features, Array]], beside: Sequence[Fitted] = ()
    ) -> list[Row]:
        rows = [self._row("zero-shot", self.zero_shot, 1, 0.0, read)]
        if self.method.name == "zero-shot" and self.settings == self.method.settings:
            rows = []  # the row of the method itself
        for one in (*beside, self):
            forwards, seconds = one.fit.forwards, one.fit.seconds
            rows.append(one._row(one.method.name, one.head, forwards, seconds, read))
        untuned, tuned = next(row for row in rows if row["method"] == "zero-shot"), rows[-1]
        self.record["methods"] = rows
        self.record["validation"]["zero_shot_accuracy"] = untuned["validation"]
        for split in ("test", "shifted"):
            if split == "test" or tuned[split] is not None:
                found = {"accuracy": tuned[split], "zero_shot_accuracy": untuned[split]}
                self.record[split] = found
        self.record["peak_memory_mb"] = peak_memory_mb()
        return rows

    def _row(
        self, name: str, head: Head, forwards: int, seconds: float,
        read: Mapping[str, tuple[Features, Array]],
    ) -> Row:  # fmt: skip
        validation = self.features.get("validation")
        row = {"method": name, "forwards": forwards, "seconds": seconds}
        row["validation"] = validation and evaluate(head, validation).accuracy
        row |= {"test": None, "shifted": None}
        for split, (photos, places) in read.items():
            row[split] = evaluate(AmongSome(head, places), photos).accuracy
        return row

    def _detours(self) -> list[Detour]:
        return _detours(self.fit)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "features": {}, "test": None}  # photos stay here


@dataclass(frozen=True, eq=False)
class Fitter:
    """A method with its settings, a model and a budget, checked: what fits data sets."""

    method: Method
    settings: Any
    preset: str | None
    template: str
    seed: int
    budget: Budget
    runtime: Runtime
    model: str | Path | None
    cache: Path | None
    memory_limit: int | None

    @classmethod
    def of(
        cls,
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
    ) -> Fitter:
        """Check parameters as `PromptClassifier` has them; raises InputError."""
        if settings is not None and not (
            isinstance(settings, Mapping) and all(isinstance(name, str) for name in settings)
        ):
            raise InputError(
                f"settings is {settings!r}; give a dictionary such as {{'search.zo.keep': 0.1}}"
            )
        if not isinstance(budget, Budget | None):
            raise InputError(f"budget is {budget!r}; give sharpzo.Budget(forwards=…)")
        words = {"method": method, "engine": engine, "precision": precision, "template": template}
        for name, value in (words | ({} if preset is None else {"preset": preset})).items():
            if not isinstance(value, str):
                raise InputError(f"{name} is {value!r}; give a string")
        if any("\ud800" <= character <= "\udfff" for character in template):
            raise InputError(f"template is {template!r}, which is no UTF-8; write it anew")
        for name, value in (("model", model), ("cache", cache)):
            check_path(name, value)
        found = find(method)
        limit = None if memory_limit is None else parse_size(memory_limit)
        if limit is not None and found.need is None:
            raise InputError(
                f"method {found.name} needs more than the towers block by block; choose another "
                "method, or leave out the memory limit"
            )
        return cls(
            found, found.configure(preset, settings), preset, template, integer("seed", seed),
            budget or Budget(), Runtime(engine, precision, threads), model,
            None if cache is None else Path(cache).absolute(), limit,
        )  # fmt: skip

    @property
    def planned(self) -> Budget:
        """What a search will spend: the caller's budget, else its settings'."""
        return self.method.plan(self.settings) if self.budget == Budget() else self.budget

    @cached_property
    def towers(self) -> Towers:
        """Both towers, opened as the memory limit allows."""
        return Towers(self.model, self.runtime, self.memory_limit)

    def by(self, method: str) -> Fitter:
        """The same by another method, with its own settings; the towers are shared."""
        found = find(method)
        other = replace(self, method=found, settings=found.settings, preset=None, budget=Budget())
        other.__dict__["towers"] = self.towers
        return other

    def fit(
        self,
        dataset: Dataset,
        *,
        encoded: Mapping[str, Features] | None = None,
        milestones: Sequence[int] = (),
        listen: Callable[[Step], None] = lambda step: None,
        progress: Progress = silent,
        warn: Callable[[str], None] | None = None,
    ) -> Fitted:
        """Tune on the training photos; the test split is not read.

        ``encoded`` may have the features of "training" and "validation", which are then not encoded
        again. A search keeps its choice at ``milestones`` of forwards. ``listen`` hears every
        validated step, ``progress`` how many photos are encoded, ``warn`` (None: Python's warnings)
        why the method can hardly help.
        """
        towers = self.towers
        splits = {"training": dataset.training()}
        splits |= {"validation": dataset.val} if dataset.val else {}
        views = self.method.views(self.settings)
        splits |= wanted_views(towers.checkpoint, splits["training"], views, self.seed)
        # The text tower comes first: its complaints about class names come before the work.
        tower = towers.text(dataset.class_names, self.template)
        if self.memory_limit is not None:
            need = self.method.need
            towers.plan(
                tower,
                need(self.settings, tower) if need else Need(),
                before=splits.values(),
                after=[dataset.test] if dataset.test else [],
            )
        try:
            images = Images(splits["training"], dataset.val, towers.image, splits.get("views"))
            features = {n: v for n, v in (encoded or {}).items() if n != "views"}
            missing = {name: split for name, split in splits.items() if name not in features}
            features |= towers.encode(missing, progress, self.cache, ())
            history: list[Step] = []

            def heard(step: Step) -> None:
                history.append(step)
                listen(step)

            begin = time.perf_counter()  # before the text tower is compiled, at its first forward
            untuned = zero_shot_head(tower)
            warnings = cautions(self.method, untuned, features, warn)
            fitted = fit(
                self.method,
                self.settings,
                Task(
                    train=features["training"],
                    validation=features.get("validation"),
                    tower=tower,
                    seed=self.seed,
                    budget=self.budget,
                    listen=heard,
                    views=features.get("views"),
                    images=images if self.method.images else None,
                    milestones=tuple(milestones),
                    begin=begin,
                ),
            )
            ways = _detours(fitted)
            if dataset.val and ways:  # what is evaluated on it needs them taken
                features |= towers.encode({"validation": dataset.val}, progress, self.cache, ways)
            record = self._record(dataset, fitted, features["training"], tower.fingerprint)
            record["warnings"] = warnings
        finally:
            tower.close()
        found = Fitted(
            self.method, towers, self.cache, dataset.class_names, fitted.head,
            {**fitted.arrays, **fitted.head.arrays()}, record, history,
            fit=fitted, settings=self.settings, zero_shot=untuned, features=features,
            test=dataset.test,
        )  # fmt: skip
        vars(found)["_verified"] = True  # it was made with this very model
        return found

    def _record(
        self, dataset: Dataset, fitted: Fit, training: Features, text_fingerprint: str
    ) -> dict[str, Any]:
        checkpoint = self.towers.checkpoint
        return {
            "sharpzo_version": __version__,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "model": {
                "id": _model_id(self.model),
                "sha256": checkpoint.fingerprint,
                "text_sha256": text_fingerprint,
            },
            "class_names": list(dataset.class_names),
            "template": self.template,
            "preprocessing": as_dict(Preprocessing.open(checkpoint)),
            "method": self.method.name,
            "preset": self.preset,
            "settings": as_dict(self.settings),
            "seed": self.seed,
            "budget": as_dict(self.budget),
            "engine": self.runtime.engine,
            "precision": self.runtime.precision,
            "threads": self.runtime.threads,
            "data": {
                "source": dataset.source,
                "shots": dataset.shots,
                "training_photos": len(dataset.train),
                "training_sha256": training.fingerprint,
                "validation_photos": len(dataset.val) if dataset.val else 0,
                "test_photos": len(dataset.test) if dataset.test else 0,
                **dataset.remarks(),
            },
            "stopped": fitted.reason.value,
            "forwards": fitted.forwards,
            "image_passes": fitted.image_passes,
            "steps": fitted.steps,
            "seconds": round(fitted.seconds, 3),
            "peak_memory_mb": peak_memory_mb(),
            "notes": dict(fitted.notes),
            "validation": {"accuracy": fitted.validation_accuracy},
            "test": {"accuracy": None},
        }


def _detours(fitted: Fit) -> list[Detour]:
    """The ways that photos take before the heads of a fit see them: nearly always none."""
    return detours([fitted.head, *(chosen.evaluated.head for chosen in fitted.milestones.values())])


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


def _model_id(model: str | Path | None) -> str | None:
    """What finds the checkpoint again from any working directory; None is the embedded model."""
    if model is None:
        return None
    return str(Path(model).resolve()) if Path(model).is_dir() else str(model)
