"""The image tower: its weights, and an ONNX graph, pixels (B, 3, height, width) -> states (B, H).

CLIP's vision transformer and DINOv2 are read at the class token, so the last block computes
queries, output projection and MLP for that token alone. Transformers of OpenCLIP with other options
may read all tokens (`pooling.py`). `lowmem/layers.py` computes the same from the same weights
without a graph.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from sharpzo.errors import CheckpointError
from sharpzo.towers import blocks
from sharpzo.towers.blocks import Block, Pair
from sharpzo.towers.checkpoint import CLIP_LAYERS, Checkpoint, block_shapes, check_finite
from sharpzo.towers.config import ImageConfig, PooledImage
from sharpzo.towers.patches import depth, middle, write_spread
from sharpzo.towers.pooling import read_post, write_pooling
from sharpzo.towers.preprocess import REDUCED, Preprocessing
from sharpzo.types import Array, Decoding, LastBlock

if TYPE_CHECKING:
    from sharpzo.towers.graph import Builder, Graph

_DINO_LAYERS = {
    "norm1": "norm1", "query": "attention.attention.query", "key": "attention.attention.key",
    "value": "attention.attention.value", "out": "attention.output.dense", "norm2": "norm2",
    "fc1": "mlp.fc1", "fc2": "mlp.fc2",
}  # fmt: skip
IMAGE_TENSORS = "vision_model.", "visual_projection."  # what their names begin with
_CUBIC = -0.75  # torch's cubic coefficient; PIL and others use -0.5
_SCALES = {"out": "layer_scale1.lambda1", "fc2": "layer_scale2.lambda1"}


def build_image(checkpoint: Checkpoint, height: int, width: int, integers: bool = False) -> Graph:
    """Return the graph for pixels of one size: input ``pixels``, outputs ``tokens`` (B, T, H)
    before the last block, ``summary`` (B, 4, H) of tokens, and ``states`` (B, H), what the
    projection reads. The summary has the class token and the mean of the others before the last
    block, then what `patches.py` reads further up.

    ``integers``: blocks before the last, which makes states of ``tokens``, in whole numbers."""
    from sharpzo.towers.graph import Builder
    from sharpzo.towers.integers import IntegerBlocks

    config, m = checkpoint.image, checkpoint.image.width
    build = Builder()
    x, tokens = _write_embedding(build, checkpoint, height, width)
    inner = IntegerBlocks(build, config, tokens) if integers and config.layers > 1 else None
    x = inner.enter(x) if inner else x
    places = middle(height // config.patch, width // config.patch, 1)
    for layer in range(config.layers):
        block = read_block(checkpoint, layer)
        if checkpoint.weights.converted:  # into memory of its own
            checkpoint.weights.release()
        last = layer == config.layers - 1
        if layer == depth(config.layers):
            seen = blocks.pick(build, x, tokens, places, m)
            write_spread(build, inner.leave(seen) if inner else seen, len(places), m)
        if last:
            x = inner.leave(x) if inner else x
            build.reshape(x, [-1, tokens, m], name="tokens")
            mean = np.full((2, tokens), 1 / max(tokens - 1, 1))
            mean[0], mean[1, 0] = np.eye(tokens)[0], 0
            pair = build.op("MatMul", build.constant(mean, "image.mean"), "tokens")
            build.op("Concat", pair, "patches", axis=1, name="summary")
        elif inner:
            for array in (one for pair in vars(block).values() for one in pair):
                # In whole numbers NaN becomes 0, and nothing after it would be non-finite.
                check_finite(array, checkpoint, f"image tower's weights of block {layer}")
            x = inner.add(x, f"image.{layer}", block)
            continue
        alone = last and config.pool == "tok"
        x = write_block(build, config, x, f"image.{layer}", block, tokens, alone)
    build.op("Identity", write_pooling(build, checkpoint, x, tokens), name="states")
    return build.finish(
        {"pixels": ("B", 3, height, width)},
        {"tokens": ("B", tokens, m), "summary": ("B", 4, m), "states": ("B", m)},
        "image",
    )


def read_block(checkpoint: Checkpoint, layer: int) -> Block:
    """Return the arrays of one block."""
    return Block(**{f.name: read_layer(checkpoint, layer, f.name) for f in fields(Block)})


def read_layer(checkpoint: Checkpoint, layer: int, part: str, *, folded: bool = True) -> Pair:
    """Return one layer of a block; ``part`` is the name of a field of `Block`.

    ``folded``: with attention's 1/sqrt(d) in the query and LayerScale in what it multiplies.
    """
    config = checkpoint.image
    shape = block_shapes(config.width, config.mlp_width)[part]
    layers = _DINO_LAYERS if config.family == "dinov2" else CLIP_LAYERS
    pair = checkpoint.pair(f"{_block_name(checkpoint, layer)}.{layers[part]}", *shape)
    if not folded:
        return pair
    if part == "query":
        return blocks.scale_query(pair, config.heads)
    factor = read_layer_scale(checkpoint, layer, part)
    # LayerScale multiplies what a branch adds: the same as scaling its last matrix's rows.
    return pair if factor is None else (pair[0] * factor[:, None], pair[1] * factor)


def read_layer_scale(checkpoint: Checkpoint, layer: int, part: str) -> Array | None:
    """Return LayerScale's factors (H,) of what a layer makes, where the family has any."""
    config = checkpoint.image
    scaled = config.family == "dinov2" or (isinstance(config, PooledImage) and config.scaled)
    if not scaled or part not in _SCALES:
        return None
    return checkpoint.tensor(f"{_block_name(checkpoint, layer)}.{_SCALES[part]}", (config.width,))


def read_pre(checkpoint: Checkpoint) -> Pair | None:
    """Return the norm before the blocks, where the family has one."""
    config = checkpoint.image
    if config.family == "dinov2" or not config.pre:
        return None
    return checkpoint.pair("vision_model.pre_layrnorm", config.width)  # CLIP's own spelling


def read_last_block(checkpoint: Checkpoint) -> LastBlock:
    """Return what makes states of the graph's ``tokens``."""
    config = checkpoint.image
    block = read_block(checkpoint, config.layers - 1)
    parts = {field.name: getattr(block, field.name) for field in fields(block)}
    return LastBlock(
        parts | {"norm": read_post(checkpoint)},
        config.heads,
        config.activation,
        config.norm_eps,
    )


def read_embedding(checkpoint: Checkpoint, height: int, width: int) -> tuple[Pair, Array]:
    """Return what makes tokens of photos: weight (H, 3 * p * p) and bias of a patch, and what is
    added to the tokens (1 + patches, H), which is all that the class token is.

    Raises `CheckpointError` for a size that the tower does not take.
    """
    config, m, p = checkpoint.image, checkpoint.image.width, checkpoint.image.patch
    own, side = config.family != "dinov2", checkpoint.image_size or config.image_size
    if own and (height, width) != (side, side):
        raise CheckpointError(
            f"preprocessing makes photos of {height}x{width} pixels, the image tower was made for "
            f"{side}x{side}; make the two configurations agree"
        )
    if min(height, width) < p:
        raise CheckpointError(f"photos of {height}x{width} pixels are smaller than a patch of {p}")
    name, grid = "vision_model.embeddings", config.image_size // p
    if own:
        cls = checkpoint.tensor(f"{name}.class_embedding", (m,))
        table = checkpoint.tensor(f"{name}.position_embedding.weight", (1 + grid * grid, m))
        kernel = checkpoint.tensor(f"{name}.patch_embedding.weight", (m, 3, p, p))
        bias = np.zeros(m, np.float32)
    else:
        cls = checkpoint.tensor(f"{name}.cls_token", (1, 1, m)).reshape(m)
        table = checkpoint.tensor(f"{name}.position_embeddings", (1, 1 + grid * grid, m))[0]
        kernel = checkpoint.tensor(f"{name}.patch_embeddings.projection.weight", (m, 3, p, p))
        bias = checkpoint.tensor(f"{name}.patch_embeddings.projection.bias", (m,))
    table = resize_positions(table, height // p, width // p)
    added = np.concatenate([(cls + table[0])[None], table[1:]])
    return (kernel.reshape(m, -1), bias), added


def image_fingerprint(checkpoint: Checkpoint, decoding: Decoding = "exact") -> str:
    """sha256 over image weights and preprocessing; no tower is opened for it."""
    preprocessing = Preprocessing.open(checkpoint)
    whole = checkpoint.digest(IMAGE_TENSORS, repr(checkpoint.image), repr(preprocessing))
    return with_decoding(whole, decoding)


def with_decoding(fingerprint: str, decoding: Decoding) -> str:
    """Return the fingerprint of an image tower with another decoding than the exact one."""
    if decoding == "exact":
        return fingerprint
    return hashlib.sha256(f"{fingerprint} {decoding} {REDUCED}".encode()).hexdigest()


def read_projection(checkpoint: Checkpoint) -> Array:
    """Final image projection, float32 (D, S): features = normalised states @ projection.T."""
    config = checkpoint.image
    if config.pool == "attention":  # states are narrower than tokens; zeros fill them up
        own = checkpoint.tensor("visual_projection.weight", (config.projection,) * 2)
        return np.pad(own, ((0, 0), (0, config.width - config.projection)))
    return checkpoint.tensor("visual_projection.weight", (config.projection, config.width))


def _block_name(checkpoint: Checkpoint, layer: int) -> str:
    folder = "layer" if checkpoint.image.family == "dinov2" else "layers"
    return f"vision_model.encoder.{folder}.{layer}"


def _write_embedding(
    build: Builder, checkpoint: Checkpoint, height: int, width: int
) -> tuple[str, int]:
    """Write what comes before the blocks; return rows (B * tokens, H), and tokens of a photo."""
    config, m, p = checkpoint.image, checkpoint.image.width, checkpoint.image.patch
    rows, columns = height // p, width // p
    pair, added = read_embedding(checkpoint, height, width)
    # A convolution whose stride is its kernel is one matrix product over flattened patches.
    x = "pixels"
    if (rows * p, columns * p) != (height, width):  # a convolution drops such a margin as well
        ends = build.constant([rows * p, columns * p])
        x = build.op("Slice", x, build.constant([0, 0]), ends, build.constant([2, 3]))
    x = build.reshape(x, [-1, 3, rows, p, columns, p])
    x = build.op("Transpose", x, perm=[0, 2, 4, 1, 3, 5])
    x = build.reshape(x, [-1, 3 * p * p])
    x = blocks.linear(build, x, "image.patch", pair)
    x = build.reshape(x, [-1, rows * columns, m])
    x = build.op("Add", x, build.constant(added[1:], "image.positions"))
    first = blocks.repeat(build, "pixels", added[:1], "image.class")
    x = build.op("Concat", first, x, axis=1)
    x = build.reshape(x, [-1, m])
    if (pair := read_pre(checkpoint)) is not None:
        x = blocks.norm(build, x, "image.pre", pair, config.norm_eps)
    return x, len(added)


def write_block(
    build: Builder, config: ImageConfig, x: str, name: str, block: Block, tokens: int, last: bool
) -> str:
    """Return x after one block; rows (B * tokens, H), or (B, H) after the last one."""
    h = blocks.norm(build, x, f"{name}.norm1", block.norm1, config.norm_eps)
    querying, count = h, tokens
    if last:
        querying, x = (blocks.pick(build, v, tokens, [0], config.width) for v in (h, x))
        count = 1
    mixed = blocks.attend(
        build,
        blocks.heads(build, querying, f"{name}.query", block.query, count, config),
        blocks.heads(build, h, f"{name}.key", block.key, tokens, config),
        blocks.heads(build, h, f"{name}.value", block.value, tokens, config),
    )
    mixed = blocks.join_heads(build, mixed, config.width)
    return blocks.finish(build, x, mixed, name, block, config)


def resize_positions(table: Array, height: int, width: int) -> Array:
    """Return a position table (1 + s*s, H) for height x width patches, (1 + height*width, H).

    The class token's row stays; the square grid of the others is resampled as transformers does:
    torch's bicubic interpolation without antialiasing, align_corners=False, edges repeated.
    """
    side = round((len(table) - 1) ** 0.5)
    if (height, width) == (side, side):
        return table
    grid = table[1:].reshape(side, side, -1).astype(np.float64)
    rows, columns = _cubic(side, height), _cubic(side, width)
    grid = np.einsum("yi,xj,ijh->yxh", rows, columns, grid, optimize=True)
    patches = grid.reshape(height * width, -1).astype(np.float32)
    return np.concatenate([table[:1], patches])


def _cubic(source: int, target: int) -> Array:
    """Return the matrix (target, source) of Keys' cubic convolution along one axis."""
    matrix = np.zeros((target, source))
    for i in range(target):
        place = (i + 0.5) * source / target - 0.5
        base = int(np.floor(place))
        for j in range(base - 1, base + 3):
            matrix[i, min(max(j, 0), source - 1)] += _kernel(abs(place - j))
    return matrix


def _kernel(x: float) -> float:
    if x <= 1.0:
        return ((_CUBIC + 2.0) * x - (_CUBIC + 3.0)) * x * x + 1.0
    return ((_CUBIC * x - 5.0 * _CUBIC) * x + 8.0 * _CUBIC) * x - 4.0 * _CUBIC
