"""The registry: a method is a name, frozen settings, presets, and how it fits.

Every method gets the same task (cached features of training and validation photos, a text tower
for the class names, a seed, a budget) and leaves the same thing: a head that classifies, the
arrays worth keeping, and what it cost. None of them sees a file or the test split.
"""

# Callers' code need not be typed:
# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sharpzo.budget import Budget
from sharpzo.data.dataset import LabelledPhotos
from sharpzo.errors import InputError
from sharpzo.linear import LinearHead
from sharpzo.memory import Need
from sharpzo.metrics import accuracy
from sharpzo.settings import Settings, ViewSettings, as_dict, changes, override
from sharpzo.storage.journal import Journal
from sharpzo.types import (
    Array,
    Chosen,
    Features,
    Head,
    ImageTower,
    Reason,
    Result,
    TextTower,
)
from sharpzo.wording import meant

if TYPE_CHECKING:  # a closed form needs no search
    from sharpzo.tuning.run import Listener, Load

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, eq=False)
class Images:
    """The photos themselves, for the few methods that change what the image tower sees."""

    train: LabelledPhotos
    validation: LabelledPhotos | None
    open_tower: Callable[[], ImageTower]
    views: LabelledPhotos | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """What a method may look at.

    ``views`` are augmented views of the training photos, view-major (row v * N + i is a view of
    photo i): as many as the method declares (`Method.views`), else None. ``images`` are there for
    methods that declare them. ``milestones`` are forwards at which a search keeps its choice of the
    time. ``begin`` is the reading of `time.perf_counter` that seconds count from, those of the
    budget and of the fit: all that a method does before its search is tuning, too. None: from the
    call of ``fit``. A search keeps its state in ``journal``, if there is one, and goes on from the
    state that is in it; ``load`` is the method's own.
    """

    train: Features
    validation: Features | None
    tower: TextTower
    seed: int = 1
    budget: Budget = field(default_factory=Budget)
    listen: Listener = lambda step: None
    views: Features | None = None
    images: Images | None = None
    milestones: tuple[int, ...] = ()
    begin: float | None = None
    journal: Journal | None = None
    load: Load = LinearHead.from_arrays


@dataclass(frozen=True, eq=False)
class Fit:
    """What a method leaves; ``notes`` are numbers worth showing (chosen penalty, mu).

    ``forwards`` counts passes of the text tower, ``image_passes`` those that the method made
    beyond the one per photo of every method. ``seconds`` is measured by ``fit``, not by the
    method.
    """

    head: Head
    reason: Reason
    forwards: int
    steps: int = 0
    seconds: float = 0.0
    image_passes: int = 0
    arrays: Mapping[str, Array] = field(default_factory=dict[str, Array])
    notes: Mapping[str, float] = field(default_factory=dict[str, float])
    validation_accuracy: float | None = None
    milestones: Mapping[int, Chosen] = field(default_factory=dict[int, Chosen])

    @classmethod
    def of_search(
        cls, result: Result, notes: Mapping[str, float] | None = None, **more: Any
    ) -> Fit:
        """What a finished search leaves; its training loss is the first of the notes."""
        found = result.chosen.evaluated
        return cls(
            found.head,
            result.reason,
            result.forwards,
            result.steps,
            validation_accuracy=found.validation_accuracy,
            milestones=result.milestones,
            notes={"training_loss": found.loss, **(notes or {})},
            **more,
        )


def own_views(settings: Settings) -> ViewSettings | None:
    """`Method.views` by default: as many as `ViewSettings` say, else none."""
    return settings if isinstance(settings, ViewSettings) and settings.views else None


def known_loss(settings: Settings, tower: TextTower) -> None:
    """`Method.suits` by default: a loss of sigmoids takes a model with a logit bias."""
    if getattr(settings, "sigmoid", False):
        from sharpzo.tuning.objective import loss_of

        loss_of(tower, sigmoid=True)


@dataclass(frozen=True, eq=False)
class Method(Generic[S]):
    """A name, what it is in one line, default settings, published presets and the fit.

    What a method can do: ``load`` rebuilds the head from an artefact's arrays. ``rename`` makes the
    classifier of class names that training never saw, from the artefact's arrays and a tower for
    those names; None if a method uses no names. ``milestones``: its choice is kept at budgets
    along one run.

    What it needs, by its settings: ``views`` of each training photo (by default those of
    `ViewSettings`; None: the photos alone), and the ``fixed_views`` (`data.photo.FIXED_VIEWS`)
    through which photos are encoded as well (None: never): a head says by its own which of them it
    reads.
    ``images``: the photos themselves or their tower, in `Task.images`. ``need``: memory, with a
    text tower, so that a limit can be planned for; None where it cannot be. ``validation``: whether
    the validation photos choose anything. ``plan``: what a search spends without a budget of the
    caller's.

    ``suits`` raises `InputError` for a model that it cannot work with, before photos are encoded;
    by default for a loss that the model was not trained with. ``caution``: a sentence on why it
    does less than its name says with these photos, if it does.

    ``grows``: it is fitted in closed form to features alone, which a run keeps, so that photos can
    be added to it and forgotten.

    ``shared_context``: what it tunes is one context for all class names, which cannot help a model
    that knows none of them. ``key``: the settings by which a bench names results, where they were
    others in earlier versions.
    """

    name: str
    summary: str
    settings: S
    fit: Callable[[S, Task], Fit]
    presets: Mapping[str, S] = field(default_factory=dict[str, S])
    load: Callable[[Mapping[str, Array]], Head] = LinearHead.from_arrays
    rename: Callable[[Mapping[str, Array], TextTower], Head] | None = None
    milestones: bool = False
    views: Callable[[S], ViewSettings | None] = own_views
    fixed_views: Callable[[S], frozenset[str]] | None = None
    images: bool = False
    need: Callable[[S, TextTower], Need] | None = lambda settings, tower: Need()
    validation: Callable[[S], bool] = lambda settings: True
    plan: Callable[[S], Budget] = lambda settings: Budget()
    suits: Callable[[S, TextTower], object] = known_loss
    caution: Callable[[S, Mapping[str, Features]], str | None] = lambda settings, encoded: None
    grows: bool = False
    shared_context: bool = False
    key: Callable[[S], Mapping[str, Any]] = as_dict

    def changed(self, preset: str | None, recorded: Mapping[str, Any]) -> dict[str, Any]:
        """What ``configure`` has to change to make the settings that a run recorded."""
        base = self.settings if preset is None else self.presets.get(preset, self.settings)
        return changes(base, recorded, self.key(base))

    def configure(self, preset: str | None = None, changes: Mapping[str, Any] | None = None) -> S:
        """Settings of a preset (None: the defaults) with dotted names changed."""
        if preset is not None and preset not in self.presets:
            known = ", ".join(self.presets) or "none"
            like = meant(preset, self.presets)
            raise InputError(f"method {self.name} has no preset '{preset}'{like}; known: {known}")
        return override(self.presets[preset] if preset else self.settings, changes or {})

    def restored(self, preset: str | None, settings: Mapping[str, Any]) -> S:
        """Settings as a record has them, checked."""
        return self.configure(preset, self.changed(preset, settings))


# The modules of this package by the names of their methods: a run needs one of them.
HOMES = {
    "zero-shot": "zero_shot", "blackvip": "blackvip", "clap": "clap",
    "clip-lora": "clip_lora",
    "sharp-cma-es": "sharpzo_prompt", "sharpzo": "sharpzo_prompt", "sharpzo-fast": "sharpzo_prompt",
    "cma-es": "cma_es", "sep-cma-es": "cma_es", "lm-ma-es": "cma_es", "coop": "coop",
    "coop-csc": "coop", "fgn": "fgn", "fgn-csc": "fgn", "gda": "gda", "ladder": "ladder",
    "ladder+gda": "ladder", "ladder+image": "image_ladder", "ladder+tokens": "token_ladder",
    "linear-probe": "linear_probe",
    "lp++": "lp_plus_plus", "projection": "projection", "proker": "proker", "prolip": "prolip",
    "tip-adapter": "tip_adapter", "tip-adapter-f": "tip_adapter", "tune-blocks": "tune_blocks",
    "zip": "zip", "zo-sgd": "zo_sgd",
}  # fmt: skip


class Methods(MutableMapping[str, Method[Any]]):
    """Methods by name. The module of one of ours is imported when the method is looked up."""

    def __init__(self) -> None:
        self._known: dict[str, Method[Any]] = {}

    def __getitem__(self, name: str) -> Method[Any]:
        if name not in self._known and name in HOMES:
            importlib.import_module(f"sharpzo.methods.{HOMES[name]}")
        return self._known[name]

    def __setitem__(self, name: str, method: Method[Any]) -> None:
        self._known[name] = method

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*HOMES, *self._known]))

    def __len__(self) -> int:
        return len(HOMES.keys() | self._known.keys())

    def __contains__(self, name: object) -> bool:
        return name in HOMES or name in self._known

    def is_free(self, name: str) -> bool:
        """Whether a method may register: a name is new, or its own module is being imported."""
        if name in HOMES and f"sharpzo.methods.{HOMES[name]}" not in sys.modules:
            return False
        return name not in self._known


METHODS = Methods()


def register(method: Method[S]) -> Method[S]:
    """Make a method selectable by its name everywhere; InputError for a name that is taken, and for
    settings that do not check themselves."""
    for settings in (method.settings, *method.presets.values()):
        if not isinstance(settings, Settings):
            raise InputError(
                f"the settings of method '{method.name}' are of type {type(settings).__name__}; "
                "derive it from sharpzo.Settings"
            )
    if not METHODS.is_free(method.name):
        raise InputError(f"a method called '{method.name}' exists already")
    METHODS[method.name] = method
    return method


def find(name: str) -> Method[Any]:
    """The method of that name, or an InputError that lists the known ones."""
    if name not in METHODS:
        like = meant(name, METHODS)
        raise InputError(f"there is no method '{name}'{like}; known: {', '.join(METHODS)}")
    return METHODS[name]


def load_plugin(path: str | Path) -> None:
    """Run a Python file of the user's that registers methods; again is harmless.

    Raises `InputError` whatever stops it, ``exit()`` too. What it prints is no result of a command,
    so it goes to standard error.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise InputError(f"there is no plugin file {path}; give a Python file that registers")
    if str(file) in _PLUGINS:
        return
    spec = importlib.util.spec_from_file_location(f"sharpzo_plugin_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(f"plugin {path} is not a Python file; its name must end with .py")
    known = set(METHODS)
    try:
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:
        for name in set(METHODS) - known:
            del METHODS[name]
        ours = isinstance(error, ImportError) and (error.name or "").split(".")[0] == "sharpzo"
        hint = "; this sharpzo has it elsewhere: import from sharpzo itself" if ours else ""
        raise InputError(f"plugin {path} failed: {type(error).__name__}: {error}{hint}") from error
    _PLUGINS.add(str(file))


_PLUGINS: set[str] = set()


def fit(method: Method[S], settings: S, task: Task) -> Fit:
    """Fit and, where the method has not done so itself, measure validation accuracy."""
    for what, lacks in (
        ("augmented views", method.views(settings) is not None and task.views is None),
        ("the photos themselves", method.images and task.images is None),
    ):
        if lacks:
            raise InputError(
                f"method {method.name} needs {what}, and this task holds features alone; fit it "
                "through PromptClassifier"
            )
    begin = time.perf_counter() if task.begin is None else task.begin
    fitted = method.fit(settings, replace(task, begin=begin, load=method.load))
    chosen = fitted.validation_accuracy
    if chosen is None and task.validation is not None:
        chosen = accuracy(fitted.head.scores(task.validation), task.validation.labels)
    seconds = time.perf_counter() - begin
    return replace(fitted, validation_accuracy=chosen, seconds=seconds)
