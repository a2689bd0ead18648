"""The image tower of SigLIP and SigLIP 2: no class token; a learned query pools the tokens that
leave the last block, and what it reads is the feature.

SigLIP 2's towers for photos of any shape ("NaFlex") are read for square ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sharpzo.errors import CheckpointError
from sharpzo.towers import blocks
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.image import write_block
from sharpzo.towers.siglip_config import SiglipImage
from sharpzo.types import Array

if TYPE_CHECKING:
    from sharpzo.towers.graph import Builder, Graph

_HEAD = "vision_model.head"


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
    for layer in range(config.layers):
        name = f"vision_model.encoder.layers.{layer}"
        block = blocks.clip_block(checkpoint, name, m, config.mlp_width, config.heads)
        if checkpoint.weights.converted:  # into memory of its own
            checkpoint.weights.release()
        if layer == config.layers - 1:
            seen = build.reshape(x, [-1, tokens, m])
            mean = build.op("ReduceMean", seen, build.constant([1]), keepdims=1)
            build.op("Concat", mean, seen, axis=1, name="tokens")
            build.op("Concat", mean, mean, axis=1, name="summary")
        x = write_block(build, config, x, f"image.{layer}", block, tokens, last=False)
    pair = checkpoint.pair("vision_model.post_layernorm", m)
    x = blocks.norm(build, x, "image.post", pair, config.norm_eps)
    build.op("Identity", _write_head(build, checkpoint, x, tokens), name="states")
    return build.finish(
        {"pixels": ("B", 3, height, width)},
        {"tokens": ("B", 1 + tokens, m), "summary": ("B", 2, m), "states": ("B", m)},
        "siglip-image",
    )


def _write_patches(
    build: Builder, checkpoint: Checkpoint, height: int, width: int
) -> tuple[str, int]:
    """Write what comes before the blocks; return rows (B * tokens, H), and tokens of a photo."""
    config, m, p = checkpoint.image, checkpoint.image.width, checkpoint.image.patch
    side = config.image_size
    if (height, width) != (side, side):
        raise CheckpointError(
            f"preprocessing makes photos of {height}x{width} pixels, the image tower was made for "
            f"{side}x{side}; make the two configurations agree"
        )
    grid = side // p
    name, flat = "vision_model.embeddings", isinstance(config, SiglipImage) and config.flat
    shape = (m, 3 * p * p) if flat else (m, 3, p, p)
    kernel, bias = checkpoint.pair(f"{name}.patch_embedding", *shape)
    table = checkpoint.tensor(f"{name}.position_embedding.weight", (grid * grid, m))
    ends = build.constant([grid * p, grid * p])
    x = "pixels"
    if grid * p != side:  # a convolution drops such a margin as well
        x = build.op("Slice", x, build.constant([0, 0]), ends, build.constant([2, 3]))
    x = build.reshape(x, [-1, 3, grid, p, grid, p])
    # Colours of a pixel follow each other in SigLIP 2's patches, a colour's pixels in the others'.
    x = build.op("Transpose", x, perm=[0, 2, 4, 3, 5, 1] if flat else [0, 2, 4, 1, 3, 5])
    x = build.reshape(x, [-1, 3 * p * p])
    x = blocks.linear(build, x, "image.patch", (kernel.reshape(m, -1), bias))
    x = build.reshape(x, [-1, grid * grid, m])
    x = build.op("Add", x, build.constant(table, "image.positions"))
    return build.reshape(x, [-1, m]), grid * grid


def _write_head(build: Builder, checkpoint: Checkpoint, x: str, tokens: int) -> str:
    """Return what a learned query reads of the tokens, and its MLP: (B, H)."""
    config, m = checkpoint.image, checkpoint.image.width
    weight = checkpoint.tensor(f"{_HEAD}.attention.in_proj_weight", (3 * m, m))
    bias = checkpoint.tensor(f"{_HEAD}.attention.in_proj_bias", (3 * m,))
    part = {name: (weight[i * m : (i + 1) * m], bias[i * m : (i + 1) * m])
            for i, name in enumerate(("query", "key", "value"))}  # fmt: skip
    probe = checkpoint.tensor(f"{_HEAD}.probe", (1, 1, m)).reshape(m)
    asking = part["query"][0] @ probe + part["query"][1]
    size = m // config.heads
    query = (asking / np.float32(size**0.5)).reshape(1, config.heads, 1, size)
    mixed = blocks.attend(
        build,
        build.constant(query, "image.head.query"),
        blocks.heads(build, x, "image.head.key", part["key"], tokens, config),
        blocks.heads(build, x, "image.head.value", part["value"], tokens, config),
    )
    mixed = blocks.join_heads(build, mixed, m)
    out = checkpoint.pair(f"{_HEAD}.attention.out_proj", m, m)
    y = blocks.linear(build, mixed, "image.head.out", out)
    norm = checkpoint.pair(f"{_HEAD}.layernorm", m)
    h = blocks.norm(build, y, "image.head.norm", norm, config.norm_eps)
    fc1 = checkpoint.pair(f"{_HEAD}.mlp.fc1", config.mlp_width, m)
    h = blocks.activate(build, blocks.linear(build, h, "image.head.fc1", fc1), config.activation)
    fc2 = checkpoint.pair(f"{_HEAD}.mlp.fc2", m, config.mlp_width)
    return build.op("Add", y, blocks.linear(build, h, "image.head.fc2", fc2))
