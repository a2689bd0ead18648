"""The ladder with its image side: `token_ladder.py` on the features of a tuned last block, if they
are better on the validation photos.

The descent (`factors.py`) also sees the training photos mirrored, their middle, and this mirrored:
160 photos alone are learnt by heart. The ladder that follows is fitted to the photos themselves, or
to the views that it may choose from.

A name with photos is scored by its ladder on the tuned features, z. Names without photos must keep
zero-shot's order, which is that of the untuned features x:

    logits_k = sharpness (a x . t_k + b) + weight (1 - K / N) (z . w + c),  over a temperature

with a and b of the ladder on x (both are regressions to 0 and 1, hence on one scale), and w and c
of the average class that the Gaussian expert on z compares with its own: it is the same for all of
them, and says how much a photo looks like a class that has photos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.detour import seen_through, vectors_by
from sharpzo.errors import ArtifactError, InputError
from sharpzo.linear import LinearHead, blocks, keep, take
from sharpzo.memory import Need
from sharpzo.methods import ladder, token_ladder
from sharpzo.methods.cached import Penalty, read_text
from sharpzo.methods.factors import Factors, Photos, tune
from sharpzo.methods.ladder import Ladder, line
from sharpzo.methods.last_block import Seen
from sharpzo.methods.moments import Moments
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.methods.seen_file import SeenFile, bytes_of
from sharpzo.methods.token_ladder import (
    Reading,
    TokenHead,
    TokenLadderSettings,
    fit_tokens,
    wanted_views,
)
from sharpzo.metrics import accuracy, cross_entropy, normalise
from sharpzo.settings import Count, Positive
from sharpzo.types import Array, Features, Head, ImageTower, LastBlock, Reason, TextTower

if TYPE_CHECKING:
    from sharpzo.towers.checkpoint import Checkpoint

# Fixed views for the descent, as many as are wanted.
_VIEWS = ("mirror", "middle", "mirrored middle")


@dataclass(frozen=True)
class ImageLadderSettings(TokenLadderSettings):
    """``rank`` of the factors; the validation photos choose among ``steps`` of the descent and
    none at all, by the cross-entropy of the ladder that follows.

    With fewer than ``evidence`` validation photos there is no descent. ``rate`` is
    Adam's, ``offset_penalty`` that of `factors.py`. Each training photo is seen in the descent
    through up to ``training_views``, as far as they are no more than ``rows`` in all.
    """

    training_views: Count = 4
    rows: Count = 2000
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
    """Logits = z @ tuned.T + x @ plain.T + bias: z (N, Z) is what ``reading`` makes of photos whose
    vectors come by way of ``detour``, x (N, D) their vectors straight through the tower, both the
    mean over the views; tuned (K, Z), plain (K, D), bias (K,)."""

    tuned: Array
    plain: Array
    bias: Array
    detour: Factors
    reading: Reading

    @property
    def fixed_views(self) -> tuple[str, ...]:
        """Which views photos have to be encoded through."""
        return self.reading.views

    def scores(self, photos: Features) -> Array:
        parts = [np.zeros((0, len(self.bias)), np.float32)]
        for rows in blocks(len(photos), self.tuned.shape[1]):
            some = photos.take(rows)
            by = replace(
                some,
                vectors=vectors_by(self.detour, some),
                by_view={
                    view: replace(one, vectors=vectors_by(self.detour, one))
                    for view, one in some.by_view.items()
                    if view in self.fixed_views
                },
            )
            seen = seen_through(some, self.fixed_views)
            straight = np.mean([one.vectors for one in seen], axis=0)
            parts.append(self.reading(by) @ self.tuned.T + straight @ self.plain.T + self.bias)
        return np.concatenate(parts)

    def arrays(self) -> dict[str, Array]:
        rows = keep(tuned=self.tuned, plain=self.plain, bias=self.bias)
        return rows | self.detour.arrays() | self.reading.arrays()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> TunedHead:
        """Raises ArtifactError if an array is missing. Earlier versions read no tokens."""
        tuned, plain, bias = take(arrays, tuned=("K", "Z"), plain=("K", "D"), bias=("K",))
        wider = tuned.shape[1] - plain.shape[1]
        if wider or "centre" in arrays:
            reading = Reading.from_arrays(arrays)
        else:
            reading = Reading(np.zeros((2, 0), np.float32), 0.0)
        if reading.centre.size != wider:
            raise ArtifactError(
                f"the array 'tuned' is {wider} numbers wider than 'plain', and the tokens have "
                f"{reading.centre.size}; fit again"
            )
        return cls(tuned, plain, bias, Factors.from_arrays(arrays), reading)


@dataclass(frozen=True, eq=False)
class Shown:
    """Photos for a descent: their features, and themselves before the last block (V N rows), as
    they are and then through each of ``views``."""

    features: Features
    seen: Photos
    views: Sequence[str] = ()


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
        block, projection, train.seen, np.tile(labels, 1 + len(train.views)), text, scale,
        rank=settings.rank, rate=settings.rate, penalty=settings.offset_penalty, seed=seed,
    )  # fmt: skip

    def through(factors: Factors, shown: Shown) -> Features:
        many = len(shown.features)

        def vectors(place: int) -> Array:
            among = range(place * many, (place + 1) * many)
            return normalise(factors.states(block, shown.seen, among) @ projection.T)

        by_view = {
            view: replace(one, vectors=vectors(1 + shown.views.index(view)))
            for view, one in shown.features.by_view.items()
        }
        return replace(shown.features, vectors=vectors(0), by_view=by_view)

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
    ladder, reading = fit_tokens(moved, text, held, settings)
    right = accuracy(TokenHead(ladder.head, reading).scores(held), held.labels)
    unseen = _unseen(ladder, reading, train.features, moved, text, settings)
    known = np.bincount(labels, minlength=len(text)) > 0
    rows = np.where(known, np.arange(len(text)), -1)
    by_photos = TunedHead(
        ladder.head.weight, np.zeros_like(text), ladder.head.bias, factors, reading
    )
    head = named({**by_photos.arrays(), **unseen}, text, rows)
    notes = {**ladder.notes, "chosen_steps": steps, "views": 1 + len(reading.views)}
    return Fit(head, Reason.STEPS, 0, made, arrays=unseen, notes=notes, validation_accuracy=right)


def _loss(train: Features, held: Features, text: Array, settings: ImageLadderSettings) -> float:
    ladder, reading = fit_tokens(train, text, held, settings)
    return float(cross_entropy(TokenHead(ladder.head, reading).scores(held), held.labels))


def _unseen(
    ladder: Ladder,
    reading: Reading,
    photos: Features,
    moved: Features,
    text: Array,
    settings: ImageLadderSettings,
) -> dict[str, Array]:
    """What a name without photos gets: the average class, and the line of untuned cosines in
    place of the line that is in its level."""

    def straight(some: Features) -> Array:
        seen = [one.vectors for one in seen_through(some, reading.views)]
        return np.stack(seen, axis=1).astype(np.float64)

    factor, shift = line(Moments.of(photos, len(text), straight), text)
    _, tuned_shift = line(Moments.of(moved, len(text), straight), text)
    sharpness = settings.sharpness / ladder.temperature
    weight, level, _ = ladder.unseen
    level += sharpness * (shift - tuned_shift)
    return keep(unseen_weight=weight, unseen_text=np.array([level, sharpness * factor]))


def named(arrays: Mapping[str, Array], text: Array, rows: Array) -> TunedHead:
    """The classifier of names with unit text (M, D): ``rows`` (M,) say which class of the fitted
    head a name is, -1 for one without photos; raises ArtifactError if an array is missing."""
    fitted = TunedHead.from_arrays(arrays)
    unseen, (level, factor) = take(arrays, unseen_weight=("Z",), unseen_text=(2,))
    known = rows >= 0
    return TunedHead(
        np.where(known[:, None], fitted.tuned[rows], unseen).astype(np.float32),
        np.where(known[:, None], 0, factor * text).astype(np.float32),
        np.where(known, fitted.bias[rows], level).astype(np.float32),
        fitted.detour,
        fitted.reading,
    )


def fit(settings: ImageLadderSettings, task: Task) -> Fit:
    """Photos pass the image tower once more, up to its last block, which is then tuned alone."""
    plain, images, held = token_ladder.fit(settings, task), task.images, task.validation
    if held is None or len(held) < settings.evidence:
        return plain
    assert images is not None and images.validation is not None  # noqa: PT018
    wanted = wanted_views(settings)
    more = _VIEWS[: max(1, min(settings.training_views, settings.rows // len(task.train))) - 1]
    learnt = [view for view in _VIEWS if view in {*more, *wanted}]
    views = sorted(wanted)
    text, scale = read_text(task.tower).features, task.tower.logit_scale
    with ExitStack() as stack:
        with closing(images.open_tower()) as tower:
            train = Shown(task.train, see(tower, images.train, learnt, stack), learnt)
            validation = Shown(held, see(tower, images.validation, views, stack), views)
        # What remains is the last block's.
        tuned = fit_image_ladder(tower, train, validation, text, scale, settings, task.seed)
    if tuned is None:
        notes = {**plain.notes, "chosen_steps": 0}
        tuned = replace(plain, reason=Reason.STEPS, steps=max(settings.steps), notes=notes)
    passes = plain.image_passes + len(train.seen) + len(validation.seen)
    arrays = {**plain.arrays, **tuned.arrays}
    return replace(tuned, forwards=plain.forwards, image_passes=passes, arrays=arrays)


def see(
    tower: ImageTower,
    photos: LabelledPhotos,
    views: Sequence[str] = (),
    stack: ExitStack | None = None,
) -> Photos:
    """Photos before the last block as they are, then through each of ``views``, tokens in half
    precision: 2 T S bytes of each stay, in a file until the ``stack`` ends where there is a memory
    limit, else in memory."""
    kept: Seen | SeenFile | None = None
    many, size = len(photos), tower.at_once or 16
    for place, view in enumerate(("", *views)):
        split = photos.seen(view) if view else photos
        for first in range(0, many, size):
            rows = range(first, min(first + size, many))
            tokens, _ = tower.trace(tower.pixels(split.take(rows).decoded()))
            if kept is None:
                whole = (1 + len(views)) * many, *tokens.shape[1:]
                if tower.at_once is None or stack is None:
                    kept = Seen(np.empty(whole, np.float16), np.empty(whole[::2], np.float32))
                else:
                    kept = stack.enter_context(closing(SeenFile(whole[0], tokens.shape[1:])))
            kept.put(place * many + first, Seen.of(tokens, tower.last_block.eps))
    assert kept is not None
    return kept


def load(arrays: Mapping[str, Array]) -> Head:
    """The head on tuned features, or the ladder's if tuning did not help; earlier versions kept a
    ladder without tokens."""
    if "tuned" in arrays:
        return TunedHead.from_arrays(arrays)
    return (TokenHead if "centre" in arrays else LinearHead).from_arrays(arrays)


def rename(arrays: Mapping[str, Array], tower: TextTower) -> Head:
    """Names with photos keep their classifier; others get their text, on untuned features."""
    if "tuned" in arrays:
        rows = ladder.recorded_rows(arrays, tower)
        return named(arrays, read_text(tower).features, rows)
    return (token_ladder if "centre" in arrays else ladder).rename(arrays, tower)


def has_last_block(settings: ImageLadderSettings, tower: TextTower) -> None:
    """Raise `InputError` for a model whose image tower has no last block to tune."""
    from sharpzo.towers.tower import OnnxTextTower

    if isinstance(tower, OnnxTextTower):
        last_block(tower.checkpoint)


def last_block(checkpoint: Checkpoint) -> LastBlock:
    """The last block of a checkpoint's image tower, its pages not yet in memory."""
    from sharpzo.towers.families import image_family

    block = image_family(checkpoint).last_block(checkpoint)
    checkpoint.weights.release()
    return block


def need(settings: ImageLadderSettings, tower: TextTower) -> Need:
    """The block, the changed one, their matrices' slopes, two of a chunk, and a chunk's rows."""
    from sharpzo.towers.preprocess import Preprocessing
    from sharpzo.towers.tower import OnnxTextTower

    if not isinstance(tower, OnnxTextTower):
        return Need()
    checkpoint = tower.checkpoint
    block, patch = last_block(checkpoint), checkpoint.image.patch
    height, width = Preprocessing.open(checkpoint).size
    tokens = 1 + (height // patch) * (width // patch)
    whole = sum(weight.nbytes + bias.nbytes for weight, bias in block.parts.values())
    largest = max(weight.nbytes for weight, _ in block.parts.values())
    chunk = bytes_of((tokens, len(block.parts["norm"][0])), block.heads)
    return Need(3 * whole + 2 * largest + chunk, block=whole)


def few(settings: ImageLadderSettings, encoded: Mapping[str, Features]) -> str | None:
    """A sentence where photos are too few for a descent."""
    held = len(encoded["validation"]) if "validation" in encoded else 0
    if held >= settings.evidence:
        return None
    return (
        "ladder+image is ladder+tokens here: it tunes the last image block with "
        f"{settings.evidence} validation photos or more (evidence), and there are {held}"
    )


register(
    Method(
        "ladder+image",
        "ladder+tokens on features of a tuned last image block, if validation photos improve",
        ImageLadderSettings(),
        fit,
        load=load,
        rename=rename,
        fixed_views=wanted_views,
        need=need,
        images=True,
        suits=has_last_block,
        caution=few,
    )
)
