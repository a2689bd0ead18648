"""The image tower of SigLIP and SigLIP 2: no class token; a learned query pools the tokens that
leave the last block, and what it reads is the feature.

SigLIP 2's towers for photos of any shape ("NaFlex") are read for square ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sharpzo.errors import CheckpointError
from sharpzo.towers import blocks
from sharpzo.towers.blocks import Pair
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.config import ImageConfig
from sharpzo.towers.image import write_block
from sharpzo.towers.patches import depth, middle, write_spread
from sharpzo.towers.pooling import HEAD, read_post, read_siglip_reader, write_reader
from sharpzo.towers.siglip_config import SiglipImage
from sharpzo.types import Array

if TYPE_CHECKING:
    from sharpzo.towers.graph import Builder, Graph


def read_projection(checkpoint: Checkpoint) -> Array:
    """Return what makes features of states: nothing, as states are the features. The width is
    checked first, as a wrong one may be larger than memory."""
    m = checkpoint.image.width
    checkpoint.find("vision_model.post_layernorm.weight", (m,))
    return np.eye(m, dtype=np.float32)


def build_image(checkpoint: Checkpoint, height: int, width: int) -> Graph:
    """Return the graph of the image tower, as `image.build_image` does; there is no class token, so
    the mean of the tokens stands in its place. States are what the head pools, of width D."""
    from sharpzo.towers.graph import Builder

    config, m = checkpoint.image, checkpoint.image.width
    build = Builder()
    x, tokens = _write_patches(build, checkpoint, height, width)
    places = middle(height // config.patch, width // config.patch, 0)
    for layer in range(config.layers):
        name = f"vision_model.encoder.layers.{layer}"
        block = blocks.clip_block(checkpoint, name, m, config.mlp_width, config.heads)
        if checkpoint.weights.converted:  # into memory of its own
            checkpoint.weights.release()
        if layer == depth(config.layers):
            seen = blocks.pick(build, x, tokens, places, m)
            write_spread(build, seen, len(places), m)
        if layer == config.layers - 1:
            seen = build.reshape(x, [-1, tokens, m])
            mean = build.op("ReduceMean", seen, build.constant([1]), keepdims=1)
            build.op("Concat", mean, seen, axis=1, name="tokens")
            build.op("Concat", mean, mean, "patches", axis=1, name="summary")
        x = write_block(build, config, x, f"image.{layer}", block, tokens, last=False)
    x = blocks.norm(build, x, "image.post", read_post(checkpoint), config.norm_eps)
    build.op("Identity", _write_head(build, checkpoint, x, tokens), name="states")
    return build.finish(
        {"pixels": ("B", 3, height, width)},
        {"tokens": ("B", 1 + tokens, m), "summary": ("B", 4, m), "states": ("B", m)},
        "siglip-image",
    )


def read_embedding(checkpoint: Checkpoint, height: int, width: int) -> tuple[Pair, Array]:
    """Return what makes tokens of photos, as `image.read_embedding` does: weight (H, 3 * p * p) and
    bias of a patch whose colours come first, and the positions (patches, H).

    Raises `CheckpointError` for a size that the tower does not take.
    """
    (kernel, bias), table = _read_patches(checkpoint, height, width)
    config = checkpoint.image
    if _flat(config):
        p = config.patch
        kernel = np.ascontiguousarray(kernel.reshape(-1, p * p, 3).transpose(0, 2, 1))
    return (kernel.reshape(config.width, -1), bias), table


def read_head_norm(checkpoint: Checkpoint) -> Pair:
    """Return the norm of what the learned query has read."""
    return checkpoint.pair(f"{HEAD}.layernorm", checkpoint.image.width)


def read_head_mlp(checkpoint: Checkpoint) -> tuple[Pair, Pair]:
    """Return the two layers behind that norm."""
    m, wide = checkpoint.image.width, checkpoint.image.mlp_width
    return checkpoint.pair(f"{HEAD}.mlp.fc1", wide, m), checkpoint.pair(f"{HEAD}.mlp.fc2", m, wide)


def _flat(config: ImageConfig) -> bool:
    """Whether colours of a pixel follow each other in a patch, as in SigLIP 2's."""
    return isinstance(config, SiglipImage) and config.flat


def _read_patches(checkpoint: Checkpoint, height: int, width: int) -> tuple[Pair, Array]:
    """The layer of patches as the file has it, and the positions."""
    config, m, p = checkpoint.image, checkpoint.image.width, checkpoint.image.patch
    side = config.image_size
    if (height, width) != (side, side):
        raise CheckpointError(
            f"preprocessing makes photos of {height}x{width} pixels, the image tower was made for "
            f"{side}x{side}; make the two configurations agree"
        )
    name, grid = "vision_model.embeddings", side // p
    shape = (m, 3 * p * p) if _flat(config) else (m, 3, p, p)
    pair = checkpoint.pair(f"{name}.patch_embedding", *shape)
    return pair, checkpoint.tensor(f"{name}.position_embedding.weight", (grid * grid, m))


def _write_patches(
    build: Builder, checkpoint: Checkpoint, height: int, width: int
) -> tuple[str, int]:
    """Write what comes before the blocks; return rows (B * tokens, H), and tokens of a photo."""
    config, m, p = checkpoint.image, checkpoint.image.width, checkpoint.image.patch
    (kernel, bias), table = _read_patches(checkpoint, height, width)
    side, grid = config.image_size, config.image_size // p
    ends = build.constant([grid * p, grid * p])
    x = "pixels"
    if grid * p != side:  # a convolution drops such a margin as well
        x = build.op("Slice", x, build.constant([0, 0]), ends, build.constant([2, 3]))
    x = build.reshape(x, [-1, 3, grid, p, grid, p])
    x = build.op("Transpose", x, perm=[0, 2, 4, 3, 5, 1] if _flat(config) else [0, 2, 4, 1, 3, 5])
    x = build.reshape(x, [-1, 3 * p * p])
    x = blocks.linear(build, x, "image.patch", (kernel.reshape(m, -1), bias))
    x = build.reshape(x, [-1, grid * grid, m])
    x = build.op("Add", x, build.constant(table, "image.positions"))
    return build.reshape(x, [-1, m]), grid * grid


def _write_head(build: Builder, checkpoint: Checkpoint, x: str, tokens: int) -> str:
    """Return what a learned query reads of the tokens, and its MLP: (B, H)."""
    config = checkpoint.image
    y = write_reader(build, read_siglip_reader(checkpoint), x, tokens)
    norm = read_head_norm(checkpoint)
    h = blocks.norm(build, y, "image.head.norm", norm, config.norm_eps)
    fc1, fc2 = read_head_mlp(checkpoint)
    h = blocks.activate(build, blocks.linear(build, h, "image.head.fc1", fc1), config.activation)
    return build.op("Add", y, blocks.linear(build, h, "image.head.fc2", fc2))
