"""The text tower with forward-mode derivatives: context and directions -> features and derivatives.

No graph of its own: `TangentBuilder` watches the nodes that `text.py` writes and, behind each node
that the context can reach, writes the nodes of its directional derivative. So every saving of the
text graph is one of the tangents too: what is constant there (the prefix, the words in the first
block) has no tangent at all, and what is left out there (padding, all but EOS in the last block)
is left out here.

The primal has a batch of one, tangents have a batch of p; the nodes of the primal run once for all
directions. Nothing is kept for a way back, so memory grows with p and not with depth: at the end of
a block the primal waits for its tangent (`settle`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

import numpy as np

from sharpzo.errors import EngineError, InputError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.graph import Builder, Graph
from sharpzo.towers.prompts import Prompts
from sharpzo.towers.text import write_text
from sharpzo.types import Precision


def build_tangent(
    checkpoint: Checkpoint, prompts: Prompts, precision: Precision = "float32"
) -> Graph:
    """Return the graph: inputs ``context`` (1, n, m) and ``directions`` (p, n, m), outputs
    ``features`` (1, K, D) and ``derivatives`` (p, K, D); ``states`` (1, K, H) and
    ``state_derivatives`` (p, K, H) besides.

    p is free. Raises `CheckpointError` for a bidirectional tower and `InputError` if there are no
    context tokens.
    """
    config, n, k = checkpoint.text, prompts.vectors, len(prompts.suffixes)
    check_moves(prompts)
    build = TangentBuilder({"context": "directions"}, precision)
    write_text(build, checkpoint, prompts)
    build.name_tangent("states", "state_derivatives")
    build.name_tangent("features", "derivatives")
    return build.finish(
        {"context": (1, n, config.width), "directions": ("p", n, config.width)},
        {
            "states": (1, k, config.width),
            "features": (1, k, config.projection),
            "state_derivatives": ("p", k, config.width),
            "derivatives": ("p", k, config.projection),
        },
        "text-tangent",
    )


def check_moves(prompts: Prompts) -> None:
    """Raise `InputError` if there is nothing to differentiate by."""
    if not prompts.vectors:
        raise InputError(
            "there are 0 context tokens, so nothing to differentiate by; give a template with "
            "words before the class name, or n_context of 1 or more"
        )


@dataclass(frozen=True)
class _Node:
    """A node of the primal, by its kind and the names of its values."""

    kind: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class _Tangent:
    """factor * base: ``base`` has the batch p, ``factor`` the shape of the primal.

    A chain of elementwise functions changes the factor alone, once for all directions.
    """

    base: str
    factor: str = ""


class TangentBuilder(Builder):
    """A builder that follows every value which depends on ``moving`` inputs by its tangent, in
    ``tangents``.

    ``moving`` names inputs and the inputs that are their tangents, the first of which has p as an
    axis of its own. The rules ask of the graph that batches are the first axis, and the primal's is
    1: a tangent has the shape of its value but for p in place of 1 (p * T rows in place of T).
    """

    def __init__(self, moving: Mapping[str, str], precision: Precision = "float32") -> None:
        super().__init__(precision)
        self._directions = next(iter(moving.values()))
        self.tangents = {value: _Tangent(tangent) for value, tangent in moving.items()}

    def ops(
        self, kind: str, *inputs: str, names: Sequence[str], **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node and, if an input has a tangent, the nodes of its own.

        Raises `EngineError` for a kind of node without a rule.
        """
        moving = kind != "Shape" and any(x in self.tangents for x in inputs)
        if moving and kind == "LayerNormalization":
            names = (names[0], "", "")  # mean and 1 / deviation: the rule needs them
        outputs = super().ops(kind, *inputs, names=names, **attributes)
        if moving:
            if kind not in _RULES:
                raise EngineError(f"there is no rule for the derivative of {kind}")
            node = _Node(kind, inputs, outputs, attributes)
            self.tangents[outputs[0]] = _RULES[kind](self, node)
        return outputs

    def settle(self, value: str) -> str:
        """Return a value that is known only once its tangent is.

        ONNX Runtime would else run the primal of all blocks first, and hold what their tangents
        read: ViT-B/16's size, 300 classes, four directions: 740 MB instead of 244.
        """
        tangent = self.tangent(value)
        nothing = self.node("Shape", tangent, start=0, end=0)
        shape = self.node("Concat", nothing, self.node("Shape", value), axis=0)
        settled = self.node("Reshape", value, shape)
        self.tangents[settled] = self.tangents[value]
        return settled

    def name_tangent(self, value: str, name: str) -> None:
        """Make the tangent of a value an output called ``name``."""
        self.node("Identity", self.tangent(value), name=name)

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node that is no part of the primal and is followed by nothing."""
        return super().ops(kind, *inputs, names=(name,), **attributes)[0]

    def tangent(self, value: str) -> str:
        """Return the tangent of a value, multiplied out."""
        kept = self.tangents[value]
        if kept.factor:
            product = self.node("Mul", self.spread(kept.base, value), kept.factor)
            self.tangents[value] = kept = _Tangent(self.gather(product, value))
        return kept.base

    def scaled(self, value: str, slope: str) -> _Tangent:
        """Return the tangent of a value times a slope of the primal's shape, not multiplied out."""
        kept = self.tangents[value]
        return _Tangent(kept.base, self.node("Mul", kept.factor, slope) if kept.factor else slope)

    def sum(self, terms: Sequence[str]) -> str:
        """Return the sum of one or two values."""
        return terms[0] if len(terms) == 1 else self.node("Add", *terms)

    def zeros(self, value: str) -> str:
        """Return the tangent of a value that has none."""
        batch = self.node("Shape", self._directions, start=0, end=1)
        shape = self.node("Concat", batch, self.node("Shape", value, start=1), axis=0)
        return self.node("Expand", self.constant(np.float32(0)), shape)

    def spread(self, tangent: str, value: str) -> str:
        """Return a tangent with p as an axis of its own: (p, *shape of the value)."""
        return self.node("Reshape", tangent, self._shape(value, 0))

    def gather(self, tangent: str, value: str) -> str:
        """Undo `spread`: p goes back into the first axis."""
        return self.node("Reshape", tangent, self._shape(value, 1))

    def _shape(self, value: str, start: int) -> str:
        shape = self.node("Shape", value, start=start)
        return self.node("Concat", self.constant([-1]), shape, axis=0)


Rule = Callable[[TangentBuilder, _Node], _Tangent]


def _structural(build: TangentBuilder, node: _Node) -> _Tangent:
    """The same node on the tangent: it only moves numbers, whatever the batch."""
    moved, others = build.tangent(node.inputs[0]), node.inputs[1:]
    return _Tangent(build.node(node.kind, moved, *others, **node.attributes))


def _gemm(build: TangentBuilder, node: _Node) -> _Tangent:
    moved = build.tangent(node.inputs[0])
    return _Tangent(build.node("Gemm", moved, node.inputs[1], **node.attributes))  # without bias


def _add(build: TangentBuilder, node: _Node) -> _Tangent:
    return _Tangent(build.sum([build.tangent(x) for x in node.inputs if x in build.tangents]))


def _concat(build: TangentBuilder, node: _Node) -> _Tangent:
    parts = [build.tangent(x) if x in build.tangents else build.zeros(x) for x in node.inputs]
    return _Tangent(build.node("Concat", *parts, **node.attributes))


def _matmul(build: TangentBuilder, node: _Node) -> _Tangent:
    left, right = node.inputs
    parts = []
    if left in build.tangents:
        parts.append(build.node("MatMul", build.tangent(left), right))
    if right in build.tangents:
        parts.append(build.node("MatMul", left, build.tangent(right)))
    return _Tangent(build.sum(parts))


def _softmax(build: TangentBuilder, node: _Node) -> _Tangent:
    """w (ds - sum w ds); where a mask makes w zero, ds does not matter."""
    weights, axis = node.outputs[0], build.constant([-1])
    moved = build.node("Mul", weights, build.tangent(node.inputs[0]))
    total = build.node("ReduceSum", moved, axis, keepdims=1)
    return _Tangent(build.node("Sub", moved, build.node("Mul", weights, total)))


def _layer_norm(build: TangentBuilder, node: _Node) -> _Tangent:
    """gain / deviation * (dx - mean dx - z mean(z dx)) with z = (x - mean x) / deviation."""
    x, gain = node.inputs[:2]
    _, mean, inverse = node.outputs
    z = build.node("Mul", build.node("Sub", x, mean), inverse)
    scale = build.node("Mul", inverse, gain)
    turn = build.node("Mul", z, scale)
    dx, axis = build.spread(build.tangent(x), x), build.constant([-1])
    centred = build.node("Sub", dx, build.node("ReduceMean", dx, axis, keepdims=1))
    along = build.node("ReduceMean", build.node("Mul", dx, z), axis, keepdims=1)
    left = build.node("Mul", centred, scale)
    return _Tangent(build.gather(build.node("Sub", left, build.node("Mul", along, turn)), x))


def _gelu(build: TangentBuilder, node: _Node) -> _Tangent:
    """Phi(x) + x phi(x) of the normal distribution, times dx."""
    if node.attributes.get("approximate") == "tanh":
        return _gelu_tanh(build, node)
    x = node.inputs[0]

    def times(left: str, right: float) -> str:
        return build.node("Mul", left, build.constant(np.float32(right)))

    half = build.constant(np.float32(0.5))
    below = build.node("Add", times(build.node("Erf", times(x, 1 / sqrt(2))), 0.5), half)
    bell = build.node("Exp", times(build.node("Mul", x, x), -0.5))
    slope = build.node("Add", below, build.node("Mul", times(x, 1 / sqrt(2 * pi)), bell))
    return build.scaled(x, slope)


def _gelu_tanh(build: TangentBuilder, node: _Node) -> _Tangent:
    """(1 + t) / 2 + x (1 - t^2) u' / 2 with t = tanh u, u = a (x + c x^3), times dx."""
    x = node.inputs[0]

    def plus(left: str, right: float) -> str:
        return build.node("Add", left, build.constant(np.float32(right)))

    def times(left: str, right: float | str) -> str:
        other = right if isinstance(right, str) else build.constant(np.float32(right))
        return build.node("Mul", left, other)

    a, c = sqrt(2 / pi), 0.044715
    square = times(x, x)
    t = build.node("Tanh", times(x, plus(times(square, a * c), a)))
    rising = plus(times(square, 3 * a * c / 2), a / 2)
    falling = build.node("Sub", build.constant(np.float32(1)), times(t, t))
    slope = build.node("Add", plus(times(t, 0.5), 0.5), times(times(x, falling), rising))
    return build.scaled(x, slope)


def _sigmoid(build: TangentBuilder, node: _Node) -> _Tangent:
    """y (1 - y) dx of y = sigmoid(x)."""
    y = node.outputs[0]
    slope = build.node("Mul", y, build.node("Sub", build.constant(np.float32(1)), y))
    return build.scaled(node.inputs[0], slope)


def _mul(build: TangentBuilder, node: _Node) -> _Tangent:
    """The product rule for factors whose tangents have one base, as in x * sigmoid(c x)."""
    base, terms = "", []
    for x, other in (node.inputs, tuple(reversed(node.inputs))):
        if x in build.tangents:
            kept = build.tangents[x]
            if base not in ("", kept.base):
                raise EngineError("there is no rule for a product of two independent tangents")
            base = kept.base
            terms.append(build.node("Mul", kept.factor, other) if kept.factor else other)
    return _Tangent(base, build.sum(terms))


_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("Expand", "Gather", "Reshape", "Slice", "Transpose", "Unsqueeze"), _structural
    ),
    "Add": _add,
    "Concat": _concat,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "Mul": _mul,
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
}
