"""`PromptClassifier`: a classifier of your photos in Python, fitted with forward passes only."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import KW_ONLY, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sharpzo.budget import Budget
from sharpzo.data.dataset import TEMPLATE
from sharpzo.errors import InputError, not_fitted
from sharpzo.evaluate import Evaluation
from sharpzo.hub import Shared
from sharpzo.storage.record import Record
from sharpzo.towers.features import Progress
from sharpzo.towers.runtime import Arithmetic, Engine
from sharpzo.types import Array, Decoding, Head, ImagePrecision, Step

if TYPE_CHECKING:
    from sharpzo.data.dataset import Dataset, LabelledPhotos
    from sharpzo.fitting.fitter import Fitter
    from sharpzo.fitting.growth import Grown
    from sharpzo.fitting.trained import Trained
    from sharpzo.methods import Fit
    from sharpzo.storage.claim import Claim


@dataclass(eq=False, repr=False)
class PromptClassifier(Shared):
    """Tune a frozen vision-language model on a few photos per class and classify with it.

    ``method`` is a name of ``sharpzo.methods`` with an optional ``preset`` and ``settings``
    (dotted names, such as ``{"search.zo.keep": 0.1}``); ``model`` is a checkpoint folder or a hub
    id (None: the embedded model); ``template`` holds ``{}`` where the class name goes; ``cache``
    is a folder that keeps image features (None: they are computed again each time). ``engine``
    and ``precision`` are the text tower's while it is tuned (see `Runtime`). ``memory_limit``, such
    as "600MB", binds what this process and its children have in memory: towers are then computed
    block by block, photos in a process of its own, and what cannot fit raises BudgetError before
    work begins. ``decoding`` "reduced" decodes photos that are much larger than the image tower's
    input at a smaller scale (see `Preprocessing`), "exact" whole; None: "exact" with published
    settings (presets paper/…, published and release), else "reduced". ``image_size`` is the pixels
    a side that the image tower sees; None: with reduced decoding `suited_size`, else the model's
    own. ``image_precision`` is the image tower's arithmetic, in the fit and after it: "float32",
    or, faster, "bfloat16" (by OpenVINO) or "int8" (docs/performance.md).

    Photos are paths, the bytes of files, PIL images, arrays (height, width, 3) of uint8 or of
    floats from 0 to 1, or an array (N, height, width, 3); a single photo counts as a list of one.
    Labels are class names, which the model reads with spaces for underscores.

    The class follows the conventions of scikit-learn without needing it: parameters are kept as
    they are given and checked by ``fit``; ``clone``, ``cross_val_score``, ``GridSearchCV`` and
    ``Pipeline`` work; it can be copied and pickled. After ``fit`` or ``load``: ``classes_`` (the
    labels), ``record_`` (what ``run.json`` will say) and ``history_`` (journalled steps); after
    ``fit`` also ``fit_`` (what it cost and why it stopped) and ``zero_shot_`` (the head of the
    untuned model).

    >>> from sharpzo.data.demo import load_demo
    >>> photos = load_demo(seed=1)
    >>> classifier = PromptClassifier().fit(photos)
    >>> classifier.predict(photos.test.photos[0].decode()).shape
    (1,)
    >>> classifier.evaluate(photos.test).accuracy > classifier.evaluate(photos.test).n / 1000
    True
    """

    _estimator_type = "classifier"

    method: str = "ladder+tokens"
    _: KW_ONLY
    preset: str | None = None
    settings: Mapping[str, Any] | None = None
    model: str | Path | None = None
    template: str = TEMPLATE
    seed: int = 1
    budget: Budget | None = None
    threads: int | None = None
    engine: Engine = "onnxruntime"
    precision: Arithmetic = "float32"
    cache: str | Path | None = None
    memory_limit: str | int | None = None
    decoding: Decoding | None = None
    image_size: int | None = None
    image_precision: ImagePrecision = "float32"

    classes_: Array = field(init=False)
    record_: Record = field(init=False)
    history_: list[Step] = field(init=False)
    fit_: Fit = field(init=False)
    zero_shot_: Head = field(init=False)

    # --- parameters -------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of the constructor by name; none of them has parameters of its own."""
        return {name: getattr(self, name) for name in _parameters(type(self))}

    def set_params(self, **params: Any) -> PromptClassifier:
        """Change parameters for the next fit; an unknown name raises InputError."""
        known = _parameters(type(self))
        for name in params:
            if name not in known:
                raise InputError(f"there is no parameter '{name}'; known: {', '.join(known)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        changed = [
            f"{name}={getattr(self, name)!r}"
            for name, default in _parameters(type(self)).items()
            if getattr(self, name) != default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_tags__(self) -> Any:
        sklearn = import_module("sklearn.utils")
        return sklearn.Tags(
            estimator_type="classifier",
            target_tags=sklearn.TargetTags(required=False),  # folders name their classes
            classifier_tags=sklearn.ClassifierTags(),
            input_tags=sklearn.InputTags(two_d_array=False, string=True),
        )

    # --- fitting ----------------------------------------------------------------------------------

    def fit(
        self,
        photos: Any,
        labels: Any = None,
        *,
        shots: int | None = None,
        run: str | Path | None = None,
        listen: Callable[[Step], None] = lambda step: None,
        progress: Progress = lambda what, done, total: None,
    ) -> PromptClassifier:
        """Tune on a folder with one subfolder per class, photos with labels, or a data set.

        From a folder or from photos, ``shots`` per class are drawn (None: all) and up to four more
        are set aside for validation, which alone chooses. A data set is taken as it is. The test
        split of either is never read here. ``listen`` is called with every validated step,
        ``progress`` with the number of photos encoded; Python's warnings say if the method can
        hardly help. A fit that fails leaves the classifier as it was. With ``run``, a folder, a
        search keeps its state there, so that `resume` can go on with it, and leaves the run.
        Raises InputError for what cannot be used, ArtifactError for a folder that exists already.
        """
        from sharpzo.data import arguments
        from sharpzo.fitting.fitter import Fitter
        from sharpzo.fitting.job import Job
        from sharpzo.storage.claim import claim

        ours = {name: getattr(self, name) for name in _parameters(PromptClassifier)}
        fitter = Fitter(**ours)  # a subclass may have more
        given = arguments.dataset(photos, labels, shots, fitter.seed)
        if run is None:
            return self._tune(fitter, *given, None, listen, progress)
        job = Job.of_parameters(ours, arguments.path(photos), shots)
        with claim(run, job.document()) as claimed:
            return self._tune(fitter, *given, claimed, listen, progress)

    @classmethod
    def resume(
        cls,
        run: str | Path,
        photos: Any = None,
        labels: Any = None,
        *,
        model: str | Path | None = None,
        cache: str | Path | None = None,
        listen: Callable[[Step], None] = lambda step: None,
        progress: Progress = lambda what, done, total: None,
    ) -> PromptClassifier:
        """Continue a fit that was stopped, in its folder ``run``, and return the classifier.

        The fit was begun by ``sharpzo fit`` or by `fit` with a ``run``; the result is that of a fit
        that was not stopped, to the bit. ``photos`` (with ``labels``) are needed if they came from
        memory, and say where a folder lies now if it has moved; so do ``model`` and ``cache``.

        Raises ArtifactError if no stopped fit is there, if another process continues it, or if
        photos, model or settings are not those that it began with.
        """
        from sharpzo.data import arguments
        from sharpzo.fitting.fitter import Fitter
        from sharpzo.fitting.job import Job
        from sharpzo.storage.artifact import as_folder
        from sharpzo.storage.claim import take_up

        job = Job.of(as_folder(run))
        places = {"model": model, "cache": cache}
        found: dict[str, Any] = job.parameters()
        found |= {name: path for name, path in places.items() if path is not None}
        classifier, fitter = cls(**found), Fitter(**found)
        fitter.towers.fetch = model is not None
        if photos is not None:
            given = arguments.dataset(photos, labels, job.shots, job.seed)
        elif job.data is not None:
            given = job.usable(*job.photos(), fitter)[0], None
        else:
            raise InputError(f"the fit in {run} began with photos in memory; give them again")
        with take_up(run) as claimed:
            return classifier._tune(fitter, *given, claimed, listen, progress)

    def _tune(
        self,
        fitter: Fitter,
        dataset: Dataset,
        classes: Array | None,
        claimed: Claim | None,
        listen: Callable[[Step], None],
        progress: Progress,
    ) -> PromptClassifier:
        def warn(sentence: str) -> None:
            warnings.warn(sentence, stacklevel=6)  # at the caller of `fit`

        journal = None if claimed is None else claimed.journal
        fitted = fitter.fit(dataset, journal=journal, listen=listen, progress=progress, warn=warn)
        if classes is not None and classes.tolist() != list(dataset.class_names):
            fitted.record["labels"] = classes.tolist()
        fitted.measure()
        self._adopt(fitted)
        self.fit_, self.zero_shot_ = fitted.fit, fitted.zero_shot
        if claimed is not None:
            claimed.write(fitted.arrays, fitted.record)
            if claimed.elsewhere:
                warnings.warn(claimed.elsewhere, stacklevel=3)
        return self

    def _adopt(self, trained: Trained) -> None:
        self._trained = trained
        self.classes_ = trained.classes
        self.record_ = trained.record
        self.history_ = list(trained.history)

    @property
    def trained(self) -> Trained:
        """What was fitted or loaded; NotFittedError before."""
        if "_trained" not in vars(self):
            raise not_fitted("this classifier has not been fitted; call fit, or load a run")
        return self._trained

    def rename(self, names: Iterable[str]) -> PromptClassifier:
        """Return a classifier among other names, which training may never have seen.

        What was tuned (a prompt, a projection) is shared by all class names; a method without
        that raises InputError.
        """
        from sharpzo.data.arguments import label_list

        trained = self.trained.rename(label_list(names, "class name", "give strings"))
        other = copy(self)
        for name in ("fit_", "zero_shot_"):  # they belong to the fitted names
            vars(other).pop(name, None)
        other._adopt(trained)
        return other

    # --- using ------------------------------------------------------------------------------------

    def predict_proba(self, photos: Any) -> Array:
        """Class probabilities (N, K), columns in the order of ``classes_``."""
        from sharpzo.data import arguments

        return self.trained.probabilities(arguments.photos(photos))

    def predict(self, photos: Any) -> Array:
        """Most probable labels (N,)."""
        return self.trained.classes[self.predict_proba(photos).argmax(axis=1)]

    def is_known(self, photos: Any, lost: float = 0.05) -> Array:
        """Whether photos are of any class, booleans (N,); False for about ``lost`` of the known."""
        from sharpzo.data import arguments

        return self.trained.is_known(arguments.photos(photos), lost)

    def add(self, photos: Any, labels: Any) -> PromptClassifier:
        """Fit to these photos, too; labels may name new classes, and "none" counter-examples.
        Python's warnings say which were passed over."""
        from sharpzo.data import arguments
        from sharpzo.fitting import growth

        given = arguments.label_list(labels)
        return self._grow(growth.add(self.trained, arguments.photos(photos), given))

    def forget(self, photos: Any) -> PromptClassifier:
        """Fit without these photos, which are known by their content. Python's warnings say which
        classes are gone."""
        from sharpzo.data import arguments
        from sharpzo.fitting import growth

        return self._grow(growth.forget(self.trained, arguments.photos(photos)))

    def _grow(self, grown: Grown) -> PromptClassifier:
        for note in grown.notes:
            warnings.warn(note, stacklevel=3)
        self._adopt(grown.trained)
        return self

    def score(self, photos: Any, labels: Any = None) -> float:
        """Accuracy on labelled photos, as `evaluate` has it."""
        return self.evaluate(photos, labels).accuracy

    def evaluate(
        self,
        photos: Any,
        labels: Any = None,
        *,
        lost: float = 0.05,
        progress: Progress = lambda what, done, total: None,
    ) -> Evaluation:
        """Evaluate on labelled photos among all classes of this classifier.

        ``photos`` come with ``labels``, or are a split of a data set, or a folder, whose test
        split is taken, or all of it if there are no splits. A label that the classifier does not
        know raises InputError. Photos labelled "none" are of no class: ``none`` of the result says
        how many were recognised where ``lost`` of the known are rejected. Evaluated on the test
        split of what it was fitted on, the classifier keeps the accuracy in its record.
        """
        trained = self.trained
        split = _split(trained, photos, labels)
        if not len(split):
            raise InputError("there are no photos to evaluate on; give at least one")
        return trained.evaluate(split, lost=lost, progress=progress)

    # --- keeping ----------------------------------------------------------------------------------

    def save(self, run: str | Path) -> Path:
        """Write a run folder (JSON and safetensors); raises ArtifactError if it exists."""
        return self.trained.save(run)

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

        The classifier has the parameters of the run, so that fitting it again to the same photos
        gives the same. Raises ArtifactError if the run is damaged or was made with another model.
        """
        from sharpzo.fitting.trained import load

        trained = load(run, model=model, cache=cache, memory_limit=memory_limit)
        record, method = trained.record, trained.method
        preset, budget = record["preset"], Budget(**record.get("budget", {}))
        settings = method.changed(preset, record["settings"])
        classifier = cls(
            method.name,
            preset=preset,
            settings=settings or None,
            model=model or record["model"]["id"],
            template=record["template"],
            seed=record["seed"],
            budget=None if budget == Budget() else budget,
            threads=record.get("threads"),
            engine=cast(Engine, record.get("engine", "onnxruntime")),  # checked by a fit
            precision=cast(Arithmetic, record.get("precision", "float32")),
            cache=cache,
            memory_limit=memory_limit,
            decoding=trained.towers.decoding,
            image_size=trained.towers.image_size,
            image_precision=trained.towers.image_precision,
        )
        classifier._adopt(trained)
        return classifier


def _parameters(cls: type) -> dict[str, Any]:
    """Names of the constructor's parameters and their defaults."""
    found = inspect.signature(cls).parameters.values()
    return {parameter.name: parameter.default for parameter in found}


def _split(trained: Trained, photos: Any, labels: Any) -> LabelledPhotos:
    from sharpzo.data import arguments
    from sharpzo.data.dataset import NONE, LabelledPhotos
    from sharpzo.data.loading import read

    if isinstance(photos, LabelledPhotos):
        if labels is not None:
            raise InputError("there are labels beside labelled photos; leave them out")
        return photos
    folder = arguments.path(photos)
    if labels is None and folder is not None and Path(folder).is_dir():
        found = read(folder)
        whole = found.train if found.val is None else None
        split = found.test or whole
        if split is None:
            raise InputError(f"{photos} has no test split; give photos with labels")
        return split
    many, values = arguments.photos(photos), arguments.label_list(labels)
    if len(values) != len(many):
        raise InputError(f"there are {len(many)} photos and {len(values)} labels; give one each")
    return LabelledPhotos(many, trained.rows(values), (*trained.class_names, NONE))
