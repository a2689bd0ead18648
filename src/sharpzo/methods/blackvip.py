"""``blackvip``: BlackVIP (CVPR 2023, arXiv 2303.14773), a prompt of pixels for each photo.

A decoder turns what a frozen encoder sees in a photo, and a trigger shared by all photos, into an
image that is added to the photo. The authors' encoder is a ViT-MAE of its own; here it is the
checkpoint's image tower, so that nothing else has to be shipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from sharpzo.budget import Budget
from sharpzo.data.dataset import LabelledPhotos
from sharpzo.errors import InputError
from sharpzo.linear import LinearHead
from sharpzo.methods.decoder import (
    FRESH,
    PARAMETERS,
    Coordinator,
    PromptedHead,
    add_prompts,
    decode,
    initial,
)
from sharpzo.methods.registry import Fit, Task, register
from sharpzo.methods.searching import SearchingSettings, SearchMethod, search_until_spent
from sharpzo.methods.zero_shot import zero_shot_head
from sharpzo.metrics import accuracy, cross_entropy, normalise
from sharpzo.optim.search import Kept
from sharpzo.optim.spsa import Spsa, SpsaSettings
from sharpzo.settings import Count, Positive, Share, ViewSettings
from sharpzo.tuning.objective import minibatch
from sharpzo.types import Array, Evaluated, Features, ImageTower, TextTower

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class BlackVipSettings(SearchingSettings, ViewSettings):
    """BlackVIP's prompt and search (SPSA-GC).

    ``batch`` photos per step, each as one of ``views`` augmented views or as it is; ``epsilon`` the
    prompt's strength. A forward is a minibatch through the image tower; ``image_passes`` limits
    single photos through it, evaluations included. ``epochs`` plans steps: so many times the
    minibatches that fill the training photos.
    """

    forwards: Count | None = None
    validate_every: Count = 100
    image_passes: Count | None = 5000
    epochs: Count | None = None
    batch: Count = 32
    epsilon: Positive = 0.4
    view_scale: tuple[Share, Share] = (0.08, 1.0)
    search: SpsaSettings = field(
        default_factory=lambda: SpsaSettings(c=0.005, gamma=0.2, clip=False, momentum=0.9)
    )


@dataclass(eq=False)
class PixelObjective(Kept):
    """Mean cross-entropy of BlackVIP's numbers (P, 9920) on a minibatch of photos.

    A forward is one minibatch through the image tower; ``image_passes`` counts single photos.
    ``pool`` are the ``many`` photos trained on (or their views, view-major) and ``encoded`` their
    features, whose states the decoder reads. The BatchNorms use the minibatch's statistics, and
    every candidate of every step moves the running ones, which evaluations use, as in the authors'
    program. An evaluation sees the minibatch of step 0 and all validation photos.
    """

    KEPT = ("forwards", "image_passes", "failures", "running")

    tower: ImageTower
    text: LinearHead
    pool: LabelledPhotos
    encoded: Features
    validation: tuple[LabelledPhotos, Features] | None
    many: int
    batch: int
    epsilon: float
    seed: int = 1

    def __post_init__(self) -> None:
        self.dim = PARAMETERS
        self.forwards = self.image_passes = self.failures = 0
        self.batch = min(self.batch, self.many)
        self.running = FRESH
        flat = (np.full((64, 64, 3), value, np.uint8) for value in (0, 255))
        self.low, self.high = self.tower.pixels(flat)[:, :, 0, 0]

    @property
    def passes_per_evaluation(self) -> int:
        """Image passes of one evaluation."""
        return self.batch + (0 if self.validation is None else len(self.validation[0]))

    def price(self, points: int, directions: int = 0) -> int:
        return points + directions

    def losses(self, points: Array, step: int = 0) -> Array:
        rows = self._rows(step)
        pixels = self.tower.pixels(self.pool.take(rows).decoded())
        assert self.encoded.states is not None
        states, labels = self.encoded.states[rows], self.encoded.labels[rows]
        found = []
        for candidate in points:
            with np.errstate(all="ignore"):
                prompts, batch = decode(candidate, states)
                self.running = 0.9 * self.running + 0.1 * batch
                prompted = add_prompts(pixels, prompts, self.epsilon, self.low, self.high)
                logits = self._logits(prompted)
                found.append(float(cross_entropy(logits, labels)))
            self.forwards += 1
        finite = np.isfinite(found)
        self.failures += int((~finite).sum())
        return np.where(finite, found, np.inf)

    def evaluate(self, point: Array) -> Evaluated:
        """One point (9920,) on the minibatch of step 0 and all validation photos."""
        self.forwards += 1
        prompter = Coordinator(
            point.astype(np.float32), self.running, self.epsilon, self.low, self.high
        )
        rows, held = self._rows(0), (None, None)
        loss, _ = self._measured(prompter, self.pool.take(rows), self.encoded.take(rows))
        if self.validation is not None:
            held = self._measured(prompter, *self.validation)
        return Evaluated(PromptedHead(self.text, prompter), loss, held[1], held[0])

    def _rows(self, step: int) -> Array:
        return minibatch(self.seed, step, self.many, self.batch, len(self.pool) // self.many)

    def _measured(
        self, prompter: Coordinator, photos: LabelledPhotos, encoded: Features
    ) -> tuple[float, float]:
        """Loss and accuracy on photos as they are predicted, a few at a time."""
        assert encoded.states is not None
        parts = []
        for first in range(0, len(photos), 32):
            rows = range(first, min(first + 32, len(photos)))
            pixels = self.tower.pixels(photos.take(rows).decoded())
            states = encoded.states[rows.start : rows.stop]
            parts.append(self._logits(prompter.prompt(pixels, states)))
        logits = np.concatenate(parts)
        return float(cross_entropy(logits, encoded.labels)), accuracy(logits, encoded.labels)

    def _logits(self, pixels: Array) -> Array:
        self.image_passes += len(pixels)
        vectors = normalise(self.tower.forward(pixels) @ self.tower.projection.T)
        return self.text.scale * (vectors @ self.text.weight.T)


def fit(settings: BlackVipSettings, task: Task) -> Fit:
    """Search decoder and trigger for the lowest training loss; text stays the template's."""
    images, validation = task.images, None
    assert images is not None
    if task.validation is not None and images.validation is not None:
        validation = images.validation, task.validation
    with closing(images.open_tower()) as tower:
        objective = PixelObjective(
            tower,
            zero_shot_head(task.tower),
            images.views or images.train,
            task.views or task.train,
            validation,
            many=len(task.train),
            batch=settings.batch,
            epsilon=settings.epsilon,
            seed=task.seed,
        )
        search = Spsa(PARAMETERS, settings.search, task.seed, initial(task.seed))
        budget = _budget(settings, task, objective)
        result = search_until_spent(search, objective, settings, replace(task, budget=budget))
    return Fit.of_search(
        result, image_passes=objective.image_passes, notes={"failures": objective.failures}
    )


def _budget(settings: BlackVipSettings, task: Task, objective: PixelObjective) -> Budget:
    """The caller's budget or the settings', and no more steps than epochs and passes allow."""
    budget = settings.budget(task)
    limits = [] if budget.steps is None else [budget.steps]
    if settings.epochs is not None and task.budget == Budget():
        limits.append(settings.epochs * max(1, len(task.train) // objective.batch))
    if settings.image_passes is not None:
        limits.append(
            steps_within(
                settings.image_passes,
                calls=2 * settings.search.directions,
                per_call=objective.batch,
                per_evaluation=objective.passes_per_evaluation,
                validate_every=settings.validate_every,
            )
        )
    if not limits and budget == Budget():
        raise InputError("nothing ends this search; give image_passes, epochs or a budget")
    return replace(budget, steps=min(limits) if limits else None)


def steps_within(
    passes: int, *, calls: int, per_call: int, per_evaluation: int, validate_every: int
) -> int:
    """Steps of ``calls`` minibatches whose image passes, evaluations included, stay in ``passes``.

    Counts as ``run`` does: an evaluation before the first step, after the steps that complete
    ``validate_every`` forwards, and after the last one.

    >>> steps_within(5000, calls=10, per_call=32, per_evaluation=72, validate_every=100)
    14
    """
    step, spent, forwards, looked = 0, per_evaluation, 1, 0
    # The last step is always evaluated.
    while (spent := spent + calls * per_call) + per_evaluation <= passes:
        step, forwards = step + 1, forwards + calls
        if forwards - looked >= validate_every:
            looked, spent, forwards = forwards, spent + per_evaluation, forwards + 1
    if step == 0:
        raise InputError(
            f"image_passes is {passes}, but one step and the evaluations around it take "
            f"{calls * per_call + 2 * per_evaluation}; give that many, or a smaller batch"
        )
    return step


def rename(arrays: Mapping[str, Array], tower: TextTower) -> PromptedHead:
    """Prompted photos against other names in the same template."""
    return PromptedHead(zero_shot_head(tower), Coordinator.from_arrays(arrays))


# Data set: epochs, momentum, gamma, c, epsilon (docs/configuration.md of the authors' program).
_TABLE = {
    "caltech": (5000, 0.9, 0.2, 0.005, 0.2),
    "pets": (5000, 0.9, 0.1, 0.01, 1.0),
    "cars": (2500, 0.9, 0.2, 0.01, 0.3),
    "flowers": (5000, 0.5, 0.2, 0.02, 1.0),
    "food101": (5000, 0.9, 0.1, 0.01, 0.3),
    "fgvc": (5000, 0.3, 0.1, 0.01, 0.5),
    "sun397": (1000, 0.5, 0.1, 0.01, 1.0),
    "dtd": (5000, 0.7, 0.2, 0.01, 0.3),
    "svhn": (5000, 0.9, 0.2, 0.005, 1.0),
    "eurosat": (5000, 0.9, 0.2, 0.005, 0.4),
    "resisc45": (5000, 0.95, 0.1, 0.01, 0.3),
    "clevr": (5000, 0.9, 0.2, 0.005, 1.0),
    "ucf101": (5000, 0.9, 0.1, 0.01, 0.3),
    "imagenet": (500, 0.9, 0.2, 0.005, 0.3),
}


def _published(
    epochs: int, momentum: float, gamma: float, c: float, epsilon: float
) -> BlackVipSettings:
    """The last iterate. The authors draw new views in every step; here 20 per photo are encoded."""
    return BlackVipSettings(
        image_passes=None,
        epochs=epochs,
        batch=128,
        epsilon=epsilon,
        views=20,
        validate_every=10_000,
        choose=False,
        search=SpsaSettings(c=c, gamma=gamma, clip=False, momentum=momentum),
    )


register(
    SearchMethod(
        "blackvip",
        "BlackVIP: SPSA over a decoder that adds a prompt to the pixels; image passes, no text",
        BlackVipSettings(),
        fit,
        {name: _published(*row) for name, row in _TABLE.items()},
        load=PromptedHead.from_arrays,
        rename=rename,
        need=None,
        images=True,
    )
)
