"""The image tower as an ONNX graph: pixels (B, 3, height, width) -> unit features (B, D).

Two families: CLIP's vision transformer and DINOv2. Both are read at the class token, so the last
block computes queries, output projection and MLP for that token alone.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from sharpzo.errors import CheckpointError
from sharpzo.towers import blocks
from sharpzo.towers.blocks import Block, Pair
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.config import ImageConfig
from sharpzo.towers.graph import Builder, Graph
from sharpzo.towers.positions import resize_positions
from sharpzo.types import Tail


def build_image(checkpoint: Checkpoint, height: int, width: int) -> Graph:
    """Return the graph for pixels of one size: input ``pixels``, outputs ``tokens`` (B, T, H)
    before the last block, ``states`` (B, H), what the projection reads, and ``features``."""
    config, m = checkpoint.image, checkpoint.image.width
    build = Builder()
    x, tokens = write_embedding(build, checkpoint, height, width)
    for layer in range(config.layers):
        block = read_block(checkpoint, layer)
        last = layer == config.layers - 1
        if last:
            build.op("Reshape", x, build.constant([-1, tokens, m]), name="tokens")
        x = write_block(build, config, x, f"image.{layer}", block, tokens, last)
    x = build.op("Identity", write_norm(build, checkpoint, x), name="states")
    projection = checkpoint.tensor("visual_projection.weight", (config.projection, m))
    x = build.op("Gemm", x, build.weight("image.projection", projection), transB=1)
    build.op("LpNormalization", x, axis=-1, p=2, name="features")
    return build.finish(
        {"pixels": ("B", 3, height, width)},
        {
            "tokens": ("B", tokens, m),
            "states": ("B", m),
            "features": ("B", config.projection),
        },
        "image",
    )


def write_embedding(
    build: Builder, checkpoint: Checkpoint, height: int, width: int
) -> tuple[str, int]:
    """Write what comes before the blocks; return rows (B * tokens, H), and tokens of a photo."""
    config, m = checkpoint.image, checkpoint.image.width
    if config.family == "clip" and (height, width) != (config.image_size, config.image_size):
        raise CheckpointError(
            f"preprocessing makes photos of {height}x{width} pixels, the image tower was made for "
            f"{config.image_size}x{config.image_size}; make the two configurations agree"
        )
    if min(height, width) < config.patch:
        raise CheckpointError(
            f"photos of {height}x{width} pixels are smaller than a patch of {config.patch}"
        )
    x, tokens = _embed(build, checkpoint, height, width)
    if config.family == "clip":
        pair = checkpoint.pair("vision_model.pre_layrnorm", m)
        x = blocks.norm(build, x, "image.pre", pair, config.norm_eps)
    return x, tokens


def write_norm(build: Builder, checkpoint: Checkpoint, x: str) -> str:
    """Return the states (B, H) of the last block's x."""
    return blocks.norm(build, x, "image.post", _final_norm(checkpoint), checkpoint.image.norm_eps)


def read_tail(checkpoint: Checkpoint) -> Tail:
    """Return what makes states of the graph's ``tokens``."""
    config = checkpoint.image
    block = read_block(checkpoint, config.layers - 1)
    parts = {field.name: getattr(block, field.name) for field in fields(block)}
    return Tail(
        parts | {"norm": _final_norm(checkpoint)},
        config.heads,
        config.activation,
        config.norm_eps,
    )


def read_block(checkpoint: Checkpoint, layer: int) -> Block:
    """Return the arrays of one block."""
    read = _clip_block if checkpoint.image.family == "clip" else _dino_block
    return read(checkpoint, layer)


def block_prefix(checkpoint: Checkpoint, layer: int) -> str:
    """Return what the names of one block's tensors start with, without the final dot."""
    folder = "layers" if checkpoint.image.family == "clip" else "layer"
    return f"vision_model.encoder.{folder}.{layer}"


def _final_norm(checkpoint: Checkpoint) -> Pair:
    name = "post_layernorm" if checkpoint.image.family == "clip" else "layernorm"
    return checkpoint.pair(f"vision_model.{name}", checkpoint.image.width)


def _embed(build: Builder, checkpoint: Checkpoint, height: int, width: int) -> tuple[str, int]:
    """Return rows (B * tokens, H) of class token and patches with positions, and tokens."""
    config, m, p = checkpoint.image, checkpoint.image.width, checkpoint.image.patch
    rows, columns = height // p, width // p
    name = "vision_model.embeddings"
    grid = config.image_size // p
    if config.family == "clip":
        cls = checkpoint.tensor(f"{name}.class_embedding", (m,))
        table = checkpoint.tensor(f"{name}.position_embedding.weight", (1 + grid * grid, m))
        kernel = checkpoint.tensor(f"{name}.patch_embedding.weight", (m, 3, p, p))
        bias = np.zeros(m, np.float32)
    else:
        cls = checkpoint.tensor(f"{name}.cls_token", (1, 1, m)).reshape(m)
        table = checkpoint.tensor(f"{name}.position_embeddings", (1, 1 + grid * grid, m))[0]
        kernel = checkpoint.tensor(f"{name}.patch_embeddings.projection.weight", (m, 3, p, p))
        bias = checkpoint.tensor(f"{name}.patch_embeddings.projection.bias", (m,))
    table = resize_positions(table, rows, columns)
    # A convolution whose stride is its kernel is one matrix product over flattened patches.
    x = "pixels"
    if (rows * p, columns * p) != (height, width):  # a convolution drops such a margin as well
        ends = build.constant([rows * p, columns * p])
        x = build.op("Slice", x, build.constant([0, 0]), ends, build.constant([2, 3]))
    x = build.op("Reshape", x, build.constant([-1, 3, rows, p, columns, p]))
    x = build.op("Transpose", x, perm=[0, 2, 4, 1, 3, 5])
    x = build.op("Reshape", x, build.constant([-1, 3 * p * p]))
    x = blocks.linear(build, x, "image.patch", (kernel.reshape(m, -1), bias))
    x = build.op("Reshape", x, build.constant([-1, rows * columns, m]))
    x = build.op("Add", x, build.constant(table[1:], "image.positions"))
    first = blocks.repeat(build, "pixels", (cls + table[0])[None], "image.class")
    x = build.op("Concat", first, x, axis=1)
    return build.op("Reshape", x, build.constant([-1, m])), 1 + rows * columns


def write_block(
    build: Builder, config: ImageConfig, x: str, name: str, block: Block, tokens: int, last: bool
) -> str:
    """Return x after one block; rows (B * tokens, H), or (B, H) after the last one."""
    h = blocks.norm(build, x, f"{name}.norm1", block.norm1, config.norm_eps)
    asked, count = h, tokens
    if last:
        asked, x = (blocks.pick(build, v, tokens, [0], config.width) for v in (h, x))
        count = 1
    query = blocks.linear(build, asked, f"{name}.query", block.query)
    key = blocks.linear(build, h, f"{name}.key", block.key)
    value = blocks.linear(build, h, f"{name}.value", block.value)
    mixed = blocks.attend(
        build,
        blocks.split_heads(build, query, count, config.heads, config.width),
        blocks.split_heads(build, key, tokens, config.heads, config.width),
        blocks.split_heads(build, value, tokens, config.heads, config.width),
    )
    mixed = blocks.join_heads(build, mixed, config.width)
    x = build.op("Add", x, blocks.linear(build, mixed, f"{name}.out", block.out))
    return blocks.mlp(build, x, name, block, config.activation, config.norm_eps)


def _clip_block(checkpoint: Checkpoint, layer: int) -> Block:
    config = checkpoint.image
    name = block_prefix(checkpoint, layer)
    return blocks.clip_block(checkpoint, name, config.width, config.mlp_width, config.heads)


def _dino_block(checkpoint: Checkpoint, layer: int) -> Block:
    config, m = checkpoint.image, checkpoint.image.width
    name = block_prefix(checkpoint, layer)
    attention = f"{name}.attention.attention"

    def scaled(pair: Pair, scale: str) -> Pair:
        # LayerScale multiplies what a branch adds: the same as scaling its last matrix's rows.
        factor = checkpoint.tensor(f"{name}.{scale}.lambda1", (m,))
        return pair[0] * factor[:, None], pair[1] * factor

    return Block(
        norm1=checkpoint.pair(f"{name}.norm1", m),
        query=blocks.scale_query(checkpoint.pair(f"{attention}.query", m, m), config.heads),
        key=checkpoint.pair(f"{attention}.key", m, m),
        value=checkpoint.pair(f"{attention}.value", m, m),
        out=scaled(checkpoint.pair(f"{name}.attention.output.dense", m, m), "layer_scale1"),
        norm2=checkpoint.pair(f"{name}.norm2", m),
        fc1=checkpoint.pair(f"{name}.mlp.fc1", config.mlp_width, m),
        fc2=scaled(checkpoint.pair(f"{name}.mlp.fc2", m, config.mlp_width), "layer_scale2"),
    )
