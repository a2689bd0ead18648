"""The families of towers: what each one computes, in one place.

A tower's family is the ``family`` of its configuration (`config.py`). A new one is a configuration
there, a module that writes its graph from tensors (`formats.py` gives these their names), and an
entry here; nothing else asks for a family's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sharpzo.towers import image, text
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.lowmem import layers
from sharpzo.types import Array, LastBlock, Precision

if TYPE_CHECKING:
    from sharpzo.towers.graph import Graph
    from sharpzo.towers.prompts import Prompts


class Layered(Protocol):
    """An image tower with the weights of one layer in memory at a time."""

    def summaries(self, pixels: Array) -> Array:
        """Return float32 (N, 3, S) of preprocessed photos (N, 3, h, w)."""
        ...


@dataclass(frozen=True)
class ImageFamily:
    """An image tower, made of a checkpoint and the height and width of the pixels.

    ``build`` returns the graph: ``pixels`` (B, 3, h, w) -> ``tokens`` (B, T, S) before the last
    block, ``summary`` (B, 2, S) of these and ``states`` (B, S); see `image.build_image`.
    ``projection`` (D, S) makes features of states. ``last_block`` makes states of tokens; it
    raises `InputError` where the tower has none that methods could tune. ``layered`` computes the
    same without an engine, for the memory limit, and ``layered_bytes`` is what that takes beside
    its process, for so many photos at a time.
    """

    build: Callable[[Checkpoint, int, int], Graph]
    projection: Callable[[Checkpoint], Array]
    last_block: Callable[[Checkpoint], LastBlock]
    layered: Callable[[Checkpoint, int, int], Layered]
    layered_bytes: Callable[[Checkpoint, int, int, int], int]


@dataclass(frozen=True)
class TextFamily:
    """A text tower, made of a checkpoint and prompts.

    ``check`` raises `CheckpointError` for what the checkpoint lacks and reads no tensor. ``build``
    returns the graph (see `text.build_text`), ``tangent`` the one with derivatives (see
    `tangent.build_tangent`). ``streamed``: whether `lowmem/streaming.py` computes it, too.
    """

    check: Callable[[Checkpoint], None]
    build: Callable[[Checkpoint, Prompts, Precision], Graph]
    tangent: Callable[[Checkpoint, Prompts, Precision], Graph]
    streamed: bool


def _clip_tangent(checkpoint: Checkpoint, prompts: Prompts, precision: Precision) -> Graph:
    from sharpzo.towers.tangent import build_tangent  # loads the graphs' library

    return build_tangent(checkpoint, prompts, precision)


_TRANSFORMER = ImageFamily(
    image.build_image, image.read_projection, image.read_last_block, layers.LayeredImage,
    layers.layered_bytes,
)  # fmt: skip
IMAGES = {"clip": _TRANSFORMER, "dinov2": _TRANSFORMER}
TEXTS = {"clip": TextFamily(text.check_text, text.build_text, _clip_tangent, streamed=True)}


def image_family(checkpoint: Checkpoint) -> ImageFamily:
    """Return the family of a checkpoint's image tower."""
    return IMAGES[checkpoint.image.family]


def text_family(checkpoint: Checkpoint) -> TextFamily:
    """Return the family of a checkpoint's text tower."""
    return TEXTS[checkpoint.text.family]
