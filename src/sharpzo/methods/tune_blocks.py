"""``tune-blocks``: the last image blocks by backpropagation, beside the default untuned.

The baseline for all that reads the image tower without a backward pass, as published methods tune
it (MPS-Tuning, ICLR 2026, arXiv 2508.12877, from its text): copies of the last L blocks and of the
final norm are trained by AdamW with a linear classifier on their states, cross-entropy with label
smoothing, photos and their mirrored views; and

    logits = share (tuned) + (1 - share) (the default method's, untuned)                  (1)

The classifier starts as logistic regression on the untuned states. What comes before the L blocks
is computed once. torch (extra ``torch``) is needed to fit and to predict. The rates are the best of
those tried on development photos of one draw of EuroSAT (experiments/backprop).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.detour import seen_through, vectors_by
from sharpzo.errors import InputError
from sharpzo.linear import LinearHead, keep, take
from sharpzo.methods import linear_probe, token_ladder
from sharpzo.methods.backward import (
    CHUNK,
    TorchDetour,
    as_tensor,
    batches,
    differentiable,
    has_blocks,
    open_torch,
    parameter,
)
from sharpzo.methods.cached import states_of
from sharpzo.methods.choose import PenaltySettings
from sharpzo.methods.registry import Fit, Method, Task, register
from sharpzo.methods.token_ladder import TokenHead, TokenLadderSettings
from sharpzo.metrics import accuracy, cross_entropy, normalise
from sharpzo.settings import Count, Decay, Fraction, Positive
from sharpzo.types import Array, Features, ImageTower, Reason

if TYPE_CHECKING:
    from torch import Tensor

    from sharpzo.towers.torch_image import TorchImageTower

_PREFIX = "image."
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class TuneBlocksSettings(TokenLadderSettings):
    """The untuned method's settings, and ``blocks`` tuned for so many ``epochs`` of every photo
    (and, with ``mirror``, of its mirrored view) in batches.

    ``rate`` is AdamW's, that of the classifier ``head_rate``; both fall along half a cosine.
    ``share`` of equation 1; None: that of `SHARES` with the least cross-entropy of the validation
    photos, a half with fewer than ``evidence`` of them.
    """

    blocks: Count = 4
    epochs: Count = 10
    batch: Count = 32
    rate: Positive = 1e-4
    head_rate: Positive = 3e-5
    weight_decay: Fraction = 0.01
    smoothing: Decay = 0.1
    mirror: bool = True
    share: Fraction | None = None
    evidence: Count = 40


@dataclass(frozen=True, eq=False)
class TunedBlocks(TorchDetour):
    """Tuned parameters of `TorchImageTower` by name."""

    tuned: Mapping[str, Array]
    projected: ClassVar[bool] = False

    def change(self, parameters: Mapping[str, Tensor]) -> None:
        for name, array in self.tuned.items():
            parameter(parameters, name, array.shape).copy_(as_tensor(array))

    def arrays(self) -> dict[str, Array]:
        return keep(**{_PREFIX + name: array for name, array in self.tuned.items()})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> TunedBlocks:
        names = [name for name in arrays if name.startswith(_PREFIX)]
        return cls({name.removeprefix(_PREFIX): arrays[name] for name in names})


@dataclass(frozen=True, eq=False)
class BlocksHead:
    """Equation 1: ``tuned`` on states by way of ``detour``, the mean over the views, and ``plain``
    on what the tower makes."""

    tuned: LinearHead
    plain: TokenHead
    share: float
    detour: TunedBlocks

    @property
    def fixed_views(self) -> tuple[str, ...]:
        """Which views photos have to be encoded through."""
        return self.plain.fixed_views

    def scores(self, photos: Features) -> Array:
        tuned = np.mean([
            self.tuned.scores(replace(one, vectors=vectors_by(self.detour, one)))
            for one in seen_through(photos, self.fixed_views)
        ], axis=0)  # fmt: skip
        mixed = self.share * tuned + (1 - self.share) * self.plain.scores(photos)
        return mixed.astype(np.float32)

    def arrays(self) -> dict[str, Array]:
        classifier = keep(tuned_weight=self.tuned.weight, tuned_bias=self.tuned.bias)
        own = keep(tuned_share=self.share)
        return {**self.plain.arrays(), **classifier, **own, **self.detour.arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> BlocksHead:
        weight, bias, share = take(
            arrays, tuned_weight=("K", "S"), tuned_bias=("K",), tuned_share=(1,)
        )
        tuned = LinearHead(weight, bias, 1.0)
        plain = TokenHead.from_arrays(arrays)
        return cls(tuned, plain, float(share[0]), TunedBlocks.from_arrays(arrays))


def fit(settings: TuneBlocksSettings, task: Task) -> Fit:
    """One image pass of every photo and view, then ``epochs`` through the tuned blocks.

    ``Fit.image_passes`` counts whole passes; a forward and a backward through L of the tower's
    blocks are in the notes as ``block_passes``, photo by photo.
    """
    assert task.images is not None
    tower = differentiable(task.images.open_tower())
    from sharpzo.towers.torch_block import cores

    plain, start = token_ladder.fit(settings, task), _probe(task)
    assert isinstance(plain.head, TokenHead)
    with closing(tower), cores(tower.threads):
        tuned, classifier = _tune(settings, task, tower, start)
        head = BlocksHead(classifier, plain.head, 0.5, tuned)
        validation = task.validation
        if validation is not None and task.images.validation is not None:
            views = plain.head.fixed_views
            validation = tuned.seen(validation, tower, task.images.validation, views)
    head = replace(head, share=_share(settings, head, validation))
    views = (1 + settings.mirror) * len(task.train)
    return replace(
        plain,
        head=head,
        reason=Reason.STEPS,
        steps=settings.epochs,
        image_passes=plain.image_passes + views,
        notes={**plain.notes, "share": head.share, "block_passes": settings.epochs * views},
        validation_accuracy=validation and accuracy(head.scores(validation), validation.labels),
    )


def _share(settings: TuneBlocksSettings, head: BlocksHead, held: Features | None) -> float:
    if settings.share is not None:
        return settings.share
    if held is None or len(held) < settings.evidence:
        return 0.5
    losses = [cross_entropy(replace(head, share=s).scores(held), held.labels) for s in SHARES]
    return SHARES[int(np.argmin(losses))]


def _probe(task: Task) -> LinearHead:
    """Logistic regression on untuned states of length 1."""
    own = replace(task.train, vectors=normalise(states_of(task.train)))
    held = task.validation
    held = held and replace(held, vectors=normalise(states_of(held)))
    head = linear_probe.fit(PenaltySettings(), replace(task, train=own, validation=held)).head
    assert isinstance(head, LinearHead)
    return head


def _tune(
    settings: TuneBlocksSettings,
    task: Task,
    tower: ImageTower,
    start: LinearHead,
) -> tuple[TunedBlocks, LinearHead]:
    import torch
    from torch.nn import functional

    assert task.images is not None
    kept, opened, first = _before(settings, tower, task.images.train)
    labels = torch.tensor(np.tile(task.train.labels, 1 + settings.mirror))
    weight, bias = as_tensor(start.weight), as_tensor(start.bias)
    tuned = [one.requires_grad_() for one in opened.parameters.values()]
    groups = [
        {"params": tuned, "lr": settings.rate},
        {"params": [weight.requires_grad_(), bias.requires_grad_()], "lr": settings.head_rate},
    ]
    descent = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    planned = [
        rows for epoch in range(settings.epochs)
        for rows in batches(len(kept), settings.batch, task.seed, "tune-blocks", epoch)
    ]  # fmt: skip
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(descent, len(planned))
    for rows in planned:
        rows = torch.from_numpy(rows)
        states = opened.states(kept[rows].float(), first)
        logits = functional.linear(functional.normalize(states, dim=-1), weight, bias)
        loss = functional.cross_entropy(logits, labels[rows], label_smoothing=settings.smoothing)
        descent.zero_grad()
        loss.backward()
        descent.step()
        rates.step()
    with torch.no_grad():
        last = functional.linear(opened.states(kept[:CHUNK].float(), first), weight, bias)
    if not last.isfinite().all():
        raise InputError(
            f"the descent diverged: logits are not finite with rate {settings.rate:g} and "
            f"head_rate {settings.head_rate:g}; give smaller ones"
        )
    arrays = {name: one.detach().numpy() for name, one in opened.parameters.items()}
    classifier = LinearHead(weight.detach().numpy(), bias.detach().numpy(), 1.0)
    return TunedBlocks(arrays), classifier


def _before(
    settings: TuneBlocksSettings, tower: ImageTower, photos: LabelledPhotos
) -> tuple[Tensor, TorchImageTower, int]:
    """What enters the tuned blocks (N, T, S) in half precision, mirrored views last; the tower, and
    the number of the first of these blocks."""
    import torch

    pixels = tower.pixels(photos.take([0]).decoded())
    opened = open_torch(tower, pixels, settings.blocks)
    first, views = max(0, opened.layers - settings.blocks), 1 + settings.mirror
    tokens, width = opened.embed(torch.tensor(pixels)).shape[1:]
    found = torch.empty((views, len(photos), tokens, width), dtype=torch.half)
    with torch.no_grad():
        for i in range(0, len(photos), CHUNK):
            rows = range(i, min(i + CHUNK, len(photos)))
            pixels = tower.pixels(photos.take(rows).decoded())
            for kept, seen in zip(found, (pixels, pixels[..., ::-1].copy()), strict=False):
                kept[i : i + CHUNK] = opened.through(
                    opened.embed(torch.tensor(seen)), 0, first
                ).half()
    return found.flatten(0, 1), opened, first


register(
    Method(
        "tune-blocks",
        "the last image blocks by backpropagation, beside the default's logits (extra torch)",
        TuneBlocksSettings(),
        fit,
        load=BlocksHead.from_arrays,
        fixed_views=token_ladder.wanted_views,
        need=None,
        images=True,
        suits=lambda settings, tower: has_blocks(tower),
    )
)
