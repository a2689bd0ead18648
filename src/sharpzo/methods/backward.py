"""What the methods share that backpropagate (extra ``torch``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.detour import PhotoBatch, digest_of, vectors_of
from sharpzo.errors import ArtifactError, InputError
from sharpzo.rng import generator
from sharpzo.types import Array, Features, ImageTower, TextTower

if TYPE_CHECKING:
    from torch import Tensor

    from sharpzo.towers.checkpoint import Checkpoint
    from sharpzo.towers.torch_image import TorchImageTower
    from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower

CHUNK = 16  # photos at a time where no gradient is needed


class TorchDetour(ABC):
    """Photos through the image tower in torch, some of its parameters changed; fulfils
    `detour.Detour`."""

    projected: ClassVar[bool]

    @abstractmethod
    def change(self, parameters: Mapping[str, Tensor]) -> None:
        """Change, in place, the parameters of a `TorchImageTower` with all blocks at hand."""

    @abstractmethod
    def arrays(self) -> dict[str, Array]:
        """What was tuned, as an artefact keeps it."""

    @property
    def digest(self) -> str:
        return digest_of(self.arrays())

    def __call__(self, batch: PhotoBatch) -> Array:
        tower = self._tower(batch.tower, batch.pixels)  # says so where torch is missing
        import torch

        with torch.inference_mode():
            parts = [
                tower.states(tower.embed(torch.tensor(batch.pixels[i : i + CHUNK])))
                for i in range(0, len(batch.pixels), CHUNK)
            ]
        return torch.cat(parts).numpy()

    def seen(
        self,
        photos: Features,
        tower: ImageTower,
        images: LabelledPhotos,
        views: Sequence[str] = (),
    ) -> Features:
        """Features of photos, these ``images``, with their vectors by way of this detour, also
        through some of their ``views``."""
        parts = []
        for i in range(0, len(images), CHUNK):
            some = images.take(range(i, min(i + CHUNK, len(images))))
            parts.append(self(PhotoBatch(tower, tower.pixels(some.decoded()))))
        vectors = vectors_of(self, np.concatenate(parts), tower.projection)
        by_view = {
            view: self.seen(photos.by_view[view], tower, images.seen(view)) for view in views
        }
        return replace(
            photos,
            detours={**photos.detours, self.digest: vectors},
            by_view={**photos.by_view, **by_view},
        )

    def _tower(self, tower: ImageTower, pixels: Array) -> TorchImageTower:
        key = (id(tower), pixels.shape[2:])
        if self._opened.get("key") != key:
            opened = open_torch(tower, pixels)
            self.change(opened.parameters)
            self._opened.update(key=key, tower=opened)
        return self._opened["tower"]

    @cached_property
    def _opened(self) -> dict[str, Any]:
        return {}


def parameter(parameters: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    """The parameter of that name and shape; ArtifactError if the tower has none."""
    if name not in parameters or parameters[name].shape != shape:
        raise ArtifactError(f"the image tower has no '{name}' as the run tuned it")
    return parameters[name]


def open_torch(tower: ImageTower, pixels: Array, blocks: int | None = None) -> TorchImageTower:
    """The tower in torch for pixels of this size, its last ``blocks`` (None: all) at hand."""
    checkpoint = differentiable(tower).checkpoint
    from sharpzo.towers.torch_image import TorchImageTower

    tuned = 0 if blocks is None else max(0, checkpoint.image.layers - blocks)
    return TorchImageTower(checkpoint, *pixels.shape[2:], tuned=tuned)


def differentiable(tower: ImageTower) -> OnnxImageTower:
    """The tower, if torch and a checkpoint are there to backpropagate through it; InputError if
    not."""
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise InputError(
            "the tuned image blocks need torch, which is not installed; run: pip install "
            "'sharpzo[torch]'"
        ) from None
    from sharpzo.towers.tower import OnnxImageTower

    if tower.at_once is not None:
        raise InputError(
            "the tuned image blocks need the whole image tower in memory; leave out the memory "
            "limit"
        )
    if not isinstance(tower, OnnxImageTower):
        raise InputError(f"backpropagation needs a checkpoint's tower, not {type(tower).__name__}")
    _require_family(tower.checkpoint)
    return tower


def has_blocks(tower: TextTower) -> None:
    """Raise `InputError` for a model whose image tower is of another family."""
    from sharpzo.towers.tower import OnnxTextTower

    if isinstance(tower, OnnxTextTower):
        _require_family(tower.checkpoint)


def _require_family(checkpoint: Checkpoint) -> None:
    from sharpzo.towers.families import image_family

    if not image_family(checkpoint).torch:
        raise InputError(
            "backpropagation is for vision transformers that are read at a class token; the image "
            f"tower of {checkpoint.folder} is of another family: choose another method"
        )


def with_weights(tower: TextTower, method: str) -> OnnxTextTower:
    """The text tower as one that can be differentiated; an InputError of the ``method`` says what
    is missing."""
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise InputError(
            f"method {method} backpropagates with torch, which is not installed; run: pip install "
            "'sharpzo[torch]'"
        ) from None
    from sharpzo.towers.families import text_family
    from sharpzo.towers.tower import OnnxTextTower

    if not isinstance(tower, OnnxTextTower):
        raise InputError(
            f"method {method} needs the weights of the text tower and {type(tower).__name__} has "
            "none to give; use an OnnxTextTower, or a method that needs forwards only"
        )
    if not text_family(tower.checkpoint).torch:
        raise InputError(
            f"method {method} backpropagates through CLIP's text transformer; the text tower of "
            f"{tower.checkpoint.folder} is of another family: choose a method that needs forwards "
            "only"
        )
    return tower


def batches(many: int, batch: int, seed: int, purpose: str, epoch: int) -> Iterator[Array]:
    """Rows of all photos in an order of the epoch's, ``batch`` at a time."""
    order = generator(seed, purpose, step=epoch).permutation(many)
    return (order[i : i + batch] for i in range(0, many, batch))


def as_tensor(array: Array) -> Tensor:
    """The array as a tensor in memory of its own."""
    from sharpzo.towers.torch_block import copied

    return copied(array)
