"""The image tower's last block at the class token, in NumPy, with its gradient in closed form.

Only the class token asks, so per head no keys and no values are made: with n the tokens after
norm1 without its gain g and bias b, q the query of the class token, K and V a head's rows of the
key and the value matrix,

    u = (q K) g,  p = softmax(u n'),  e = (p n) g + b,  mixed = e V'                     (1)
    y = x + mixed O' + o,  z = y + act(norm2(y) F1' + f1) F2' + f2,  state = norm(z)     (2)

The key's bias and what b adds to the scores are the same for all tokens, and softmax ignores them.
The tokens themselves get no gradient, so what `gradient` does is one pass of the chain rule through
(2) and (1) for the weights alone; nothing before the block is touched or needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sharpzo.metrics import softmax
from sharpzo.towers.blocks import normal_distribution
from sharpzo.types import Array, LastBlock

CHUNK = 64  # photos at a time: what is made on the way to their states stays in a few MB
Parts = Mapping[str, tuple[Array, Array]]  # weight or gain, and bias; see `types.LastBlock`


@dataclass(frozen=True, eq=False)
class Seen:
    """Photos before the last block: tokens after norm1 without gain and bias, ``normal``
    (N, T, S), and the class token itself, ``first`` (N, S)."""

    normal: Array
    first: Array

    def __len__(self) -> int:
        return len(self.first)

    @property
    def at_once(self) -> int:
        """Photos that a descent reads at a time."""
        return CHUNK

    @classmethod
    def of(cls, tokens: Array, eps: float) -> Seen:
        """From tokens (N, T, S), class token first."""
        return cls(_normalised(tokens, eps)[0], tokens[:, 0])

    def take(self, rows: slice | Array) -> Seen:
        return Seen(self.normal[rows], self.first[rows])

    def put(self, place: int, seen: Seen) -> None:
        """Keep photos from this place on."""
        rows = slice(place, place + len(seen))
        self.normal[rows], self.first[rows] = seen.normal, seen.first

    def widened(self) -> Seen:
        """Tokens that are kept in half precision as the arithmetic needs them."""
        return Seen(self.normal.astype(self.first.dtype, copy=False), self.first)


class Trace(NamedTuple):
    """States (N, S), and what the gradient reads of the way to them."""

    states: Array
    kept: Mapping[str, Array]


def forward(block: LastBlock, photos: Seen) -> Trace:
    """Equations 1 and 2 for N photos, in the dtype of the block's arrays and the photos."""
    p, (gain, bias) = block.parts, block.parts["norm1"]
    asking = photos.normal[:, 0] * gain + bias
    query = _heads(_linear(asking, p["query"]), block.heads)
    through = _each(query, _rows(p["key"][0], block.heads))
    shares = softmax((through * gain) @ photos.normal.swapaxes(1, 2))
    middle = shares @ photos.normal
    entered = middle * gain + bias
    mixed = _each(entered, _rows(p["value"][0], block.heads).swapaxes(1, 2))
    mixed = mixed.reshape(len(photos), -1) + p["value"][1]
    normal2, spread2 = _normalised(y := photos.first + _linear(mixed, p["out"]), block.eps)
    opened = normal2 * p["norm2"][0] + p["norm2"][1]
    raw = _linear(opened, p["fc1"])
    active, slope = _activate(raw, block.activation)
    normal, spread = _normalised(y + _linear(active, p["fc2"]), block.eps)
    kept = {
        "asking": asking, "query": query, "through": through, "shares": shares, "middle": middle,
        "entered": entered, "mixed": mixed, "normal2": normal2, "spread2": spread2,
        "opened": opened, "active": active, "slope": slope, "normal": normal, "spread": spread,
    }  # fmt: skip
    return Trace(normal * p["norm"][0] + p["norm"][1], kept)


def gradient(block: LastBlock, photos: Seen, trace: Trace, error: Array) -> Parts:
    """From the loss's derivative by the states (N, S), its derivative by every weight and bias.

    All but the key's, which the query's can do as well.
    """
    return dict(slopes(block, photos, trace, error))


def slopes(
    block: LastBlock, photos: Seen, trace: Trace, error: Array
) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """`gradient` part by part: together they are as large as the block."""
    p, k, gain = block.parts, trace.kept, block.parts["norm1"][0]
    yield "norm", ((error * k["normal"]).sum(axis=0), error.sum(axis=0))
    along = _back_through_norm(error * p["norm"][0], k["normal"], k["spread"])  # by z
    yield "fc2", (along.T @ k["active"], along.sum(axis=0))
    raw = along @ p["fc2"][0] * k["slope"]
    yield "fc1", (raw.T @ k["opened"], raw.sum(axis=0))
    opened = raw @ p["fc1"][0]
    yield "norm2", ((opened * k["normal2"]).sum(axis=0), opened.sum(axis=0))
    along = along + _back_through_norm(opened * p["norm2"][0], k["normal2"], k["spread2"])  # by y
    yield "out", (along.T @ k["mixed"], along.sum(axis=0))
    mixed = along @ p["out"][0]
    by_head = _heads(mixed, block.heads)
    outer = by_head.transpose(1, 2, 0) @ k["entered"].swapaxes(0, 1)  # sums over photos, by head
    yield "value", (np.concatenate(outer), mixed.sum(axis=0))
    entered = _each(by_head, _rows(p["value"][0], block.heads))
    shares = (entered * gain) @ photos.normal.swapaxes(1, 2)
    scores = k["shares"] * (shares - (k["shares"] * shares).sum(axis=-1, keepdims=True))
    asked = scores @ photos.normal  # by u
    query = _each(asked * gain, _rows(p["key"][0], block.heads).swapaxes(1, 2))
    query = query.reshape(len(photos), -1)
    yield "query", (query.T @ k["asking"], query.sum(axis=0))
    asking = query @ p["query"][0]
    by_gain = (entered * k["middle"]).sum(axis=(0, 1)) + (asked * k["through"]).sum(axis=(0, 1))
    by_gain += (asking * photos.normal[:, 0]).sum(axis=0)
    yield "norm1", (by_gain, entered.sum(axis=(0, 1)) + asking.sum(axis=0))


def _linear(x: Array, pair: tuple[Array, Array]) -> Array:
    return x @ pair[0].T + pair[1]


def _heads(x: Array, heads: int) -> Array:
    """(N, S) -> (N, heads, S / heads)."""
    return x.reshape(len(x), heads, -1)


def _rows(matrix: Array, heads: int) -> Array:
    """The rows of a matrix (S, S) that belong to each head, (heads, S / heads, S)."""
    return matrix.reshape(heads, -1, matrix.shape[1])


def _each(x: Array, matrices: Array) -> Array:
    """Each head's x (N, heads, a) through its own matrix (heads, a, b): (N, heads, b)."""
    return (x.swapaxes(0, 1) @ matrices).swapaxes(0, 1)


def _normalised(x: Array, eps: float) -> tuple[Array, Array]:
    """Rows of mean 0 and variance 1, and what they were divided by."""
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + x.dtype.type(eps))
    return centred / spread, spread


def _back_through_norm(error: Array, normal: Array, spread: Array) -> Array:
    mean = error.mean(axis=-1, keepdims=True)
    return (error - mean - normal * (error * normal).mean(axis=-1, keepdims=True)) / spread


def _activate(x: Array, kind: str) -> tuple[Array, Array]:
    """x times its gate, and the derivative: the gate is the Gaussian distribution function, or
    sigmoid(1.702 x) as CLIP has it."""
    one = x.dtype.type(1)
    if kind == "gelu":
        gate, density = normal_distribution(x)
        return x * gate, gate + x * density
    gate = one / (one + np.exp(-one.dtype.type(1.702) * x))
    return x * gate, gate * (one + one.dtype.type(1.702) * x * (one - gate))
