"""Pieces of a transformer as ONNX nodes, shared by the text and the image graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sharpzo.towers.graph import Builder
from sharpzo.types import Array


@dataclass(frozen=True, eq=False)
class Block:
    """Arrays of one transformer block, matrices (out, in); ``query`` already holds 1/sqrt(d)."""

    norm1: tuple[Array, Array]
    query: tuple[Array, Array]
    key: tuple[Array, Array]
    value: tuple[Array, Array]
    out: tuple[Array, Array]
    norm2: tuple[Array, Array]
    fc1: tuple[Array, Array]
    fc2: tuple[Array, Array]


def linear(build: Builder, x: str, name: str, pair: tuple[Array, Array]) -> str:
    """Return x @ weight.T + bias for rows x (R, in) -> (R, out)."""
    weight = build.weight(f"{name}.weight", pair[0])
    bias = build.weight(f"{name}.bias", pair[1])
    return build.op("Gemm", x, weight, bias, transB=1)


def norm(build: Builder, x: str, name: str, pair: tuple[Array, Array], eps: float) -> str:
    """Return the layer norm of x along its last axis."""
    weight = build.weight(f"{name}.weight", pair[0])
    bias = build.weight(f"{name}.bias", pair[1])
    return build.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)


def activate(build: Builder, x: str, kind: str) -> str:
    """Return the exact Gaussian GELU or CLIP's x * sigmoid(1.702 x)."""
    if kind == "gelu":
        return build.op("Gelu", x)
    gate = build.op("Sigmoid", build.op("Mul", x, build.constant(np.float32(1.702))))
    return build.op("Mul", x, gate)


def mlp(build: Builder, x: str, name: str, block: Block, kind: str, eps: float) -> str:
    """Return x + fc2(activation(fc1(norm2(x)))) for rows x (R, H)."""
    h = norm(build, x, f"{name}.norm2", block.norm2, eps)
    h = activate(build, linear(build, h, f"{name}.fc1", block.fc1), kind)
    return build.op("Add", x, linear(build, h, f"{name}.fc2", block.fc2))


def split_heads(build: Builder, rows: str, tokens: int, heads: int, width: int) -> str:
    """Return rows (B * tokens, H) as (B, heads, tokens, H / heads)."""
    shape = build.constant([-1, tokens, heads, width // heads])
    return build.op("Transpose", build.op("Reshape", rows, shape), perm=[0, 2, 1, 3])


def join_heads(build: Builder, x: str, width: int) -> str:
    """Return x (B, heads, tokens, H / heads) as rows (B * tokens, H)."""
    moved = build.op("Transpose", x, perm=[0, 2, 1, 3])
    return build.op("Reshape", moved, build.constant([-1, width]))


def attend(build: Builder, query: str, key: str, value: str, mask: Array | None = None) -> str:
    """Return softmax(query keyᵀ + mask) value over the last two axes; query is scaled already."""
    scores = build.op("MatMul", query, build.op("Transpose", key, perm=[0, 1, 3, 2]))
    if mask is not None:
        scores = build.op("Add", scores, build.constant(mask))
    return build.op("MatMul", build.op("Softmax", scores, axis=-1), value)
