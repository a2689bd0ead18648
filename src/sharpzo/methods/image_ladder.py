"""``ladder+image``: the ladder on features of a tuned last image block, where that pays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.errors import InputError
from sharpzo.heads.image_ladder import ImageLadderSettings, TunedHead, fit_image_ladder, named
from sharpzo.heads.linear import LinearHead
from sharpzo.heads.tail import Seen
from sharpzo.methods import ladder
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.methods.text import read_text
from sharpzo.types import Array, Head, ImageTower, Reason, TextTower


def fit(settings: ImageLadderSettings, task: Task) -> Fit:
    """Photos pass the image tower once more, up to its last block, which is then tuned alone."""
    images = task.images
    if images is None:
        raise InputError(
            "ladder+image tunes the image tower, and this task holds features alone; fit it "
            "through PromptClassifier"
        )
    text = read_text(task.tower)
    tower, held = images.open_tower(), None
    try:
        train = task.train, see(tower, images.train)
        if task.validation is not None and images.validation is not None:
            held = task.validation, see(tower, images.validation)
        tuned = fit_image_ladder(
            tower.tail, tower.projection, train, held,
            text.features, task.tower.logit_scale, settings, task.seed,
        )  # fmt: skip
    finally:
        tower.close()
    return Fit(
        tuned.head,
        Reason.STEPS if tuned.made else Reason.CLOSED_FORM,
        text.forwards,
        steps=tuned.made,
        image_passes=len(images.train) + (0 if held is None else len(held[1])),
        arrays={**tuned.arrays, "names": ladder.record_names(task)},
        notes={
            "penalty": tuned.penalty,
            "temperature": tuned.temperature,
            "chosen_steps": tuned.steps,
        },
        validation_accuracy=tuned.validation_accuracy,
    )


def see(tower: ImageTower, photos: LabelledPhotos) -> Seen:
    """Photos before the last block, tokens in half precision: 2 T S bytes of each stay."""
    eps, parts = tower.tail.eps, []
    for first in range(0, len(photos), 16):
        some = photos.take(range(first, min(first + 16, len(photos))))
        seen = Seen.of(tower.trace(tower.pixels(some.decoded()))[0], eps)
        parts.append((seen.normal.astype(np.float16), seen.first.copy()))
    return Seen(*(np.concatenate(rows) for rows in zip(*parts, strict=True)))


def load(arrays: Mapping[str, Array]) -> Head:
    """The head on tuned features, or the ladder's where tuning did not pay."""
    return (TunedHead if "tuned" in arrays else LinearHead).from_arrays(arrays)


def rename(arrays: Mapping[str, Array], tower: TextTower) -> Head:
    """Names with photos keep their classifier; others get their text, on untuned features."""
    if "tuned" not in arrays:
        return ladder.rename(arrays, tower)
    return named(arrays, read_text(tower).features, ladder.recorded_rows(arrays, tower))


register(
    Method(
        "ladder+image",
        "ladder+gda on features of a tuned last image block, if validation photos prefer these",
        ImageLadderSettings(),
        fit,
        load=load,
        rename=rename,
        bounded=False,
    )
)
