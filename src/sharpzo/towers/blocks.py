"""The transformer block of both towers: its arrays, and its ONNX nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sharpzo.towers.checkpoint import CLIP_LAYERS, Checkpoint, block_shapes
from sharpzo.towers.config import ImageConfig, TextConfig
from sharpzo.types import Array

if TYPE_CHECKING:
    from sharpzo.towers.graph import Builder

Pair = tuple[Array, Array]  # weight and bias, or gain and bias


@dataclass(frozen=True, eq=False)
class Block:
    """Arrays of one transformer block, matrices (out, in); ``query`` already holds 1/sqrt(d)."""

    norm1: Pair
    query: Pair
    key: Pair
    value: Pair
    out: Pair
    norm2: Pair
    fc1: Pair
    fc2: Pair


def clip_block(checkpoint: Checkpoint, name: str, width: int, mlp_width: int, heads: int) -> Block:
    """Return a block under the names that CLIP's text and vision transformers share."""
    pairs = {
        part: checkpoint.pair(f"{name}.{CLIP_LAYERS[part]}", *shape)
        for part, shape in block_shapes(width, mlp_width).items()
    }
    pairs["query"] = scale_query(pairs["query"], heads)
    return Block(**pairs)


def scale_query(pair: Pair, heads: int) -> Pair:
    """Return the query layer with attention's 1/sqrt(width of a head) folded in."""
    scale = np.float32((len(pair[1]) // heads) ** -0.5)
    return pair[0] * scale, pair[1] * scale


def linear(build: Builder, x: str, name: str, pair: Pair) -> str:
    """Return x @ weight.T + bias for rows x (R, in) -> (R, out)."""
    weight = build.matrix(f"{name}.weight", pair[0], after=x)
    bias = build.weight(f"{name}.bias", pair[1])
    return build.op("Gemm", x, weight, bias, transB=1)


def norm(build: Builder, x: str, name: str, pair: Pair, eps: float) -> str:
    """Return the layer norm of x along its last axis."""
    weight = build.weight(f"{name}.weight", pair[0])
    bias = build.weight(f"{name}.bias", pair[1])
    return build.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)


def activate(build: Builder, x: str, kind: str) -> str:
    """Return the exact Gaussian GELU, its approximation by tanh or CLIP's x * sigmoid(1.702 x)."""
    if kind == "gelu":
        return build.op("Gelu", x)
    if kind == "gelu_pytorch_tanh":
        return build.op("Gelu", x, approximate="tanh")
    gate = build.op("Sigmoid", build.op("Mul", x, build.constant(np.float32(1.702))))
    return build.op("Mul", x, gate)


def normal_distribution(x: Array) -> tuple[Array, Array]:
    """Return the standard normal distribution function and its density, in the dtype of x.

    Abramowitz & Stegun 26.2.17, because NumPy has no erf: absolute error below 7.5e-8.
    """
    number = x.dtype.type
    density = np.square(x)
    density *= number(-0.5)
    np.exp(density, out=density)
    density *= number(0.3989422804014327)
    t = np.abs(x)
    t *= number(0.2316419)
    t += number(1)
    np.reciprocal(t, out=t)
    upper = t * number(1.330274429)
    for factor in (-1.821255978, 1.781477937, -0.356563782, 0.319381530):
        upper += number(factor)
        upper *= t
    upper *= density
    lower = np.greater_equal(x, 0, out=t, casting="unsafe")  # 1 where 1 - upper is the answer
    lower -= upper
    return np.abs(lower, out=lower), density


def finish(
    build: Builder, x: str, mixed: str, name: str, block: Block, config: TextConfig | ImageConfig
) -> str:
    """Return rows x (R, H) after the output projection of what attention mixed, and the MLP."""
    x = build.op("Add", x, linear(build, mixed, f"{name}.out", block.out))
    h = norm(build, x, f"{name}.norm2", block.norm2, config.norm_eps)
    h = activate(build, linear(build, h, f"{name}.fc1", block.fc1), config.activation)
    return build.op("Add", x, linear(build, h, f"{name}.fc2", block.fc2))


def heads(
    build: Builder, rows: str, name: str, pair: Pair, tokens: int, config: TextConfig | ImageConfig
) -> str:
    """Return rows (B * tokens, H) through a layer as (B, heads, tokens, H / heads)."""
    return split_heads(build, linear(build, rows, name, pair), tokens, config)


def split_heads(build: Builder, x: str, tokens: int, config: TextConfig | ImageConfig) -> str:
    """Return rows (B * tokens, H) as (B, heads, tokens, H / heads)."""
    x = build.reshape(x, [-1, tokens, config.heads, config.width // config.heads])
    return build.op("Transpose", x, perm=[0, 2, 1, 3])


def join_heads(build: Builder, x: str, width: int) -> str:
    """Return x (B, heads, tokens, H / heads) as rows (B * tokens, H)."""
    moved = build.op("Transpose", x, perm=[0, 2, 1, 3])
    return build.reshape(moved, [-1, width])


def attend(build: Builder, query: str, key: str, value: str, mask: str = "", rank: int = 4) -> str:
    """Return softmax(query keyᵀ + mask) value over the last two axes; query is scaled already."""
    scores = build.op(
        "MatMul", query, build.op("Transpose", key, perm=[*range(rank - 2), rank - 1, rank - 2])
    )
    if mask:
        scores = build.op("Add", scores, mask)
    return build.op("MatMul", build.op("Softmax", scores, axis=-1), value)


def pick(build: Builder, rows: str, tokens: int, places: Sequence[int] | Array, width: int) -> str:
    """Return some tokens of every sequence: rows (B * tokens, H) -> (B * len(places), H)."""
    x = build.reshape(rows, [-1, tokens, width])
    x = build.op("Gather", x, build.constant(list(places)), axis=1)
    return build.reshape(x, [-1, width])


def repeat(build: Builder, like: str, values: Array, name: str) -> str:
    """Return constant values (...) once for every element of a batch: (B, ...)."""
    batch = build.op("Shape", like, start=0, end=1)
    shape = build.op("Concat", batch, build.constant(list(values.shape)), axis=0)
    return build.op("Expand", build.constant(values[None], name), shape)
