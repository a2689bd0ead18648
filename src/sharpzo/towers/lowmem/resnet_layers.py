"""The ResNet image tower in plain NumPy, with the weights of one layer in memory at a time.

Rows are places, columns channels. The same numbers as the graph of `resnet.py`, up to rounding.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sharpzo.towers import resnet
from sharpzo.towers.bottlenecks import Bottleneck, Convolution, bottlenecks, stem
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.types import Array

_BAND = 1 << 19  # numbers of patches that are in memory at a time


class LayeredResNet:
    """The image tower for photos of one size; a chunk of them passes one layer after the other.

    Raises `CheckpointError` for photos of a size that the tower does not take.
    """

    def __init__(self, checkpoint: Checkpoint, height: int, width: int) -> None:
        self._config = resnet.config_of(checkpoint)
        resnet.check_size(self._config, height, width)
        self._checkpoint = checkpoint

    def summaries(self, pixels: Array) -> Array:
        """Return float32 (N, 3, S) of one chunk of preprocessed photos (N, 3, h, w), as
        `OnnxImageTower.summaries` does."""
        return self.trace(pixels)[1]

    def trace(self, pixels: Array) -> tuple[Array, Array]:
        """Return what attention reads (N, 1 + places, S) as well, and the summaries."""
        x = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
        for one in stem(self._config):
            x = activate(self._convolve(x, one))
        x = average(x, 2)
        for block in bottlenecks(self._config):
            x = self._add_block(x, block)
        many, m = len(x), self._config.channels
        x = x.reshape(many, -1, m)
        places, layers = resnet.read_attention(self._checkpoint)
        x = np.concatenate([x.mean(axis=1, keepdims=True), x], axis=1) + places
        found = np.zeros((many, 3, m + 1), np.float32)
        found[:, 1, :m], found[:, 2, :m] = x[:, 0], x[:, 1:].mean(axis=1)
        found[:, 0, :m], found[:, 0, m] = self._attend(x, layers), 1
        return np.pad(x, ((0, 0), (0, 0), (0, 1))), found

    def _add_block(self, x: Array, block: Bottleneck) -> Array:
        first, second, third = block.convolutions
        h = activate(self._convolve(activate(self._convolve(x, first)), second))
        if block.stride > 1:
            h, x = average(h, block.stride), average(x, block.stride)
        h = self._convolve(h, third)
        h += x if block.way is None else self._convolve(x, block.way)
        return activate(h)

    def _convolve(self, x: Array, one: Convolution) -> Array:
        """Return photos (N, h, w, into) after a convolution and its norm, (N, h', w', out)."""
        weight, factor, offset = resnet.read_convolution(self._checkpoint, one)
        matrix = weight.reshape(one.out, -1).T
        many, side, s = len(x), x.shape[1] // one.stride, one.stride
        found = np.empty((many, side, side, one.out), np.float32)
        if one.size == 1:
            np.matmul(x.reshape(-1, one.into), matrix, out=found.reshape(-1, one.out))
        else:
            edge, wide = one.size // 2, one.into * one.size**2
            band = max(1, _BAND // (wide * side))
            for photo, out in zip(x, found, strict=True):
                padded = np.pad(photo, ((edge, edge), (edge, edge), (0, 0)))
                windows = sliding_window_view(padded, (one.size, one.size), axis=(0, 1))
                windows = windows[::s, ::s]  # (h', w', into, size, size)
                for top in range(0, side, band):
                    rows = windows[top : top + band].reshape(-1, wide)
                    np.matmul(rows, matrix, out=out[top : top + band].reshape(-1, one.out))
        found *= factor
        found += offset
        self._checkpoint.weights.release()
        return found

    def _attend(self, x: Array, layers: dict[str, resnet.Pair]) -> Array:
        """Return what the mean token reads of tokens (N, T, C); see `resnet.build_resnet`."""
        many, heads, m = len(x), self._config.heads, x.shape[2]
        query = (x[:, 0] @ layers["query"][0].T + layers["query"][1]).reshape(many, heads, -1)
        key, value = (layers[name][0].reshape(heads, -1, m) for name in ("key", "value"))
        scores = np.einsum("nhd,hdm->nhm", query, key, optimize=True) @ x.transpose(0, 2, 1)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        read = (scores / scores.sum(axis=-1, keepdims=True)) @ x
        mixed = np.einsum("nhm,hdm->nhd", read, value, optimize=True).reshape(many, m)
        self._checkpoint.weights.release()
        return mixed + layers["value"][1]


def activate(x: Array) -> Array:
    """Put max(x, 0) in place of x and return it."""
    return np.maximum(x, 0, out=x)


def average(x: Array, stride: int) -> Array:
    """Return photos (N, h, w, C) averaged over squares of so many places a side."""
    many, height, width, channels = x.shape
    parts = x.reshape(many, height // stride, stride, width // stride, stride, channels)
    return parts.mean(axis=(2, 4))


def layered_bytes(checkpoint: Checkpoint, height: int, width: int, chunk: int) -> int:
    """Return the bytes that `LayeredResNet` takes with ``chunk`` photos at a time."""
    config = resnet.config_of(checkpoint)
    # The stem's last output and what it reads, or a first block's: its input, its identity after a
    # convolution, its output.
    places = height * width // 4
    photo = 4 * max(places * 2 * config.stem, places // 4 * config.stem * 14)
    photo = max(photo, 4 * 3 * height * width * 2)
    matrix = 4 * 3 * config.channels**2  # query, key and value of attention
    if checkpoint.weights.converted:
        matrix *= 2
    return matrix + 4 * 4 * _BAND + chunk * photo
