"""``ladder+image``: the ladder on features of a tuned last image block, where that pays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.errors import InputError
from sharpzo.heads.image_ladder import (
    ImageLadderSettings,
    Shown,
    TunedHead,
    fit_image_ladder,
    named,
)
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
    plain = ladder.fit_to(text, settings, task)
    if task.validation is None or len(task.validation) < settings.evidence:
        return plain
    if images.validation is None:
        raise InputError("this task has features of validation photos, but not the photos")
    tower = images.open_tower()
    try:
        train = Shown(task.train, see(tower, images.train))
        held = Shown(task.validation, see(tower, images.validation))
        tuned = fit_image_ladder(
            tower, train, held, text.features, task.tower.logit_scale, settings, task.seed
        )
    finally:
        tower.close()
    spent = {
        "reason": Reason.STEPS,
        "steps": tuned.made if tuned else max(settings.steps),
        "image_passes": len(train.seen) + len(held.seen),
    }
    if tuned is None:
        return replace(plain, **spent, notes={**plain.notes, "chosen_steps": 0})
    notes = {"penalty": tuned.penalty, "temperature": tuned.temperature}
    return replace(
        plain,
        **spent,
        head=tuned.head,
        arrays={**plain.arrays, **tuned.unseen},
        notes={**notes, "chosen_steps": tuned.steps},
        validation_accuracy=tuned.validation_accuracy,
    )


def see(tower: ImageTower, photos: LabelledPhotos) -> Seen:
    """Photos before the last block, tokens in half precision: 2 T S bytes of each stay."""
    kept: Seen | None = None
    for first in range(0, len(photos), 16):
        rows = range(first, min(first + 16, len(photos)))
        tokens, _ = tower.trace(tower.pixels(photos.take(rows).decoded()))
        if kept is None:
            whole = (len(photos), *tokens.shape[1:])
            kept = Seen(np.empty(whole, np.float16), np.empty(whole[::2], np.float32))
        seen = Seen.of(tokens, tower.tail.eps)
        kept.normal[rows.start : rows.stop] = seen.normal
        kept.first[rows.start : rows.stop] = seen.first
    assert kept is not None
    return kept


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
        need=None,
        images=True,
    )
)
