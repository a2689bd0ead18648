"""The ResNet image towers of OpenAI's CLIP (RN50, RN101, RN50x4, x16, x64): tensors, and a graph.

Three convolutions and an average pool begin it; a stride is an average pool before a convolution of
stride 1; attention of the mean token over all places ends it. Batch norms are folded into the
convolutions before them. The last projection has a bias, so a state ends in a 1: the bias is that
column of the projection. `lowmem/resnet_layers.py` computes the same without a graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sharpzo.errors import CheckpointError
from sharpzo.towers import blocks
from sharpzo.towers.blocks import Pair
from sharpzo.towers.bottlenecks import NORM, Bottleneck, Convolution, bottlenecks, stem
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.config import ResNetConfig
from sharpzo.types import Array

if TYPE_CHECKING:
    from sharpzo.towers.graph import Builder, Graph

EPS = 1e-5  # of batch norms


def config_of(checkpoint: Checkpoint) -> ResNetConfig:
    """Return the configuration of a checkpoint whose image tower is a ResNet."""
    config: object = checkpoint.image
    assert isinstance(config, ResNetConfig)
    return config


def read_convolution(checkpoint: Checkpoint, one: Convolution) -> tuple[Array, Array, Array]:
    """Return a convolution's weight (out, into, size, size), and the factor and offset (out,) that
    its batch norm puts on what it makes."""
    weight = checkpoint.tensor(
        f"vision_model.{one.name}.weight", (one.out, one.into, one.size, one.size)
    )
    gain, bias, mean, variance = (
        checkpoint.tensor(f"vision_model.{one.norm}.{kind}", (one.out,)).astype(np.float64)
        for kind in NORM
    )
    if not (variance >= 0).all():
        name = checkpoint.weights.called(f"vision_model.{one.norm}.running_var")
        raise CheckpointError(f"{checkpoint.folder}: a variance in {name!r} is below 0; damaged")
    factor = gain / np.sqrt(variance + EPS)
    return weight, factor.astype(np.float32), (bias - mean * factor).astype(np.float32)


def read_attention(checkpoint: Checkpoint) -> tuple[Array, dict[str, Pair]]:
    """Return the positions (1 + places, C) that are added to mean and places, and the layers
    ``query`` (with attention's 1/sqrt(width of a head)), ``key`` and ``value``."""
    config, m = config_of(checkpoint), config_of(checkpoint).channels
    places = checkpoint.tensor(
        "vision_model.attnpool.positional_embedding", (1 + config.side**2, m)
    )
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
    found = {
        part: checkpoint.pair(f"vision_model.attnpool.{name}", m, m) for part, name in names.items()
    }
    return places, found | {"query": blocks.scale_query(found["query"], config.heads)}


def read_projection(checkpoint: Checkpoint) -> Array:
    """Final image projection, float32 (D, S), its bias as the last column."""
    config = config_of(checkpoint)
    weight, bias = checkpoint.pair("visual_projection", config.projection, config.channels)
    return np.concatenate([weight, bias[:, None]], axis=1)


def check_size(config: ResNetConfig, height: int, width: int) -> None:
    """Raise `CheckpointError` for a size of photos that the tower does not take."""
    if (height, width) != (config.image_size, config.image_size):
        raise CheckpointError(
            f"preprocessing makes photos of {height}x{width} pixels, the image tower was made for "
            f"{config.image_size}x{config.image_size}; make the two configurations agree"
        )


def build_resnet(checkpoint: Checkpoint, height: int, width: int) -> Graph:
    """Return the graph; see `image.build_image`. Tokens are the mean of all places and the places,
    with their positions, as attention reads them; they end in a 0, as states end in a 1."""
    from sharpzo.towers.graph import Builder

    config = config_of(checkpoint)
    check_size(config, height, width)
    build, tokens = Builder(), 1 + config.side**2
    x = "pixels"
    for one in stem(config):
        x = _convolve(build, checkpoint, x, one)
    x = _average(build, x, 2)
    for block in bottlenecks(config):
        x = _add_block(build, checkpoint, x, block)
    m = config.channels
    x = build.op("Reshape", x, build.constant([-1, m, config.side**2]))
    mean = build.op("ReduceMean", x, build.constant([2]), keepdims=1)
    x = build.op("Transpose", build.op("Concat", mean, x, axis=2), perm=[0, 2, 1])
    places, layers = read_attention(checkpoint)
    x = build.op("Add", x, build.constant(places, "image.positions"))
    padded = build.op("Pad", x, build.constant([0, 0, 0, 0, 0, 1]), name="tokens")
    share = np.full((2, tokens), 1 / (tokens - 1))
    share[0], share[1, 0] = np.eye(tokens)[0], 0
    build.op("MatMul", build.constant(share, "image.mean"), padded, name="summary")
    mixed = _attend(build, x, layers, config)
    one = build.constant(np.float32(1))
    build.op("Pad", mixed, build.constant([0, 0, 0, 1]), one, name="states")
    return build.finish(
        {"pixels": ("B", 3, height, width)},
        {"tokens": ("B", tokens, m + 1), "summary": ("B", 2, m + 1), "states": ("B", m + 1)},
        "image",
    )


def _convolve(
    build: Builder, checkpoint: Checkpoint, x: str, one: Convolution, active: bool = True
) -> str:
    weight, factor, offset = read_convolution(checkpoint, one)
    weight = build.weight(f"image.{one.name}.weight", weight * factor[:, None, None, None])
    bias = build.weight(f"image.{one.name}.bias", offset)
    edge = one.size // 2
    x = build.op("Conv", x, weight, bias, kernel_shape=[one.size] * 2, pads=[edge] * 4,
                 strides=[one.stride] * 2)  # fmt: skip
    checkpoint.weights.release()
    return build.op("Relu", x) if active else x


def _average(build: Builder, x: str, stride: int) -> str:
    return build.op("AveragePool", x, kernel_shape=[stride] * 2, strides=[stride] * 2)


def _add_block(build: Builder, checkpoint: Checkpoint, x: str, block: Bottleneck) -> str:
    first, second, third = block.convolutions
    h = _convolve(build, checkpoint, _convolve(build, checkpoint, x, first), second)
    if block.stride > 1:
        h = _average(build, h, block.stride)
    h = _convolve(build, checkpoint, h, third, active=False)
    if block.way is not None:
        x = _average(build, x, block.stride) if block.stride > 1 else x
        x = _convolve(build, checkpoint, x, block.way, active=False)
    return build.op("Relu", build.op("Add", h, x))


def _attend(build: Builder, x: str, layers: dict[str, Pair], config: ResNetConfig) -> str:
    """Return what the mean token reads of tokens x (B, T, C), (B, C).

    With one query, keys and values of all tokens need not be made: q (W_k x) = (q W_k) x, where the
    key's bias moves all scores alike, and sum a (W_v x + b) = W_v (sum a x) + b. That is a tenth of
    RN50's products.
    """
    heads, m = config.heads, config.channels
    split = [heads, m // heads, m]
    query = build.op("Gather", x, build.constant(0), axis=1)
    query = blocks.linear(build, query, "image.query", layers["query"])
    query = build.reshape(query, [-1, heads, m // heads])
    key = build.weight("image.key", layers["key"][0].reshape(split))
    query = build.op("MatMul", build.op("Transpose", query, perm=[1, 0, 2]), key)
    query = build.op("Transpose", query, perm=[1, 0, 2])  # (B, heads, C)
    scores = build.op("MatMul", query, build.op("Transpose", x, perm=[0, 2, 1]))
    read = build.op("MatMul", build.op("Softmax", scores, axis=-1), x)
    value = build.weight("image.value", layers["value"][0].reshape(split).transpose(0, 2, 1))
    mixed = build.op("MatMul", build.op("Transpose", read, perm=[1, 0, 2]), value)
    mixed = build.reshape(build.op("Transpose", mixed, perm=[1, 0, 2]), [-1, m])
    return build.op("Add", mixed, build.weight("image.value.bias", layers["value"][1]))
