"""The face in Python: a classifier of your photos, fitted with forward passes only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpzo import __version__, artifact
from sharpzo.budget import Budget
from sharpzo.data.dataset import TEMPLATE
from sharpzo.errors import ArtifactError, InputError
from sharpzo.evaluate import Evaluation, evaluate
from sharpzo.heads.by_detour import detours
from sharpzo.journal import Journal
from sharpzo.memory import parse_size, peak_memory_mb
from sharpzo.methods import METHODS, Fit, Images, Task, find, fit
from sharpzo.methods.chance import cautions
from sharpzo.methods.zero_shot import zero_shot_head
from sharpzo.metrics import softmax
from sharpzo.settings import as_dict
from sharpzo.towers.runtime import Arithmetic, Engine, Runtime
from sharpzo.types import Array, Detour, Features, Head, Step

if TYPE_CHECKING:
    from sharpzo.data.dataset import Dataset, LabelledPhotos
    from sharpzo.towers.opening import Towers

Progress = Callable[[str, int, int], None]  # what is being encoded, photos done, photos in all


class PromptClassifier:
    """Tune a frozen vision-language model on a few photos a class and classify with it.

    ``method`` is a name of ``sharpzo.methods`` with an optional ``preset`` and ``settings``
    (dotted names, such as ``{"search.zo.keep": 0.1}``); ``model`` is a checkpoint folder or a hub
    id (None: the embedded model); ``template`` holds ``{}`` where the class name goes; ``cache``
    is a folder that keeps image features (None: they are computed again each time). ``engine``
    and ``precision`` are the text tower's (see `Runtime`); image features are always float32.
    ``memory_limit``, such as "600MB", binds what this process and its children have in memory:
    towers are then computed block by block, photos in a process of its own, and what cannot fit
    raises BudgetError before work begins.

    Photos are paths, PIL images or uint8 arrays (height, width, 3). After ``fit``:
    ``classes_`` (names), ``fit_`` (what it cost and why it stopped), ``zero_shot_`` (the head of
    the untuned model), ``history_`` (journalled steps) and ``encoded_`` (features by split).

    >>> from sharpzo.data.demo import load_demo
    >>> photos = load_demo(seed=1)
    >>> classifier = PromptClassifier().fit(photos)
    >>> classifier.predict([photos.test.photos[0].decode()]).shape
    (1,)
    """

    def __init__(
        self,
        method: str = "ladder+gda",
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
    ) -> None:
        self.method = find(method)
        self.settings = self.method.configure(preset, settings)
        self.preset = preset
        self.model = model
        self.template = template
        self.seed = seed
        self.budget = budget or Budget()
        self.runtime = Runtime(engine, precision, threads)
        self.cache = None if cache is None else Path(cache)
        self.memory_limit = None if memory_limit is None else parse_size(memory_limit)
        if self.memory_limit is not None and self.method.need is None:
            raise InputError(
                f"method {self.method.name} needs more than the towers block by block; choose "
                "another method, or leave out the memory limit"
            )
        self.head_: Head | None = None
        self.arrays_: dict[str, Array] = {}
        self.history_: list[Step] = []
        self.record_: dict[str, Any] = {}
        self._opened: Towers | None = None

    # --- fitting -----------------------------------------------------------------------------

    def fit(
        self,
        photos: Dataset | str | Path | Sequence[Any],
        labels: Sequence[Any] | None = None,
        *,
        shots: int | None = None,
        encoded: Mapping[str, Features] | None = None,
        milestones: Sequence[int] = (),
        listen: Callable[[Step], None] = lambda step: None,
        progress: Progress = lambda what, done, total: None,
        warn: Callable[[str], None] | None = None,
    ) -> PromptClassifier:
        """Tune on a data set, a folder with one subfolder a class, or photos with labels.

        From a folder or a list, ``shots`` photos a class are drawn (None: all) and up to four
        more are set aside for validation, which alone chooses. A data set is taken as it is; its
        test split is never read here. ``encoded`` is the ``encoded_`` of a classifier of the same
        photos, which are then not encoded again. A search keeps its choice at ``milestones`` of
        forwards in ``fit_.milestones``. ``listen`` hears every validated step, ``progress`` the
        photos encoded, ``warn`` (None: Python's warnings) why the method can hardly help.
        """
        from sharpzo.towers.features import wanted_views

        dataset = self._dataset(photos, labels, shots)
        checkpoint, splits = self._towers().checkpoint, {"training": dataset.training()}
        splits |= {"validation": dataset.val} if dataset.val else {}
        splits |= wanted_views(checkpoint, splits["training"], self.settings, self.seed)
        # The text tower comes first: its complaints about class names come before the work.
        tower = self._towers().text(
            dataset.class_names,
            self.template,
            before=[*splits.values()],
            after=[dataset.test] if dataset.test else [],
            need=self.method.need and partial(self.method.need, self.settings),
        )
        self.encoded_ = dict(encoded or {})
        self.encoded_ |= self._encode(
            {name: split for name, split in splits.items() if name not in self.encoded_}, progress
        )
        self.history_ = []

        def heard(step: Step) -> None:
            self.history_.append(step)
            listen(step)

        begin = time.perf_counter()  # before the text tower is compiled, at its first forward
        self.zero_shot_ = zero_shot_head(tower)
        self.warnings_ = cautions(self.method, self.zero_shot_, self.encoded_, warn)
        self.fit_: Fit = fit(
            self.method,
            self.settings,
            Task(
                train=self.encoded_["training"],
                validation=self.encoded_.get("validation"),
                tower=tower,
                seed=self.seed,
                budget=self.budget,
                listen=heard,
                views=self.encoded_.get("views"),
                images=Images(
                    splits["training"], dataset.val, self._towers().image, splits.get("views")
                ),
                milestones=tuple(milestones),
                begin=begin,
            ),
        )
        self.head_ = self.fit_.head
        self.arrays_ = dict(self.fit_.arrays)
        if dataset.val and self._detours():  # what is evaluated on it needs them taken
            self.encoded_ |= self._encode({"validation": dataset.val}, progress, self._detours())
        self.classes_ = np.array(dataset.class_names)
        self.record_ = self._record(dataset, tower.fingerprint)
        tower.close()
        return self

    def _dataset(self, photos: Any, labels: Sequence[Any] | None, shots: int | None) -> Dataset:
        from sharpzo.data.dataset import Dataset
        from sharpzo.data.intake import label, load

        if isinstance(photos, Dataset):
            return photos
        if isinstance(photos, str | Path):
            return load(photos, shots=shots, seed=self.seed)
        return label(photos, labels or (), shots, self.seed)

    def _encode(
        self,
        splits: Mapping[str, LabelledPhotos],
        progress: Progress = lambda *_: None,
        by: Sequence[Detour] = (),
    ) -> dict[str, Features]:
        return self._towers().encode(splits, progress, self.cache, by)

    def _detours(self) -> list[Detour]:
        """The ways that photos take before the fitted heads see them: nearly always none."""
        milestones = getattr(getattr(self, "fit_", None), "milestones", {}).values()
        return detours([self.head_, *(chosen.judged.head for chosen in milestones)])

    def _towers(self) -> Towers:
        from sharpzo.towers.opening import Towers

        if self._opened is None:
            self._opened = Towers(self.model, self.runtime, self.memory_limit)
        return self._opened

    def sibling(self, method: str) -> PromptClassifier:
        """Return an unfitted classifier by another method, otherwise like this one."""
        other = PromptClassifier(
            method, model=self.model, template=self.template, seed=self.seed,
            cache=self.cache, memory_limit=self.memory_limit, **vars(self.runtime),
        )  # fmt: skip
        other._opened = self._opened
        return other

    def rename(self, class_names: Sequence[str]) -> PromptClassifier:
        """Return a classifier among other names, which training may never have seen.

        What was tuned (a prompt, a projection) is shared by all class names; a method without
        that raises InputError.
        """
        head = self._fitted()
        if self.method.rename is None:
            able = ", ".join(method.name for method in METHODS.values() if method.rename)
            raise InputError(
                f"method {self.method.name} knows only the classes that it was trained on; "
                f"methods that can name others: {able}"
            )
        other = copy(self)
        other.classes_ = np.array([str(name) for name in class_names])
        arrays = {**self.arrays_, **head.arrays()}
        tower = self._towers().text(class_names, self.template)
        try:
            other.head_ = self.method.rename(arrays, tower)
        finally:
            tower.close()
        return other

    # --- using -------------------------------------------------------------------------------

    def predict_proba(self, photos: Iterable[Any]) -> Array:
        """Class probabilities (N, K), columns in the order of ``classes_``."""
        from sharpzo.data.dataset import LabelledPhotos
        from sharpzo.data.photos import as_photo

        head = self._fitted()
        many = tuple(as_photo(photo, f"photo {i}") for i, photo in enumerate(photos))
        if not many:
            return np.zeros((0, len(self.classes_)))
        split = LabelledPhotos(many, np.zeros(len(many), np.int64), tuple(self.classes_))
        encoded = self._encode({"photos": split}, by=self._detours())["photos"]
        return softmax(head.scores(encoded).astype(np.float64))

    def predict(self, photos: Iterable[Any]) -> Array:
        """Most probable class names (N,)."""
        return self.classes_[self.predict_proba(photos).argmax(axis=1)]

    def score(self, photos: Sequence[Any], labels: Sequence[Any]) -> float:
        """Accuracy on photos with class names as labels."""
        return float((self.predict(photos) == np.array([str(label) for label in labels])).mean())

    def encode(
        self, split: LabelledPhotos, *, progress: Progress = lambda *_: None
    ) -> tuple[Features, Array]:
        """Return features of labelled photos, and which class of this classifier each name is.

        Names are matched by their letters; one that the classifier lacks raises InputError.
        """
        names = [str(name) for name in self.classes_]
        unknown = [name for name in split.class_names if name not in names]
        if unknown:
            raise InputError(
                f"the photos have a class '{unknown[0]}' that this run does not know; it knows: "
                f"{', '.join(names)}"
            )
        rows = np.array([names.index(name) for name in split.class_names])
        return self._encode({"test": split}, progress, self._detours())["test"], rows

    def evaluate(
        self, split: LabelledPhotos, *, progress: Progress = lambda *_: None
    ) -> Evaluation:
        """Evaluate on labelled photos among all classes of this classifier."""
        photos, rows = self.encode(split, progress=progress)
        return evaluate(self._fitted(), replace(
            photos, labels=rows[photos.labels], class_names=tuple(map(str, self.classes_))
        ))  # fmt: skip

    def _fitted(self) -> Head:
        if self.head_ is None:
            raise InputError("this classifier has not been fitted; call fit or load a run")
        return self.head_

    # --- keeping -----------------------------------------------------------------------------

    def save(self, run: str | Path, *, claimed: bool = False) -> Path:
        """Write a run folder (kilobytes, no pickle); raises ArtifactError if it exists.

        ``claimed``: the caller made the folder and journals into it already.
        """
        head = self._fitted()
        folder = Path(run) if claimed else artifact.claim(run)
        if not claimed:
            with Journal(folder / artifact.HISTORY) as journal:
                for step in self.history_:
                    journal.append(step)
        artifact.write(folder, {**self.arrays_, **head.arrays()}, self.record_)
        return folder

    @classmethod
    def load(
        cls,
        run: str | Path,
        *,
        model: str | Path | None = None,
        cache: str | Path | None = None,
        memory_limit: str | int | None = None,
    ) -> PromptClassifier:
        """Read a run folder; ``model`` says where the checkpoint lies now, if it has moved.

        Raises ArtifactError if the run is damaged or was made with another model.
        """
        found = artifact.read(run)
        record = found.record
        try:
            classifier = cls(
                record["method"],
                preset=record["preset"],
                model=model or record["model"]["id"],
                template=record["template"],
                seed=record["seed"],
                cache=cache,
                memory_limit=memory_limit,
            )
            classifier.classes_ = np.array(record["class_names"])
            expected = record["model"]["sha256"]
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"{run} has an incomplete record ({error}); fit again") from None
        classifier.arrays_ = found.arrays
        classifier.head_ = classifier.method.load(found.arrays)
        if classifier.head_.n_classes != len(classifier.classes_):
            raise ArtifactError(
                f"{run} has a classifier of {classifier.head_.n_classes} classes for "
                f"{len(classifier.classes_)} class names; fit again"
            )
        classifier.record_ = record
        if (actual := classifier._towers().checkpoint.fingerprint) != expected:
            raise ArtifactError(
                f"{run} was made with another model (sha256 {expected[:12]}…) than "
                f"{model or record['model']['id'] or 'the embedded one'} ({actual[:12]}…); give "
                "the right one as model, or fit again"
            )
        return classifier

    def _record(self, dataset: Dataset, text_fingerprint: str) -> dict[str, Any]:
        from sharpzo.towers.preprocess import Preprocessing

        checkpoint = self._towers().checkpoint
        fitted = self.fit_
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
            "engine": self.runtime.engine,
            "precision": self.runtime.precision,
            "data": {
                "source": dataset.source,
                "shots": dataset.shots,
                "training_photos": len(dataset.train),
                "training_sha256": self.encoded_["training"].fingerprint,
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
            "warnings": self.warnings_,
            "validation": {"accuracy": fitted.validation_accuracy},
            "test": {"accuracy": None},
        }


def _model_id(model: str | Path | None) -> str | None:
    """What finds the checkpoint again from any working directory; None is the embedded model."""
    if model is None:
        return None
    return str(Path(model).resolve()) if Path(model).is_dir() else str(model)
