"""The image tower in plain NumPy, with the weights of one layer in memory at a time.

For the process that encodes photos under a memory limit, where an engine would take more than the
tower itself. The same numbers as the graph of `image.py`, up to rounding.
"""

from __future__ import annotations

import numpy as np

from sharpzo.towers import image
from sharpzo.towers.blocks import Pair, normal_distribution
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.patches import depth, middle, spread
from sharpzo.towers.pooling import read_post
from sharpzo.types import Array

_SLICE = 1 << 14  # numbers that pass an activation at a time: they stay in the processor's cache


class LayeredImage:
    """The image tower for photos of one size; a chunk of them passes one layer after the other.

    The rows of a chunk are in memory twice, and once as wide as the MLP. The number of cores
    is the one that NumPy's matrix products were given when the process started. Where states are
    made of more than the class token, `pooled_layers.py` says how.

    Raises `CheckpointError` for photos of a size that the tower does not take.
    """

    alone = True  # the last block is read at the class token alone
    first = 1  # tokens before those of patches

    def __init__(self, checkpoint: Checkpoint, height: int, width: int) -> None:
        self._checkpoint = checkpoint
        self._patch, self._added = image.read_embedding(checkpoint, height, width)

    def summaries(self, pixels: Array) -> Array:
        """Return float32 (N, 5, S) of one chunk of preprocessed photos (N, 3, h, w), as
        `OnnxImageTower.summaries` does."""
        return self._pass(pixels)[1]

    def trace(self, pixels: Array) -> tuple[Array, Array]:
        """Return the tokens before the last block (N, T, S) as well, and the summaries."""
        return self._pass(pixels, keep=True)

    def _pass(self, pixels: Array, keep: bool = False) -> tuple[Array, Array]:
        config, many, tokens = self._checkpoint.image, len(pixels), len(self._added)
        height, width = pixels.shape[2:]
        places = middle(height // config.patch, width // config.patch, self.first)
        x = self._embed(pixels)
        kept = x[:0]
        found = np.empty((many, 5, config.width), np.float32)
        h = np.empty_like(x)
        wide = np.empty(len(x) * max(3 * config.width, config.mlp_width), np.float32)
        for layer in range(config.layers):
            self._norm(x, layer, "norm1", h)
            query, key, value = wide[: 3 * x.size].reshape(3, *x.shape)
            self._linear(h, layer, "key", key)
            self._linear(h, layer, "value", value)
            rows = x.reshape(many, tokens, -1)
            if layer == depth(config.layers):
                found[:, 3:] = spread(rows[:, places])
            if layer == config.layers - 1:
                found[:, 2] = rows[:, self.first :].mean(axis=1)
                found[:, 1] = rows[:, 0] if self.first else found[:, 2]
                if keep:
                    kept = rows if self.alone else rows.copy()  # the rows of all go on
                if self.alone:
                    x, h, query = x[::tokens].copy(), h[::tokens].copy(), query[:many]
            self._linear(h, layer, "query", query)
            attend(query, key, value, many, config.heads)
            x += self._linear(query, layer, "out", h)
            self._norm(x, layer, "norm2", h)
            hidden = wide[: len(x) * config.mlp_width].reshape(len(x), -1)
            activate(self._linear(h, layer, "fc1", hidden), config.activation)
            x += self._linear(hidden, layer, "fc2", h)
        found[:, 0] = self._pooled(x, many)
        return kept, found

    def _pooled(self, x: Array, many: int) -> Array:
        """Return states (N, S) of the rows that leave the last block, which may be written to."""
        return norm(x, read_post(self._checkpoint), self._checkpoint.image.norm_eps, x)

    def _embed(self, pixels: Array) -> Array:
        """Return the rows (N * tokens, H) that enter the first block."""
        config, p = self._checkpoint.image, self._checkpoint.image.patch
        many, _, height, width = pixels.shape
        rows, columns = height // p, width // p
        x = np.empty((many, *self._added.shape), np.float32)
        x[:] = self._added
        for i, seen in enumerate(pixels[:, :, : rows * p, : columns * p]):
            patches = seen.reshape(3, rows, p, columns, p).transpose(1, 3, 0, 2, 4)
            patches = patches.reshape(rows * columns, -1)
            x[i, self.first :] += linear(patches, self._patch, np.empty_like(x[i, self.first :]))
        self._checkpoint.weights.release()
        x = x.reshape(-1, config.width)
        if (pair := image.read_pre(self._checkpoint)) is not None:
            norm(x, pair, config.norm_eps, x)
        return x

    def _norm(self, x: Array, layer: int, part: str, out: Array) -> None:
        pair = image.read_layer(self._checkpoint, layer, part)
        norm(x, pair, self._checkpoint.image.norm_eps, out)

    def _linear(self, x: Array, layer: int, part: str, out: Array) -> Array:
        linear(x, image.read_layer(self._checkpoint, layer, part), out)
        self._checkpoint.weights.release()
        return out


def layered_bytes(checkpoint: Checkpoint, height: int, width: int, chunk: int) -> int:
    """Return the bytes that `LayeredImage` takes with ``chunk`` photos at a time."""
    config = checkpoint.image
    tokens = 1 + (height // config.patch) * (width // config.patch)
    rows = 4 * tokens * (2 * config.width + max(3 * config.width, config.mlp_width))
    matrix = 4 * config.width * max(config.mlp_width, 3 * config.patch**2)
    if checkpoint.weights.converted or config.family != "clip":  # scaled, or made float32
        matrix *= 2
    return matrix + 8 * tokens * tokens + chunk * rows


def linear(x: Array, pair: Pair, out: Array) -> Array:
    """Write x @ weight.T + bias for rows x (R, in) into ``out`` (R, out) and return it."""
    np.matmul(x, pair[0].T, out=out)
    out += pair[1]
    return out


def norm(x: Array, pair: Pair, eps: float, out: Array) -> Array:
    """Write the layer norm of rows x (R, H) into ``out``, which may be x, and return it."""
    np.subtract(x, x.mean(axis=1, keepdims=True), out=out)
    variance = np.einsum("ij,ij->i", out, out)[:, None] / np.float32(x.shape[1])
    out /= np.sqrt(variance + np.float32(eps))
    out *= pair[0]
    out += pair[1]
    return out


def attend(query: Array, key: Array, value: Array, photos: int, heads: int) -> None:
    """Put what they read in place of queries: rows (photos * q, H) of scaled queries, keys and
    values (photos * tokens, H); a head at a time, so scores take tokens * tokens numbers."""
    width = query.shape[1] // heads
    query = query.reshape(photos, -1, heads, width)
    key = key.reshape(photos, -1, heads, width)
    value = value.reshape(photos, -1, heads, width)
    for photo in range(photos):
        for head in range(heads):
            own = query[photo, :, head]
            scores = own @ key[photo, :, head].T
            scores -= scores.max(axis=1, keepdims=True)
            np.exp(scores, out=scores)
            np.matmul(scores, value[photo, :, head], out=own)
            own /= scores.sum(axis=1, keepdims=True)


def activate(x: Array, kind: str) -> None:
    """Put the exact Gaussian GELU, its approximation by tanh, or CLIP's x * sigmoid(1.702 x), in
    place of x (contiguous)."""
    numbers = x.reshape(-1)
    for begin in range(0, len(numbers), _SLICE):
        part = numbers[begin : begin + _SLICE]
        if kind == "gelu":
            part *= normal_distribution(part)[0]
            continue
        if kind == "gelu_pytorch_tanh":
            gate = np.square(part)
            gate *= np.float32(0.044715)
            gate += np.float32(1)
            gate *= part
            gate *= np.float32((2 / np.pi) ** 0.5)
            np.tanh(gate, out=gate)
            gate += np.float32(1)
            gate *= np.float32(0.5)
            part *= gate
            continue
        with np.errstate(over="ignore"):  # x / infinity is the 0 that is wanted
            gate = np.exp(part * np.float32(-1.702))
        gate += np.float32(1)
        part /= gate
