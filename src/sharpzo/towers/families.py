"""The families of towers: what each one computes, in one place.

A tower's family is the ``family`` of its configuration (`config.py`). A new one is a configuration
there, a module that writes its graph from tensors (`formats.py` gives these their names), and a
function here that returns what it computes and imports the module: a checkpoint needs two families
of eleven. Nothing else asks for a family's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sharpzo.errors import InputError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.runtime import Running, Runtime
from sharpzo.types import Array, LastBlock

if TYPE_CHECKING:
    from sharpzo.towers.graph import Graph
    from sharpzo.towers.prompts import Prompts


class Layered(Protocol):
    """An image tower with the weights of one layer in memory at a time."""

    def summaries(self, pixels: Array) -> Array:
        """Return float32 (N, R, S) of preprocessed photos (N, 3, h, w)."""
        ...

    def trace(self, pixels: Array) -> tuple[Array, Array]:
        """Return the tokens before the last block (N, T, S), and the summaries."""
        ...


@dataclass(frozen=True)
class ImageFamily:
    """An image tower, made of a checkpoint and the height and width of the pixels.

    ``build`` returns the graph: ``pixels`` (B, 3, h, w) -> ``tokens`` (B, T, S) before the last
    block, ``summary`` (B, R - 1, S) and ``states`` (B, S); see `image.build_image`. ``open``
    returns what runs in its place, in so many threads, where the graph is not one of ours.
    ``rows``, R, of S numbers are kept of a photo: its state, and the summary.
    ``torch``: whether `torch_image.py` computes it, too. ``resizable``: whether its positions can
    be resampled for photos of another size. ``build_integers`` is as ``build``, in whole numbers.
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
    open: Callable[[Checkpoint, int, int, int | None], Running] | None = None
    rows: int = 5
    torch: bool = False
    resizable: bool = False
    build_integers: Callable[[Checkpoint, int, int], Graph] | None = None


@dataclass(frozen=True)
class TextFamily:
    """A text tower, made of a checkpoint and prompts.

    ``check`` raises `CheckpointError` for what the checkpoint lacks and reads no tensor.
    ``layout`` makes prompts of class names (see `prompts.layout`). ``open`` compiles the tower (see
    `text.build_text`), or with True the one with derivatives (see `tangent.build_tangent`).
    ``projection`` (D, H) makes features of states. ``streamed``: whether `lowmem/streaming.py`
    computes it, too; ``torch``: whether `torch_text.py` does; ``exact``: whether derivatives are
    tangents, and not differences, which cost two forwards each.
    """

    check: Callable[[Checkpoint], None]
    layout: Callable[[Checkpoint, Sequence[str], str, int | None, bool], Prompts]
    open: Callable[[Checkpoint, Prompts, Runtime, bool], Running]
    projection: Callable[[Checkpoint], Array]
    streamed: bool = False
    torch: bool = False
    exact: bool = True


def image_family(checkpoint: Checkpoint) -> ImageFamily:
    """Return the family of a checkpoint's image tower."""
    return IMAGES[checkpoint.image.family]()


def text_family(checkpoint: Checkpoint) -> TextFamily:
    """Return the family of a checkpoint's text tower."""
    return TEXTS[checkpoint.text.family]()


def _image_transformer() -> ImageFamily:
    from sharpzo.towers import image
    from sharpzo.towers.lowmem import layers

    return ImageFamily(
        image.build_image, image.read_projection, image.read_last_block, layers.LayeredImage,
        layers.layered_bytes, torch=True, resizable=True,
        build_integers=partial(image.build_image, integers=True),
    )  # fmt: skip


def _resnet() -> ImageFamily:
    from sharpzo.towers import resnet
    from sharpzo.towers.lowmem import resnet_layers

    return ImageFamily(
        resnet.build_resnet, resnet.read_projection, _no_last_block, resnet_layers.LayeredResNet,
        resnet_layers.layered_bytes, rows=3,
    )  # fmt: skip


def _siglip_image() -> ImageFamily:
    from sharpzo.towers import siglip_image
    from sharpzo.towers.lowmem import layers, pooled_layers

    return ImageFamily(
        siglip_image.build_image, siglip_image.read_projection, _no_last_block,
        pooled_layers.LayeredSiglip, layers.layered_bytes,
    )  # fmt: skip


def _pooled_image() -> ImageFamily:
    from sharpzo.towers import image
    from sharpzo.towers.lowmem import layers, pooled_layers

    return ImageFamily(
        image.build_image, image.read_projection, _no_last_block, pooled_layers.LayeredPooled,
        layers.layered_bytes, build_integers=partial(image.build_image, integers=True),
    )  # fmt: skip


def _pair_image() -> ImageFamily:
    return ImageFamily(
        _build_pair_image, _identity, _no_last_block, _not_layered, _not_layered, _open_pair_image,
        rows=1,
    )  # fmt: skip


def _causal_text() -> TextFamily:
    from sharpzo.towers import prompts, text

    return TextFamily(
        text.check_text, prompts.layout, _open_causal, text.read_projection, streamed=True,
        torch=True,
    )  # fmt: skip


def _coca_text() -> TextFamily:
    from sharpzo.towers import prompts

    return replace(_causal_text(), layout=prompts.layout_appended, torch=False)


def _whole_text() -> TextFamily:
    from sharpzo.towers import whole_prompts, whole_text

    return TextFamily(
        whole_text.check_text, whole_prompts.layout_whole, whole_text.open_text,
        whole_text.read_projection, streamed=True,
    )  # fmt: skip


def _siglip_text() -> TextFamily:
    from sharpzo.towers import whole_prompts

    return replace(_whole_text(), layout=whole_prompts.layout_siglip)


def _pair_text() -> TextFamily:
    return TextFamily(
        lambda checkpoint: None, _lay_out_pair, _open_pair_text, _identity, exact=False
    )


IMAGES: Mapping[str, Callable[[], ImageFamily]] = {
    "clip": _image_transformer,
    "dinov2": _image_transformer,
    "resnet": _resnet,
    "siglip": _siglip_image,
    "pooled": _pooled_image,
    "onnx": _pair_image,
}
TEXTS: Mapping[str, Callable[[], TextFamily]] = {
    "clip": _causal_text,
    "coca": _coca_text,
    "whole": _whole_text,
    "siglip": _siglip_text,
    "onnx": _pair_text,
}


def _open_causal(
    checkpoint: Checkpoint, prompts: Prompts, runtime: Runtime, tangents: bool
) -> Running:
    if tangents:
        from sharpzo.towers.tangent import build_tangent  # loads the graphs' library

        return runtime.open(build_tangent(checkpoint, prompts, runtime.weights))
    from sharpzo.towers.text import build_text

    return runtime.open(build_text(checkpoint, prompts, runtime.weights))


def _open_pair_image(
    checkpoint: Checkpoint, height: int, width: int, threads: int | None
) -> Running:
    from sharpzo.towers.pair_session import open_image  # loads the graphs' library

    return open_image(checkpoint, height, width, threads)


def _open_pair_text(
    checkpoint: Checkpoint, prompts: Prompts, runtime: Runtime, tangents: bool
) -> Running:
    from sharpzo.towers.pair_session import open_text

    return open_text(checkpoint, prompts, runtime)


def _lay_out_pair(
    checkpoint: Checkpoint, names: Sequence[str], template: str, n: int | None, specific: bool
) -> Prompts:
    from sharpzo.towers.pair_session import layout

    return layout(checkpoint, names, template, n, specific)


def _identity(checkpoint: Checkpoint) -> Array:
    """States are the features."""
    return np.eye(checkpoint.image.projection, dtype=np.float32)


def _no_last_block(checkpoint: Checkpoint) -> LastBlock:
    raise InputError(
        "this method tunes the last block of an image tower that is read at a class token; "
        f"{checkpoint.folder} has none that can be tuned: choose another method"
    )


def _build_pair_image(checkpoint: Checkpoint, height: int, width: int) -> Graph:
    from sharpzo.towers.pair_graph import build_image

    return build_image(checkpoint, height, width)


def _not_layered(checkpoint: Checkpoint, *sizes: int) -> Any:
    raise InputError(
        f"the image tower of {checkpoint.folder} (family {checkpoint.image.family!r}) is not "
        "computed block by block; leave out the memory limit"
    )
