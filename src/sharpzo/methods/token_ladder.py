"""The ladder on more of the frozen tower: its feature beside two tokens of the last block (ours).

The projected feature x is what the text can be compared with, and it forgets what captions do not
name: the ground of a satellite photo, a weave. What enters the last block still has it. So
`ladder.py` is fitted to

    z = (sqrt(1 - share) x,  sqrt(share / 2) n(c),  sqrt(share / 2) n(m))                 (1)

with c the class token before the last block and m the mean of the other tokens. n subtracts from a
token the mean of its own numbers and scales it to length 1, subtracts the mean of the training
photos' and scales again. With the text (t / sqrt(1 - share), 0, 0) a cosine with a name is what it
was, so equations 1 and 2 of `ladder.py` hold with z in place of x, and so does what names without
photos get. No second image pass is needed: all three come of one.

Where photos and names are fewer than the numbers of z, the fit is done in the space that they span,
in which the solution lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sharpzo.errors import InputError
from sharpzo.linear import LinearHead, keep, take
from sharpzo.methods.cached import cached_fit, read_text
from sharpzo.methods.ladder import (
    Ladder,
    LadderSettings,
    fit_ladder,
    other_names,
    record_names,
    recorded_rows,
)
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.metrics import normalise
from sharpzo.settings import Decay, NotNegative
from sharpzo.types import Array, Features, TextTower

_ROWS = 1024  # photos at a time: z is wider than what is kept of a photo


@dataclass(frozen=True)
class TokenLadderSettings(LadderSettings):
    """``tokens`` is the share of equation 1; with 0 it is the ladder on x alone."""

    gaussian: NotNegative = 0.25
    tokens: Decay = 1 / 3


@dataclass(frozen=True, eq=False)
class Reading:
    """What makes z of photos: the mean (2, S) of the training photos' tokens, and the share."""

    centre: Array
    share: float

    @classmethod
    def of(cls, train: Features, share: float) -> Reading:
        """That of training photos."""
        return cls(_own(train).mean(axis=0), share)

    def __call__(self, photos: Features) -> Array:
        """z (N, D + 2 S), rows of length 1."""
        tokens = np.sqrt(self.share / 2) * normalise(_own(photos) - self.centre)
        vectors = np.sqrt(1 - self.share) * photos.vectors
        return np.concatenate([vectors, tokens.reshape(len(photos), -1)], axis=1)

    def text(self, text: Array) -> Array:
        """Unit text features (K, D) so that their products with z are cosines (K, D + 2 S)."""
        return np.pad(text / np.sqrt(1 - self.share), ((0, 0), (0, self.centre.size)))


def _own(photos: Features) -> Array:
    """Each token without the mean of its numbers, of length 1."""
    if photos.tokens is None:
        raise InputError("the photos' features come without tokens; encode the photos again")
    return normalise(photos.tokens - photos.tokens.mean(axis=-1, keepdims=True))


@dataclass(frozen=True, eq=False)
class TokenHead:
    """A linear head on z."""

    linear: LinearHead
    reading: Reading

    def scores(self, photos: Features) -> Array:
        parts = [np.zeros((0, len(self.linear.bias)), np.float32)]
        for first in range(0, len(photos), _ROWS):
            some = photos.take(np.arange(first, min(first + _ROWS, len(photos))))
            parts.append(self.linear.scores(replace(some, vectors=self.reading(some))))
        return np.concatenate(parts)

    def arrays(self) -> dict[str, Array]:
        return {
            **self.linear.arrays(), **keep(centre=self.reading.centre, share=self.reading.share)
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> TokenHead:
        centre, share = take(arrays, centre=(2, "S"), share=(1,))
        return cls(LinearHead.from_arrays(arrays), Reading(centre, float(share[0])))


def fit_tokens(
    train: Features, text: Array, validation: Features | None, settings: TokenLadderSettings
) -> tuple[Ladder, Reading]:
    """Fit the ladder to z of the photos; ``text`` (K, D) has unit rows."""
    reading = Reading.of(train, settings.tokens)
    shown, names = reading(train).astype(np.float64), reading.text(text.astype(np.float64))
    basis = np.eye(shown.shape[1])
    if len(shown) + len(names) < len(basis):
        basis = np.linalg.qr(np.concatenate([shown, names]).T)[0]  # (D + 2 S, N + K)
    # gda.py multiplies by the width of what it is given.
    weight = settings.gaussian * len(basis) / basis.shape[1]
    ladder = fit_ladder(
        replace(train, vectors=shown @ basis),
        names @ basis,
        validation and replace(validation, vectors=reading(validation) @ basis),
        replace(settings, gaussian=weight),
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
    return cached_fit(TokenHead(ladder.head, reading), task, text, ladder.notes, arrays=arrays)


def rename(arrays: Mapping[str, Array], tower: TextTower) -> TokenHead:
    """Names with photos keep their classifier, others get their text, on one scale."""
    reading = TokenHead.from_arrays(arrays).reading
    text = reading.text(read_text(tower).features)
    return TokenHead(other_names(arrays, text, recorded_rows(arrays, tower)), reading)


register(
    Method(
        "ladder+tokens",
        "ladder+gda that also reads the tokens before the last image block",
        TokenLadderSettings(),
        fit,
        load=TokenHead.from_arrays,
        rename=rename,
    )
)
