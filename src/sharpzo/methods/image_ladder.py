"""The ladder with its image side: `ladder.py` on the features of a tuned last block, if they are
better on the validation photos.

A name with photos is scored by its ladder on the tuned features z. Names without photos must keep
zero-shot's order, which is that of the untuned features x:

    logits_k = sharpness (a x . t_k + b) + weight (1 - K / N) (z . w + c),  over a temperature

with a and b of the ladder on x (both are regressions to 0 and 1, hence on one scale), and w and c
of the average class that the Gaussian expert on z compares with its own: it is the same for all of
them, and says how much a photo looks like a class that has photos.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.detour import vectors_by
from sharpzo.errors import InputError
from sharpzo.linear import LinearHead, keep, take
from sharpzo.methods import ladder
from sharpzo.methods.cached import Penalty, read_text
from sharpzo.methods.factors import Factors, tune
from sharpzo.methods.ladder import Ladder, LadderSettings, fit_ladder, line
from sharpzo.methods.last_block import Seen
from sharpzo.methods.moments import Moments
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.metrics import accuracy, cross_entropy, normalise
from sharpzo.settings import Count, NotNegative, Positive
from sharpzo.types import Array, Features, Head, ImageTower, Reason, TextTower


@dataclass(frozen=True)
class ImageLadderSettings(LadderSettings):
    """``rank`` of the factors; the validation photos choose among ``steps`` of the descent and
    none at all, by the cross-entropy of the ladder that follows.

    With fewer than ``evidence`` validation photos there is no descent. ``rate`` is
    Adam's, ``offset_penalty`` that of `factors.py`.
    """

    gaussian: NotNegative = 0.25
    rank: Count = 4
    rate: Positive = 0.01
    steps: tuple[Count, ...] = (5, 10, 20, 40)
    evidence: Count = 40
    offset_penalty: Penalty = 0.01

    def check(self) -> None:
        if not self.steps or list(self.steps) != sorted(set(self.steps)):
            raise InputError(f"steps is {self.steps}; give rising numbers above 0")


@dataclass(frozen=True, eq=False)
class TunedHead:
    """Logits = z @ tuned.T + x @ plain.T + bias, x (N, D) the photos' vectors and z those by way
    of ``detour``; tuned and plain (K, D), bias (K,)."""

    tuned: Array
    plain: Array
    bias: Array
    detour: Factors

    def scores(self, photos: Features) -> Array:
        by = vectors_by(self.detour, photos)
        return by @ self.tuned.T + photos.vectors @ self.plain.T + self.bias

    def arrays(self) -> dict[str, Array]:
        rows = keep(tuned=self.tuned, plain=self.plain, bias=self.bias)
        return rows | self.detour.arrays()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> TunedHead:
        tuned, plain, bias = take(arrays, tuned=("K", "D"), plain=("K", "D"), bias=("K",))
        return cls(tuned, plain, bias, Factors.from_arrays(arrays))


@dataclass(frozen=True, eq=False)
class Shown:
    """Photos for a descent: their features, and themselves before the last block."""

    features: Features
    seen: Seen


def fit_image_ladder(
    tower: ImageTower,
    train: Shown,
    validation: Shown,
    text: Array,
    scale: float,
    settings: ImageLadderSettings,
    seed: int,
) -> Fit | None:
    """Tune the tower's last block for photos; None where validation prefers it as it is.

    ``text`` (K, D) has unit rows and ``scale`` is the factor on their cosines. The fit's arrays are
    what `named` needs beside the head's own.
    """
    block, projection, labels = tower.last_block, tower.projection, train.features.labels
    descent = tune(
        block, projection, train.seen, labels, text, scale,
        rank=settings.rank, rate=settings.rate, penalty=settings.offset_penalty, seed=seed,
    )  # fmt: skip

    def through(factors: Factors, shown: Shown) -> Features:
        vectors = normalise(factors.states(block, shown.seen) @ projection.T)
        return replace(shown.features, vectors=vectors)

    least, factors = _loss(train.features, validation.features, text, settings), None
    steps = made = 0
    for made, tried in zip(range(1, max(settings.steps) + 1), descent, strict=False):
        if made not in settings.steps:
            continue
        loss = _loss(through(tried, train), through(tried, validation), text, settings)
        if loss < least:
            least, steps, factors = loss, made, tried
        elif factors is not None:  # the loss had fallen and no longer does
            break
    if factors is None:
        return None
    moved = through(factors, train)
    held = through(factors, validation)
    ladder = fit_ladder(moved, text, held, settings)
    right = accuracy(ladder.head.scores(held), held.labels)
    unseen = _unseen(ladder, train.features, moved, text, settings)
    known = np.bincount(labels, minlength=len(text)) > 0
    rows = np.where(known, np.arange(len(text)), -1)
    by_photos = TunedHead(ladder.head.weight, np.zeros_like(text), ladder.head.bias, factors)
    head = named({**by_photos.arrays(), **unseen}, text, rows)
    notes = {**ladder.notes, "chosen_steps": steps}
    return Fit(head, Reason.STEPS, 0, made, arrays=unseen, notes=notes, validation_accuracy=right)


def _loss(train: Features, held: Features, text: Array, settings: LadderSettings) -> float:
    logits = fit_ladder(train, text, held, settings).head.scores(held)
    return float(cross_entropy(logits, held.labels))


def _unseen(
    ladder: Ladder, photos: Features, moved: Features, text: Array, settings: LadderSettings
) -> dict[str, Array]:
    """What a name without photos gets: the average class, and the line of untuned cosines in
    place of the line that is in its level."""
    factor, shift = line(Moments.of(photos, len(text)), text)
    _, tuned_shift = line(Moments.of(moved, len(text)), text)
    sharpness = settings.sharpness / ladder.temperature
    weight, level, _ = ladder.unseen
    level += sharpness * (shift - tuned_shift)
    return keep(unseen_weight=weight, unseen_text=np.array([level, sharpness * factor]))


def named(arrays: Mapping[str, Array], text: Array, rows: Array) -> TunedHead:
    """The classifier of names with unit text (M, D): ``rows`` (M,) say which class of the fitted
    head a name is, -1 for one without photos; raises ArtifactError if an array is missing."""
    fitted = TunedHead.from_arrays(arrays)
    unseen, (level, factor) = take(arrays, unseen_weight=("D",), unseen_text=(2,))
    known = rows >= 0
    return TunedHead(
        np.where(known[:, None], fitted.tuned[rows], unseen).astype(np.float32),
        np.where(known[:, None], 0, factor * text).astype(np.float32),
        np.where(known, fitted.bias[rows], level).astype(np.float32),
        fitted.detour,
    )


def fit(settings: ImageLadderSettings, task: Task) -> Fit:
    """Photos pass the image tower once more, up to its last block, which is then tuned alone."""
    images, text = task.images, read_text(task.tower)
    plain = ladder.fit_to(text, settings, task)
    if task.validation is None or len(task.validation) < settings.evidence:
        return plain
    assert images is not None and images.validation is not None  # noqa: PT018
    with closing(images.open_tower()) as tower:
        train = Shown(task.train, see(tower, images.train))
        held = Shown(task.validation, see(tower, images.validation))
        tuned = fit_image_ladder(
            tower, train, held, text.features, task.tower.logit_scale, settings, task.seed
        )
    if tuned is None:
        notes = {**plain.notes, "chosen_steps": 0}
        tuned = replace(plain, reason=Reason.STEPS, steps=max(settings.steps), notes=notes)
    passes, arrays = len(train.seen) + len(held.seen), {**plain.arrays, **tuned.arrays}
    return replace(tuned, forwards=plain.forwards, image_passes=passes, arrays=arrays)


def see(tower: ImageTower, photos: LabelledPhotos) -> Seen:
    """Photos before the last block, tokens in half precision: 2 T S bytes of each stay."""
    kept: Seen | None = None
    for first in range(0, len(photos), 16):
        rows = range(first, min(first + 16, len(photos)))
        tokens, _ = tower.trace(tower.pixels(photos.take(rows).decoded()))
        if kept is None:
            whole = (len(photos), *tokens.shape[1:])
            kept = Seen(np.empty(whole, np.float16), np.empty(whole[::2], np.float32))
        seen = Seen.of(tokens, tower.last_block.eps)
        kept.normal[rows.start : rows.stop] = seen.normal
        kept.first[rows.start : rows.stop] = seen.first
    assert kept is not None
    return kept


def load(arrays: Mapping[str, Array]) -> Head:
    """The head on tuned features, or the ladder's if tuning did not help."""
    return (TunedHead if "tuned" in arrays else LinearHead).from_arrays(arrays)


def rename(arrays: Mapping[str, Array], tower: TextTower) -> Head:
    """Names with photos keep their classifier; others get their text, on untuned features."""
    if "tuned" not in arrays:
        return ladder.rename(arrays, tower)
    return named(arrays, read_text(tower).features, ladder.recorded_rows(arrays, tower))


def has_last_block(settings: ImageLadderSettings, tower: TextTower) -> None:
    """Raise `InputError` for a model whose image tower has no last block to tune."""
    from sharpzo.towers.families import image_family
    from sharpzo.towers.tower import OnnxTextTower

    if isinstance(tower, OnnxTextTower):
        image_family(tower.checkpoint).last_block(tower.checkpoint)
        tower.checkpoint.weights.release()


def few(settings: ImageLadderSettings, encoded: Mapping[str, Features]) -> str | None:
    """A sentence where photos are too few for a descent."""
    held = len(encoded["validation"]) if "validation" in encoded else 0
    if held >= settings.evidence:
        return None
    return (
        f"ladder+image is ladder+gda here: it tunes the last image block with {settings.evidence} "
        f"validation photos or more (evidence), and there are {held}"
    )


register(
    Method(
        "ladder+image",
        "ladder+gda on features of a tuned last image block, if validation photos improve",
        ImageLadderSettings(),
        fit,
        load=load,
        rename=rename,
        need=None,
        images=True,
        suits=has_last_block,
        caution=few,
    )
)
