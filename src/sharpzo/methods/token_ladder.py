"""The ladder on more of the frozen tower: its feature beside what its patches are like (ours).

The projected feature x is what the text can be compared with, and it forgets what captions do not
name: the ground of a satellite photo, a weave. The tokens of patches still have it after two thirds
of the blocks. So `ladder.py` is fitted to

    z = (sqrt(1 - share) x,  sqrt(share / 2) n(m),  sqrt(share / 2) n(s))                 (1)

with m the mean of the middle patches' tokens there and s their standard deviation
(`towers/patches.py`). n subtracts from a row the mean of its own numbers and scales it to length 1,
subtracts the mean of the training photos' and scales again. With the text (t / sqrt(1 - share), 0,
0) a cosine with a name is what it was, so equations 1 and 2 of `ladder.py` hold with z in place of
x, and so does what names without photos get. No second image pass is needed: all three come of one.

A ResNet has no such blocks: there m and s are the token that attention pools with, the mean of all
places, and the mean of the others. The earliest runs do not say what they read: the class token
before the last block and the mean of the other tokens. A tower that does not show its tokens gives
x alone: the share is then 0.

With ``views`` photos are also seen mirrored, and their middle; every view is a row of the fit, and
a photo is scored by the mean over its views. Which views is chosen by leaving photos out, each with
all of its views. With one photo per class nothing can be left out: then a photo is seen as it is,
and its middle.

Where photos and names are fewer than the numbers of z, the fit is done in the space that they span,
in which the solution lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sharpzo.data.photo import FIXED_VIEWS
from sharpzo.detour import seen_through
from sharpzo.errors import ArtifactError, InputError
from sharpzo.linear import LinearHead, keep, keep_words, take, take_words
from sharpzo.methods.cached import cached_fit, read_text
from sharpzo.methods.ladder import (
    Ladder,
    LadderSettings,
    fit_ladder,
    other_names,
    record_names,
    recorded_rows,
)
from sharpzo.methods.moments import blocks
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.metrics import normalise
from sharpzo.settings import Count, Decay, NotNegative
from sharpzo.types import Array, Features, TextTower

# Of equation 1 in choose.py, by what is read: the wider z, the further apart training logits lie.
_CALIBRATED = {"tokens": 0.32, "patches": 0.28}
_ROWS = 1024  # photos at a time: z is wider than what is kept of a photo


@dataclass(frozen=True)
class TokenLadderSettings(LadderSettings):
    """``tokens`` is the share of equation 1; with 0 it is the ladder on x alone. ``views`` is how
    often each photo may pass the image tower; with 1 no photo passes it twice."""

    gaussian: NotNegative = 0.25
    tokens: Decay = 1 / 2
    views: Count = 1

    @property
    def choices(self) -> list[tuple[str, ...]]:
        """The fixed views to choose from, the most last."""
        found = (), ("mirror",), ("middle",), ("mirror", "middle", "mirrored middle")
        return [views for views in found if len(views) < self.views]


@dataclass(frozen=True, eq=False)
class Reading:
    """What makes z of photos: the mean (2, S) of the training photos' rows, the share, the fixed
    views beside the photo as it is, and which field of `Features` has the rows."""

    centre: Array
    share: float
    views: tuple[str, ...] = ()
    field: str = "patches"

    @classmethod
    def of(cls, train: Features, share: float, views: tuple[str, ...] = ()) -> Reading:
        """That of training photos, in the numbers that a run keeps."""
        field = "tokens" if train.patches is None else "patches"
        rows = getattr(train, field)
        if rows is None:
            return cls(np.zeros((2, 0), np.float32), 0.0, views, field)
        centre = np.zeros(rows.shape[1:])
        for part in blocks(len(train), centre.size * (1 + len(views))):
            own = [_own(seen, field) for seen in seen_through(train.take(part), views)]
            centre += np.mean(own, axis=0).sum(axis=0)
        centre = (centre / len(train)).astype(np.float32)
        below_one = np.nextafter(np.float32(1), np.float32(0))
        return cls(centre, float(min(np.float32(share), below_one)), views, field)

    def rows(self, photos: Features) -> Array:
        """z (N, 1 + views, D + 2 S) of each view, of length 1."""
        found = []
        for seen in seen_through(photos, self.views):
            if not self.centre.size:
                found.append(seen.vectors)
                continue
            own = np.sqrt(self.share / 2) * normalise(_own(seen, self.field) - self.centre)
            vectors = np.sqrt(1 - self.share) * seen.vectors
            found.append(np.concatenate([vectors, own.reshape(len(photos), -1)], axis=1))
        return np.stack(found, axis=1) if self.views else found[0][:, None]

    def __call__(self, photos: Features) -> Array:
        """The mean of z over the views (N, D + 2 S)."""
        return self.rows(photos).mean(axis=1)

    def arrays(self) -> dict[str, Array]:
        """What `from_arrays` takes."""
        views = {} if not self.views else {"views": keep_words(self.views)}
        return {
            **keep(centre=self.centre, share=self.share), "read": keep_words([self.field]), **views
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Reading:
        centre, share = take(arrays, centre=(2, "S"), share=(1,))
        if not 0 <= share[0] < 1:
            raise ArtifactError(f"the artefact's share is {share[0]:g}, not from 0 to 1; fit again")
        views = take_words(arrays, "views") if "views" in arrays else ()
        # The earliest runs read the tokens before the last block, and do not say so.
        read = take_words(arrays, "read") if "read" in arrays else ["tokens"]
        if len(read) != 1 or read[0] not in _CALIBRATED:
            raise ArtifactError(
                f"the classifier reads {', '.join(read)!r} of photos; update sharpzo"
            )
        if strange := set(views) - set(FIXED_VIEWS):
            raise ArtifactError(f"the classifier reads the view {min(strange)!r}; update sharpzo")
        return cls(centre, float(share[0]), tuple(views), read[0])

    def text(self, text: Array) -> Array:
        """Unit text features (K, D) so that their products with z are cosines (K, D + 2 S)."""
        return np.pad(text / np.sqrt(1 - self.share), ((0, 0), (0, self.centre.size)))


def _own(photos: Features, field: str) -> Array:
    """Each row without the mean of its numbers, of length 1."""
    rows = getattr(photos, field)
    if rows is None:
        raise InputError(f"the photos' features come without {field}; encode the photos again")
    return normalise(rows - rows.mean(axis=-1, keepdims=True))


@dataclass(frozen=True, eq=False)
class TokenHead:
    """A linear head on z."""

    linear: LinearHead
    reading: Reading

    @property
    def fixed_views(self) -> tuple[str, ...]:
        """Which views photos have to be encoded through."""
        return self.reading.views

    def scores(self, photos: Features) -> Array:
        parts = [np.zeros((0, len(self.linear.bias)), np.float32)]
        for first in range(0, len(photos), _ROWS):
            some = photos.take(slice(first, first + _ROWS))
            parts.append(self.linear.scores(replace(some, vectors=self.reading(some))))
        return np.concatenate(parts)

    def arrays(self) -> dict[str, Array]:
        return {**self.linear.arrays(), **self.reading.arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> TokenHead:
        return cls(LinearHead.from_arrays(arrays), Reading.from_arrays(arrays))


def fit_tokens(
    train: Features, text: Array, validation: Features | None, settings: TokenLadderSettings
) -> tuple[Ladder, Reading]:
    """Fit the ladder to z of the photos, through the views that leave the least error of photos
    that are left out; ``text`` (K, D) has unit rows."""
    choices = settings.choices
    if np.bincount(train.labels).max() < 2:
        choices = choices[:3][-1:]  # the middle, if a photo may pass twice
    fitted = (_fit(train, text, validation, settings, views) for views in choices)
    return min(fitted, key=lambda found: found[0].left_out)


def _fit(
    train: Features,
    text: Array,
    validation: Features | None,
    settings: TokenLadderSettings,
    views: tuple[str, ...],
) -> tuple[Ladder, Reading]:
    reading = Reading.of(train, settings.tokens, views)
    names, calibrated = reading.text(text.astype(np.float64)), _CALIBRATED[reading.field]
    many, width = len(train) * (1 + len(views)) + len(names), names.shape[1]

    def read(photos: Features) -> Array:
        return reading.rows(photos).astype(np.float64)

    if many >= width:
        return fit_ladder(train, names, validation, settings, read, calibrated), reading
    shown = np.concatenate([read(train).reshape(-1, width), names])
    basis = np.linalg.qr(shown.T)[0]  # (D + 2 S, N + K)

    def read_along(photos: Features) -> Array:
        rows = read(photos)
        return (rows.reshape(-1, width) @ basis).reshape(*rows.shape[:2], many)

    ladder = fit_ladder(
        train,
        names @ basis,
        validation,
        # gda.py multiplies by the width of what it is given.
        replace(settings, gaussian=settings.gaussian * width / many),
        read_along,
        calibrated,
    )
    average, *line = ladder.unseen
    rows = (ladder.head.weight @ basis.T).astype(np.float32)
    return replace(
        ladder, head=replace(ladder.head, weight=rows), unseen=(average @ basis.T, *line)
    ), reading


def fit(settings: TokenLadderSettings, task: Task) -> Fit:
    """The class names once; the rest is one decomposition, and another of the expert's."""
    text = read_text(task.tower)
    ladder, reading = fit_tokens(task.train, text.features, task.validation, settings)
    arrays = {**ladder.arrays(), "names": record_names(task)}
    notes = {**ladder.notes, "views": 1 + len(reading.views)}
    found = cached_fit(TokenHead(ladder.head, reading), task, text, notes, arrays=arrays)
    photos = len(task.train) + len(task.validation or ())
    return replace(found, image_passes=photos * len(wanted_views(settings)))


def wanted_views(settings: TokenLadderSettings) -> frozenset[str]:
    """All views that may be chosen."""
    return frozenset(view for views in settings.choices for view in views)


def rename(arrays: Mapping[str, Array], tower: TextTower) -> TokenHead:
    """Names with photos keep their classifier, others get their text, on one scale."""
    reading = TokenHead.from_arrays(arrays).reading
    text = reading.text(read_text(tower).features)
    return TokenHead(other_names(arrays, text, recorded_rows(arrays, tower)), reading)


register(
    Method(
        "ladder+tokens",
        "ladder+gda that also reads the tokens of the photo's middle patches",
        TokenLadderSettings(),
        fit,
        load=TokenHead.from_arrays,
        rename=rename,
        fixed_views=wanted_views,
        grows=True,
    )
)
