"""``blackvip``: BlackVIP (CVPR 2023, arXiv 2303.14773), a prompt of pixels for each photo.

A decoder turns what a frozen encoder sees in a photo, and a trigger shared by all photos, into an
image that is added to the photo. The authors' encoder is a ViT-MAE of its own; here it is the
checkpoint's image tower, so that nothing else has to be shipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sharpzo.budget import Budget
from sharpzo.errors import InputError
from sharpzo.methods.decoder import PARAMETERS, Coordinator, PromptedHead, initial
from sharpzo.methods.pixels import PixelObjective
from sharpzo.methods.registry import Fit, Images, Task, own_views, register
from sharpzo.methods.searching import SearchingSettings, SearchMethod, search_until_spent
from sharpzo.methods.zero_shot import zero_shot_head
from sharpzo.optim.spsa import Spsa, SpsaSettings
from sharpzo.settings import Count, Positive, Share, ViewSettings
from sharpzo.types import Array, TextTower


@dataclass(frozen=True)
class BlackVipSettings(SearchingSettings, ViewSettings):
    """BlackVIP's prompt and search (SPSA-GC).

    ``batch`` photos per step, each as one of ``views`` augmented views or as it is; ``epsilon`` the
    prompt's strength. A forward is a minibatch through the image tower; ``image_passes`` limits
    single photos through it, judgements included. ``epochs`` plans steps: so many times the
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


def fit(settings: BlackVipSettings, task: Task) -> Fit:
    """Search decoder and trigger for the lowest training loss; text stays the template's."""
    images = _images(task)
    views = images.views if settings.views else None
    encoded = task.views if settings.views else task.train
    if settings.views and (views is None or encoded is None):
        raise InputError(f"views is {settings.views}, but the task has no augmented views")
    assert encoded is not None
    validation = None
    if task.validation is not None and images.validation is not None:
        validation = images.validation, task.validation
    tower = images.open_tower()
    try:
        objective = PixelObjective(
            tower,
            zero_shot_head(task.tower),
            images.train if views is None else views,
            encoded,
            validation,
            many=len(task.train),
            batch=settings.batch,
            epsilon=settings.epsilon,
            seed=task.seed,
        )
        result = search_until_spent(
            Spsa(PARAMETERS, settings.search, task.seed, initial(task.seed)),
            objective,
            settings,
            replace(task, budget=_budget(settings, task, objective)),
        )
    finally:
        tower.close()
    return Fit.of_search(
        result,
        image_passes=objective.image_passes,
        notes={"failures": objective.failures},
    )


def _images(task: Task) -> Images:
    states = task.train.states
    if task.images is None or states is None:
        raise InputError(
            "blackvip changes the photos themselves, and this task holds their features alone; "
            "fit it through PromptClassifier"
        )
    return task.images


def _budget(settings: BlackVipSettings, task: Task, objective: PixelObjective) -> Budget:
    """The caller's budget or the settings', and no more steps than epochs and passes allow."""
    budget = settings.budget(task)
    limits = [] if budget.steps is None else [budget.steps]
    if settings.epochs is not None and task.budget == Budget():
        limits.append(settings.epochs * max(1, len(task.train) // objective.passes_per_call))
    if settings.image_passes is not None:
        limits.append(
            steps_within(
                settings.image_passes,
                calls=2 * settings.search.directions,
                per_call=objective.passes_per_call,
                per_judgement=objective.passes_per_judgement,
                validate_every=settings.validate_every,
            )
        )
    if not limits and budget == Budget():
        raise InputError("nothing ends this search; give image_passes, epochs or a budget")
    return replace(budget, steps=min(limits) if limits else None)


def steps_within(
    passes: int, *, calls: int, per_call: int, per_judgement: int, validate_every: int
) -> int:
    """Steps of ``calls`` minibatches whose image passes, judgements included, stay in ``passes``.

    Counts as ``run`` does: a judgement before the first step, after the steps that complete
    ``validate_every`` forwards, and after the last one.

    >>> steps_within(5000, calls=10, per_call=32, per_judgement=72, validate_every=100)
    14
    """
    step, spent, forwards, looked = 0, per_judgement, 1, 0
    while True:
        spent += calls * per_call
        forwards += calls
        if spent + per_judgement > passes:  # the last step is always judged
            break
        step += 1
        if forwards - looked >= validate_every:
            looked, spent, forwards = forwards, spent + per_judgement, forwards + 1
    if step == 0:
        raise InputError(
            f"image_passes is {passes}, but one step and the judgements around it take "
            f"{calls * per_call + 2 * per_judgement}; give that many, or a smaller batch"
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
        views=own_views,
        images=True,
    )
)
