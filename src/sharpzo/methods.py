"""The registry: a method is a name, frozen settings, presets, and how it fits.

Every method gets the same task (cached features of training and validation photos, a text tower
for the class names, a seed, a budget) and leaves the same thing: a head that classifies, the
arrays worth keeping, and what it cost. None of them sees a file or the test split.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sharpzo.budget import Budget
from sharpzo.errors import InputError
from sharpzo.heads.linear import LinearHead
from sharpzo.heads.linear_probe import LinearProbeSettings, fit_linear_probe
from sharpzo.heads.projection import ProjectionSettings, fit_projection
from sharpzo.metrics import accuracy, normalise
from sharpzo.objective import ContextMap, Objective, measure_smoothing, unit_std
from sharpzo.rng import generator
from sharpzo.run import Chooser, Listener, run
from sharpzo.search.cma import CmaSettings
from sharpzo.search.presets import PRESETS
from sharpzo.search.sharp import SharpnessSettings
from sharpzo.search.sharpzo import SharpZo, SharpZoSettings, SwitchSettings
from sharpzo.search.zo import ZoSettings
from sharpzo.settings import override
from sharpzo.types import Array, Features, Reason, TextTower


@dataclass(frozen=True, eq=False)
class Task:
    """What a method may look at."""

    train: Features
    validation: Features | None
    tower: TextTower
    seed: int = 1
    budget: Budget = field(default_factory=Budget)
    listen: Listener = lambda step: None


@dataclass(frozen=True, eq=False)
class Fit:
    """What a method leaves; ``notes`` are numbers worth showing (chosen penalty, mu).

    ``seconds`` is measured by ``methods.fit``, not by the method.
    """

    head: LinearHead
    reason: Reason
    forwards: int
    steps: int = 0
    seconds: float = 0.0
    arrays: Mapping[str, Array] = field(default_factory=dict)
    notes: Mapping[str, float] = field(default_factory=dict)
    validation_accuracy: float | None = None


@dataclass(frozen=True)
class Method:
    """A name, what it is in one line, default settings, published presets and the fit."""

    name: str
    summary: str
    settings: Any
    fit: Callable[[Any, Task], Fit]
    presets: Mapping[str, Any] = field(default_factory=dict)

    def configure(self, preset: str | None = None, changes: Mapping[str, Any] | None = None) -> Any:
        """Settings of a preset (None: the defaults) with dotted names changed."""
        if preset is not None and preset not in self.presets:
            known = ", ".join(self.presets) or "none"
            raise InputError(f"method {self.name} has no preset '{preset}'; known: {known}")
        return override(self.presets[preset] if preset else self.settings, changes or {})


METHODS: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Make a method selectable by its name everywhere."""
    if method.name in METHODS:
        raise InputError(f"a method called '{method.name}' exists already")
    METHODS[method.name] = method
    return method


def find(name: str) -> Method:
    """The method of that name, or an InputError that lists the known ones."""
    if name not in METHODS:
        raise InputError(f"there is no method '{name}'; known: {', '.join(METHODS)}")
    return METHODS[name]


def fit(method: Method, settings: Any, task: Task) -> Fit:
    """Fit and, where the method has not done so itself, measure validation accuracy."""
    begin = time.perf_counter()
    fitted = method.fit(settings, task)
    chosen = fitted.validation_accuracy
    if chosen is None and task.validation is not None:
        chosen = accuracy(fitted.head.scores(task.validation.vectors), task.validation.labels)
    seconds = time.perf_counter() - begin
    return replace(fitted, validation_accuracy=chosen, seconds=seconds)


# --- zero-shot -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ZeroShotSettings:
    """Nothing to set."""


def zero_shot_head(tower: TextTower) -> LinearHead:
    """The classifier of the untouched template; one forward."""
    return LinearHead.of_text(normalise(tower.forward(tower.start[None])[0]), tower.logit_scale)


def _fit_zero_shot(settings: ZeroShotSettings, task: Task) -> Fit:
    return Fit(zero_shot_head(task.tower), Reason.CLOSED_FORM, forwards=1)


# --- heads on cached features --------------------------------------------------------------------


def _fit_linear_probe(settings: LinearProbeSettings, task: Task) -> Fit:
    head, penalty = fit_linear_probe(task.train, task.validation, settings)
    return Fit(head, Reason.CLOSED_FORM, forwards=0, notes={"penalty": penalty})


def _fit_projection(settings: ProjectionSettings, task: Task) -> Fit:
    tower = task.tower
    tuned = fit_projection(
        tower.states(tower.start[None])[0],
        tower.projection,
        tower.logit_scale,
        task.train,
        task.validation,
        settings,
    )
    return Fit(
        tuned.head,
        Reason.CLOSED_FORM,
        forwards=1,
        arrays={"projection_left": tuned.left, "projection_right": tuned.right},
        notes={"penalty": tuned.penalty},
    )


# --- searches over the context -------------------------------------------------------------------


@dataclass(frozen=True)
class PromptSettings:
    """A search over w in R^dim, the map from w to contexts, and how its point is chosen.

    ``std``: entries of the random map A are N(0, std**2); None scales A by the tower
    (``objective.unit_std``). ``validate_every``: forwards between two validations (one forward
    each). ``choose``: keep the point that validated best instead of the last one.
    ``measure_mu``: the steps of all finite differences come from the measured noise of the losses
    (``objective.measure_smoothing``) instead of from ``search``. ``forwards`` and
    ``steps``: what is spent where the caller sets no budget.
    """

    dim: int = 512
    std: float | None = None
    validate_every: int = 200
    choose: bool = True
    measure_mu: bool = True
    forwards: int | None = 8000
    steps: int | None = None
    search: SharpZoSettings = field(default_factory=SharpZoSettings)

    def __post_init__(self) -> None:
        if self.dim < 1 or self.validate_every < 1 or (self.std is not None and self.std <= 0):
            raise InputError(
                f"dim {self.dim}, validate_every {self.validate_every} and std {self.std} must be "
                "above 0"
            )


LEAST_TO_MEASURE = 500  # forwards: below, 24 of them are too many for two step sizes


def with_measured_mu(search: SharpZoSettings, objective: Objective, seed: int) -> SharpZoSettings:
    """Steps of RGE (random direction) and CGE (one coordinate) from the losses' noise."""
    draws = generator(seed, "smoothing-directions")
    start = np.zeros(objective.dim)
    random = draws.standard_normal(objective.dim)
    one = np.eye(objective.dim)[int(draws.integers(objective.dim))]
    rge, cge = (measure_smoothing(objective, start, along) for along in (random, one))
    sharp = replace(search.sharpness, mu=cge if search.sharpness.estimator == "cge" else rge)
    return replace(search, sharpness=sharp, zo=replace(search.zo, mu=rge, mu_refresh=cge))


def _fit_prompt(settings: PromptSettings, task: Task) -> Fit:
    tower = task.tower
    std = unit_std(tower) if settings.std is None else settings.std
    contexts = ContextMap(tower.start, dim=settings.dim, std=std, seed=task.seed)
    objective = Objective(tower, task.train, contexts)
    budget = task.budget
    if budget == Budget():
        budget = Budget(forwards=settings.forwards, steps=settings.steps)
    chosen = settings.search
    if settings.measure_mu and (budget.forwards or LEAST_TO_MEASURE) >= LEAST_TO_MEASURE:
        chosen = with_measured_mu(chosen, objective, task.seed)
    search = SharpZo(settings.dim, chosen, seed=task.seed)
    chooser = Chooser(task.validation, tower.logit_scale)
    result = run(
        search,
        objective,
        budget,
        chooser,
        validate_every=settings.validate_every,
        choose=settings.choose,
        listen=task.listen,
    )
    context = contexts(result.best[None])[0]
    return Fit(
        LinearHead.of_text(result.text_features, tower.logit_scale),
        result.reason,
        result.forwards,
        result.steps,
        arrays={"context": context.astype(np.float32)},
        notes={
            "training_loss": result.loss,
            "failures": objective.failures,
            "mu": chosen.zo.mu,
        },
        validation_accuracy=result.validation_accuracy,
    )


def _published() -> dict[str, PromptSettings]:
    """Published settings: the last point is reported, steps are counted, no validation chooses."""
    return {
        name: PromptSettings(
            dim=preset.dim,
            std=preset.std,
            choose=False,
            measure_mu=False,
            forwards=None,
            steps=preset.steps,
            search=preset.settings,
        )
        for name, preset in PRESETS.items()
    }


_NEVER = SwitchSettings(generation=None, patience=None)
# For photos that nobody has tuned for; w is in token distances (``unit_std``), so the published
# figures do not carry over. Chosen by validation accuracy in experiments/defaults.
_SHARPZO = PromptSettings(
    search=SharpZoSettings(
        cma=CmaSettings(population_size=40, sigma=0.4, laziness=10.0),
        # The shift costs 40 forwards in 10 generations instead of 1,024 in each.
        sharpness=SharpnessSettings(rho=0.1, estimator="rge", directions=20, refresh_every=10),
        switch=SwitchSettings(generation=50, patience=10, min_gain=0.01),
        zo=ZoSettings(learning_rate=0.3, keep=0.5, score="z", refresh=1000),
    )
)

register(Method("zero-shot", "the model as it is", ZeroShotSettings(), _fit_zero_shot))
register(
    Method(
        "linear-probe",
        "logistic regression on image features; knows no names, no forwards",
        LinearProbeSettings(),
        _fit_linear_probe,
    )
)
register(
    Method(
        "projection",
        "text projection tuned in closed form; one forward, keeps unseen classes",
        ProjectionSettings(),
        _fit_projection,
    )
)
register(
    Method(
        "cma-es",
        "plain CMA-ES over a random projection of the context",
        replace(
            _SHARPZO,
            search=replace(
                _SHARPZO.search, sharpness=SharpnessSettings(estimator="none"), switch=_NEVER
            ),
        ),
        _fit_prompt,
    )
)
register(
    Method(
        "sharp-cma-es",
        "sharpness-aware CMA-ES: stage 1 of SharpZO alone",
        replace(_SHARPZO, search=replace(_SHARPZO.search, switch=_NEVER)),
        _fit_prompt,
    )
)
register(
    Method(
        "sharpzo",
        "SharpZO: sharpness-aware CMA-ES, then sparse zeroth-order descent",
        _SHARPZO,
        _fit_prompt,
        _published(),
    )
)
