"""Blocks of an image transformer in whole numbers: matrices, and what they multiply, in 8 bits.

A matrix has a scale for each output, what it multiplies one for each token, or a fixed one: a photo
does not depend on the others of its batch, and no photos are needed to calibrate. Sums are 32 bits
wide; norms, attention and what is added to a token are float32.

Rounded as they are, DINOv2's tokens lose much: a few channels are far larger than the others and
set the scale for all. Two changes, which are exact but for rounding, mend that:

* Tokens are turned by an orthogonal matrix Q that leaves 1, the vector of ones, where it is. Their
  mean and their variance stay, so a layer norm without gain and bias commutes with Q; gain, bias
  and Q are folded into the matrices around it. Q spreads what was in one channel over all (as
  QuaRot does with RMS norms: Ashkboos et al., 2024). What leaves a norm then looks normally
  distributed, and one step fits all: 8 bits reach `REACH` standard deviations.
* No activation is below -`LEAST`: there the 256 values begin, which makes their step half as wide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sharpzo.towers import blocks
from sharpzo.towers.blocks import Block, Pair
from sharpzo.towers.graph import Builder, Graph, Quantised, compress
from sharpzo.types import Array

if TYPE_CHECKING:
    from sharpzo.towers.config import ImageConfig

REACH = 5.0  # 4.5 to 6 are alike
LEAST = 0.17  # minus the least value of GELU, its approximation and x * sigmoid(1.702 x)
_OURS = "com.microsoft"  # ONNX Runtime's operations beyond the standard


class Rows(NamedTuple):
    """``(values - zero) * step * scale - LEAST * shifted`` stands for rows; ``values`` uint8 and
    ``scale`` (R, 1) are names, the latter "" where one step fits all."""

    values: str
    zero: int
    step: float = 1.0
    scale: str = ""
    shifted: bool = False


@dataclass(frozen=True, eq=False)
class IntegerBlocks:
    """Writes the blocks of a transformer, after `enter` and before `leave`."""

    build: Builder
    config: ImageConfig
    tokens: int

    def enter(self, x: str) -> str:
        """Return rows (R, H) as the blocks take them."""
        turn = np.ascontiguousarray(orthogonal(self.config.width).T)
        return self.build.op("MatMul", x, self.build.weight("image.turn", turn))

    def leave(self, x: str) -> str:
        """Return rows that left the last of the blocks as they are without them."""
        return self.build.op(
            "MatMul", x, self.build.weight("image.back", orthogonal(self.config.width))
        )

    def add(self, x: str, name: str, block: Block) -> str:
        """Return rows after one block."""
        build, config, eps = self.build, self.config, self.config.norm_eps
        block = turned(block, orthogonal(config.width))
        h = normed(build, blocks.norm(build, x, f"{name}.norm1", block.norm1, eps))
        query, key, value = (
            blocks.split_heads(
                build, product(build, h, f"{name}.{part}", pair), self.tokens, config
            )
            for part, pair in (("query", block.query), ("key", block.key), ("value", block.value))
        )
        mixed = blocks.join_heads(build, blocks.attend(build, query, key, value), config.width)
        mixed = product(build, by_row(build, mixed), f"{name}.out", block.out)
        x = build.op("Add", x, mixed)
        h = normed(build, blocks.norm(build, x, f"{name}.norm2", block.norm2, eps))
        h = blocks.activate(build, product(build, h, f"{name}.fc1", block.fc1), config.activation)
        h = product(build, by_row(build, h, activated=True), f"{name}.fc2", block.fc2)
        return build.op("Add", x, h)


@cache
def orthogonal(width: int) -> Array:
    """Return an orthogonal matrix float32 (width, width), always the same, of which the vector of
    ones is an eigenvector.

    >>> bool(np.allclose(orthogonal(6) @ np.ones(6), 1, atol=1e-6))
    True
    """
    random = np.random.default_rng(0)

    def basis() -> Array:
        """Orthonormal columns, the first of equal numbers."""
        first = np.ones((width, 1))
        rest = random.standard_normal((width, width - 1))
        return np.linalg.qr(np.concatenate([first, rest], axis=1)).Q

    return (basis() @ basis().T).astype(np.float32)


def turned(block: Block, turn: Array) -> Block:
    """Return a block for tokens that are turned: the same outputs, turned, of norms alone."""

    def reads(pair: Pair, norm: Pair) -> Pair:
        (weight, bias), (gain, shift) = pair, norm
        return (weight * gain) @ turn.T, bias + weight @ shift

    def writes(pair: Pair) -> Pair:
        return turn @ pair[0], turn @ pair[1]

    alone = np.ones_like(block.norm1[0]), np.zeros_like(block.norm1[1])
    return replace(
        block,
        norm1=alone,
        query=reads(block.query, block.norm1),
        key=reads(block.key, block.norm1),
        value=reads(block.value, block.norm1),
        out=writes(block.out),
        norm2=alone,
        fc1=reads(block.fc1, block.norm2),
        fc2=writes(block.fc2),
    )


def normed(build: Builder, x: str) -> Rows:
    """Return what a norm makes of turned tokens in 8 bits."""
    step = REACH / 127
    return Rows(_quantised(build, x, step, 128), 128, step)


def by_row(build: Builder, x: str, activated: bool = False) -> Rows:
    """Return rows in 8 bits, each as wide as its largest value needs; of what an activation made,
    from `LEAST` below zero on."""
    if activated:
        x = build.op("Add", x, build.constant(np.float32(LEAST)))
    sizes = x if activated else build.op("Abs", x)
    largest = build.op("ReduceMax", sizes, build.constant([-1]), keepdims=1)
    most, zero = (255, 0) if activated else (127, 128)
    scale = build.op("Mul", largest, build.constant(np.float32(1 / most)))
    scale = build.op("Max", scale, build.constant(np.float32(1e-12)))  # rows of zeros
    values = _quantised(build, build.op("Div", x, scale), 1.0, zero)
    return Rows(values, zero, scale=scale, shifted=activated)


def product(build: Builder, rows: Rows, name: str, pair: Pair) -> str:
    """Return rows @ weight.T + bias, float32, by a product of whole numbers."""
    weight, bias = pair
    matrix = compress(np.asarray(weight, np.float32), "int8")
    assert isinstance(matrix, Quantised)
    if rows.shifted:
        bias = bias - LEAST * (matrix.values.sum(axis=1) * matrix.scale)
    added = build.weight(f"{name}.bias", np.asarray(bias, np.float32))
    inputs = [
        rows.values,
        build.weight(f"{name}.weight", matrix.values.T),
        build.constant(np.float32(rows.step)),
        build.weight(f"{name}.scale", matrix.scale),
        build.constant(np.uint8(rows.zero)),
    ]
    if not rows.scale:
        return build.op("MatMulIntegerToFloat", *inputs, "", added, domain=_OURS)
    found = build.op("MatMulIntegerToFloat", *inputs, domain=_OURS)
    return build.op("Add", build.op("Mul", found, rows.scale), added)


def largest_product(width: int = 64) -> Graph:
    """Return a graph ``x`` (N, width) -> ``y`` (N, 1): the sum of x, which are whole numbers up to
    255, times 127. A processor without products of 8 bits may cut sums of two off."""
    build = Builder()
    values = build.op("QuantizeLinear", "x", *map(build.constant, (np.float32(1), np.uint8(0))))
    weight = np.full((1, width), 127, np.float32)
    pair = weight, np.zeros(1, np.float32)
    build.op("Identity", product(build, Rows(values, 0), "image.most", pair), name="y")
    return build.finish({"x": ("N", width)}, {"y": ("N", 1)}, "largest_product")


def _quantised(build: Builder, x: str, step: float, zero: int) -> str:
    inputs = build.constant(np.float32(step)), build.constant(np.uint8(zero))
    return build.op("QuantizeLinear", x, *inputs)
