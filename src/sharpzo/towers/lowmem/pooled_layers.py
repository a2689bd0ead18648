"""Image towers whose states are made of all tokens, layer by layer; `pooling.py` has their ends."""

from __future__ import annotations

import numpy as np

from sharpzo.towers import siglip_image
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.config import PooledImage
from sharpzo.towers.lowmem.layers import LayeredImage, activate, linear, norm
from sharpzo.towers.pooling import (
    Reader,
    read_coca_reader,
    read_key_norm,
    read_post,
    read_siglip_reader,
)
from sharpzo.types import Array


class LayeredPooled(LayeredImage):
    """A vision transformer of OpenCLIP with other options than CLIP's."""

    def __init__(self, checkpoint: Checkpoint, height: int, width: int) -> None:
        super().__init__(checkpoint, height, width)
        assert isinstance(checkpoint.image, PooledImage)
        self._config = checkpoint.image
        self.alone = self._config.pool == "tok"

    def _pooled(self, x: Array, many: int) -> Array:
        config, checkpoint = self._config, self._checkpoint
        if config.pool == "tok":
            return super()._pooled(x, many)
        if config.pool == "attention":
            norm(x, read_key_norm(checkpoint), config.norm_eps, x)
            read = read_all(x, read_coca_reader(checkpoint), many)
            checkpoint.weights.release()
            norm(read, read_post(checkpoint), config.norm_eps, read)
            return np.pad(read, ((0, 0), (0, config.width - config.projection)))
        if not config.normed_mean:
            super()._pooled(x, many)
        mean = x.reshape(many, -1, config.width)[:, 1:].mean(axis=1)
        return super()._pooled(mean, many) if config.normed_mean else mean


class LayeredSiglip(LayeredImage):
    """The image tower of SigLIP and SigLIP 2."""

    alone, first = False, 0

    def __init__(self, checkpoint: Checkpoint, height: int, width: int) -> None:
        self._checkpoint = checkpoint
        self._patch, self._added = siglip_image.read_embedding(checkpoint, height, width)

    def _pooled(self, x: Array, many: int) -> Array:
        config, checkpoint = self._checkpoint.image, self._checkpoint
        super()._pooled(x, many)
        y = read_all(x, read_siglip_reader(checkpoint), many)
        checkpoint.weights.release()
        h = norm(y, siglip_image.read_head_norm(checkpoint), config.norm_eps, np.empty_like(y))
        first, second = siglip_image.read_head_mlp(checkpoint)
        hidden = linear(h, first, np.empty((many, config.mlp_width), np.float32))
        activate(hidden, config.activation)
        y += linear(hidden, second, h)
        checkpoint.weights.release()
        return y


def read_all(x: Array, reader: Reader, many: int) -> Array:
    """Return what a learned query reads of rows (many * tokens, H): (many, width)."""
    heads, width = reader.heads, len(reader.out[1])
    mixed = np.empty((many, width), np.float32)
    for photo, rows in enumerate(np.split(x, many)):
        key, value = (
            linear(rows, pair, np.empty((len(rows), width), np.float32)).reshape(
                len(rows), heads, -1
            )
            for pair in (reader.key, reader.value)
        )
        scores = np.einsum("hd,thd->ht", reader.query[:, 0], key)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        mixed[photo] = np.einsum("ht,thd->hd", scores, value).ravel()
    return linear(mixed, reader.out, np.empty_like(mixed))
