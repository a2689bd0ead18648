"""``clip-lora``: low-rank changes of both towers by backpropagation (CLIP-LoRA, CVPRW 2024).

Zanella & Ben Ayed, arXiv 2405.18541. In every block of both towers the matrices of query, key and
value become

    W + alpha / sqrt(r) high low,  high (out, r) from 0,  low (r, in) uniform             (1)

and AdamW lowers the cross-entropy of the scaled cosines between photos, of which each step sees a
random crop, and class names. Dropout is on what ``low`` reads. The rate falls along half a cosine.
No validation photo chooses anything. Their code trains 500 steps per photo of a class in batches of
32, hours without a GPU: the preset ``published``. Fewer, larger steps are the default, chosen on
development photos (`experiments/backprop/lora.py`). torch (extra ``torch``) is needed to fit and to
predict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sharpzo.data.photo import View
from sharpzo.detour import vectors_by
from sharpzo.errors import InputError
from sharpzo.linear import LinearHead, keep, take
from sharpzo.methods.backward import (
    TorchDetour,
    as_tensor,
    batches,
    differentiable,
    has_blocks,
    parameter,
    with_weights,
)
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.metrics import accuracy
from sharpzo.rng import generator
from sharpzo.settings import Count, Decay, Fraction, Positive, Settings, Share
from sharpzo.types import Array, Features, Reason, TextTower

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from sharpzo.towers.torch_block import Branch
    from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower

PARTS = ("query", "key", "value")
_PREFIX = "lora."


@dataclass(frozen=True)
class ClipLoraSettings(Settings):
    """``rank`` r and ``alpha`` of equation 1, trained for ``steps`` of ``batch`` photos, each a
    crop of a share ``view_scale``. None: ``per_shot`` steps for each photo of the largest class,
    and where that is None, too, 120 steps, or ten passes over the photos if these are more."""

    rank: Count = 2
    alpha: Positive = 1.0
    dropout: Decay = 0.0
    steps: Count | None = None
    per_shot: Count | None = None
    batch: Count = 32
    rate: Positive = 5e-3
    least_rate: Positive = 1e-6
    weight_decay: Fraction = 0.01
    view_scale: tuple[Share, Share] = (0.5, 1.0)

    def check(self) -> None:
        if self.view_scale[0] > self.view_scale[1]:
            raise InputError(f"view_scale is {self.view_scale}; give the lower share first")
        if self.least_rate > self.rate:
            raise InputError(
                f"least_rate is {self.least_rate:g}, above rate {self.rate:g}, from which it falls"
            )


@dataclass(frozen=True, eq=False)
class LoraDetour(TorchDetour):
    """Equation 1 in the image tower: ``pairs`` of low and high, which holds the factor, by the name
    of the matrix in `TorchImageTower`."""

    pairs: Mapping[str, tuple[Array, Array]]
    projected: ClassVar[bool] = True

    def change(self, parameters: Mapping[str, Tensor]) -> None:
        for name, (low, high) in self.pairs.items():
            change = high @ low
            parameter(parameters, f"{name}.weight", change.shape).add_(as_tensor(change))

    def arrays(self) -> dict[str, Array]:
        lows = {f"{_PREFIX}{name}.low": low for name, (low, _) in self.pairs.items()}
        highs = {f"{_PREFIX}{name}.high": high for name, (_, high) in self.pairs.items()}
        return keep(**lows, **highs)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> LoraDetour:
        pairs = {}
        for key in arrays:
            if key.startswith(_PREFIX) and key.endswith(".low"):
                name = key.removesuffix(".low")
                shapes = {key: ("r", "in"), f"{name}.high": ("out", "r")}
                pairs[name.removeprefix(_PREFIX)] = tuple(take(arrays, **shapes))
        return cls(pairs)


@dataclass(frozen=True, eq=False)
class LoraHead:
    """``linear``, whose rows are texts of the tuned tower, on photos by way of ``detour``."""

    linear: LinearHead
    detour: LoraDetour

    def scores(self, photos: Features) -> Array:
        return self.linear.scores(replace(photos, vectors=vectors_by(self.detour, photos)))

    def arrays(self) -> dict[str, Array]:
        return {**self.linear.arrays(), **self.detour.arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> LoraHead:
        return cls(LinearHead.from_arrays(arrays), LoraDetour.from_arrays(arrays))


def fit(settings: ClipLoraSettings, task: Task) -> Fit:
    """One pass of a batch of photos and one of all class names per step, forward and backward;
    ``backward_passes`` in the notes are those of photos."""
    assert task.images is not None
    tower, text = differentiable(task.images.open_tower()), with_weights(task.tower, "clip-lora")
    from sharpzo.towers.torch_block import cores

    held, right = task.validation, None
    with closing(tower), cores(tower.threads):
        head, steps, passes = _tune(settings, task, tower, text)
        if held is not None and task.images.validation is not None:
            held = head.detour.seen(held, tower, task.images.validation)
            right = accuracy(head.scores(held), held.labels)
    return Fit(
        head,
        Reason.STEPS,
        forwards=steps + 1,
        steps=steps,
        image_passes=passes + len(held or ()),
        notes={"backward_passes": passes},
        validation_accuracy=right,
    )


class Lora:
    """The factors of one tower while they are trained."""

    def __init__(self, settings: ClipLoraSettings, seed: int, tower: str) -> None:
        self._settings, self._seed, self._tower = settings, seed, tower
        self.pairs: dict[str, tuple[Tensor, Tensor]] = {}
        self.factor = settings.alpha / settings.rank**0.5
        self.noise: Generator | None = None  # of the dropout; None: there is none

    def branches(self, layer: int, width: int) -> Mapping[str, Branch]:
        """Equation 1 of a layer's parts, from where it starts."""
        return {part: self._branch(f"{layer}.{part}", width) for part in PARTS}

    def _branch(self, name: str, width: int) -> Branch:
        from torch.nn.functional import linear

        draws = generator(self._seed, f"clip-lora {self._tower} {name}")
        bound, rank = width**-0.5, self._settings.rank
        low = as_tensor(draws.uniform(-bound, bound, (rank, width))).requires_grad_()
        high = as_tensor(np.zeros((width, rank))).requires_grad_()
        self.pairs[name] = low, high

        def branch(x: Tensor) -> Tensor:
            return linear(linear(self.drop(x), low), self.factor * high)

        return branch

    def drop(self, x: Tensor) -> Tensor:
        rate = self._settings.dropout
        if self.noise is None or not rate:
            return x
        kept = x.new_empty(x.shape).bernoulli_(1 - rate, generator=self.noise)
        return x * kept / (1 - rate)

    @property
    def tensors(self) -> list[Tensor]:
        return [one for pair in self.pairs.values() for one in pair]

    def found(self) -> dict[str, tuple[Array, Array]]:
        """Low and high, with the factor, of each part."""
        return {
            name: (low.detach().numpy(), self.factor * high.detach().numpy())
            for name, (low, high) in self.pairs.items()
        }


def _tune(
    settings: ClipLoraSettings, task: Task, tower: OnnxImageTower, text: OnnxTextTower
) -> tuple[LoraHead, int, int]:
    """The head, the steps, and the photos that were passed."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    from sharpzo.towers.torch_image import TorchImageTower
    from sharpzo.towers.torch_text import TorchTextTower

    assert task.images is not None
    photos, labels = task.images.train, torch.tensor(task.train.labels)
    steps = settings.steps or steps_of(settings, task.train.labels)
    height, width = tower.pixels(photos.take([0]).decoded()).shape[2:]
    of_photos, of_names = (Lora(settings, task.seed, one) for one in ("image", "text"))
    image_width, text_width = tower.checkpoint.image.width, text.checkpoint.text.width
    by_photos = TorchImageTower(
        tower.checkpoint, height, width,
        tuned=tower.checkpoint.image.layers,
        branches=lambda layer: of_photos.branches(layer, image_width),
    )  # fmt: skip
    by_names = TorchTextTower(
        text.checkpoint, text.prompts,
        branches=lambda layer: of_names.branches(layer, text_width),
    )  # fmt: skip
    projection, start = as_tensor(tower.projection), as_tensor(text.start)
    tensors = of_photos.tensors + of_names.tensors
    descent = torch.optim.AdamW(tensors, lr=settings.rate, weight_decay=settings.weight_decay)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps, settings.least_rate)
    passes = 0
    crops = _crops(settings, task, tower, max(height, width))
    for _, (step, pixels, rows) in zip(range(steps), crops, strict=False):
        noise = torch.Generator().manual_seed(task.seed * 1_000_003 + step)
        of_photos.noise = of_names.noise = noise
        states = by_photos.states(by_photos.embed(torch.tensor(pixels)))
        vectors = normalize(states @ projection.T, dim=-1)
        logits = text.logit_scale * vectors @ normalize(by_names(start), dim=-1).T
        loss = cross_entropy(logits, labels[rows])
        descent.zero_grad()
        loss.backward()
        descent.step()
        rates.step()
        passes += len(rows)
    of_photos.noise = of_names.noise = None
    with torch.no_grad():
        features = normalize(by_names(start), dim=-1)
        first = tower.pixels(photos.take([0]).decoded())
        states = by_photos.states(by_photos.embed(torch.tensor(first)))
    if not (features.isfinite().all() and states.isfinite().all()):
        raise InputError(
            f"the descent diverged: texts or photos are not finite with rate {settings.rate:g}; "
            "give a smaller one"
        )
    linear = LinearHead.of_text(features.float().numpy(), text.logit_scale)
    return LoraHead(linear, LoraDetour(of_photos.found())), steps, passes


def steps_of(settings: ClipLoraSettings, labels: Array) -> int:
    """Return the steps for photos of these labels where the settings give no number."""
    if settings.per_shot is not None:
        return settings.per_shot * int(np.bincount(labels).max())
    return max(120, -(-10 * len(labels) // settings.batch))


def _crops(
    settings: ClipLoraSettings, task: Task, tower: OnnxImageTower, side: int
) -> Iterator[tuple[int, Array, Array]]:
    """Steps without end: their number, the pixels of a crop of each photo, and the photos' rows."""
    assert task.images is not None
    photos, step = task.images.train, 0
    for epoch in count():
        for rows in batches(len(photos), settings.batch, task.seed, "clip-lora", epoch):
            crops = (
                View(p.name, p.path, p.pixels, task.seed, int(row), epoch, side,
                     settings.view_scale, content=p.content)
                for row, p in ((row, photos.photos[row]) for row in rows)
            )  # fmt: skip
            yield step, tower.pixels(crop.decode() for crop in crops), rows
            step += 1


def _suits(settings: ClipLoraSettings, tower: TextTower) -> None:
    has_blocks(tower)
    checkpoint = with_weights(tower, "clip-lora").checkpoint
    width = min(checkpoint.image.width, checkpoint.text.width)
    if settings.rank > width:  # the matrices have no more, and the run would be as large
        raise InputError(f"rank is {settings.rank}; give at most the towers' width, {width}")


register(
    Method(
        "clip-lora",
        "CLIP-LoRA: low-rank changes of both towers by backpropagation (extra torch)",
        ClipLoraSettings(),
        fit,
        {
            "published": ClipLoraSettings(
                per_shot=500, dropout=0.25, rate=2e-4, view_scale=(0.08, 1.0)
            )
        },
        load=LoraHead.from_arrays,
        need=None,
        images=True,
        validation=lambda settings: False,
        suits=_suits,
    )
)
