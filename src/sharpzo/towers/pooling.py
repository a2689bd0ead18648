"""What image towers make of the tokens that leave the last block: the end of their graphs, where
that is more than the norm of a class token.

A learned query that reads all tokens (SigLIP's head, CoCa's pooler) is a constant of the
checkpoint. `lowmem/pooled_layers.py` computes the same without a graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sharpzo.towers import blocks
from sharpzo.towers.blocks import Pair
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.config import PooledImage
from sharpzo.types import Array

if TYPE_CHECKING:
    from sharpzo.towers.graph import Builder

HEAD = "vision_model.head"


@dataclass(frozen=True, eq=False)
class Reader:
    """Attention of one learned ``query`` (heads, 1, d), scaled already, over all tokens."""

    query: Array
    key: Pair
    value: Pair
    out: Pair

    @property
    def heads(self) -> int:
        """Heads that share the width of keys."""
        return len(self.query)


def write_pooling(build: Builder, checkpoint: Checkpoint, x: str, tokens: int) -> str:
    """Return states (B, S) of rows (B * tokens, H), or, of a tower that is read at its class token
    alone, of that token's (B, H)."""
    config = checkpoint.image
    post = read_post(checkpoint)
    if not isinstance(config, PooledImage) or config.pool == "tok":
        return blocks.norm(build, x, "image.post", post, config.norm_eps)
    if config.pool == "attention":
        key = read_key_norm(checkpoint)
        x = blocks.norm(build, x, "image.head.key_norm", key, config.norm_eps)
        x = write_reader(build, read_coca_reader(checkpoint), x, tokens)
        x = blocks.norm(build, x, "image.post", post, config.norm_eps)
        return build.op("Pad", x, build.constant([0, 0, 0, config.width - config.projection]))
    if not config.normed_mean:
        x = blocks.norm(build, x, "image.post", post, config.norm_eps)
    x = build.reshape(x, [-1, tokens, config.width])
    others = build.op("Slice", x, *(build.constant([one]) for one in (1, tokens, 1)))
    mean = build.op("ReduceMean", others, build.constant([1]), keepdims=0)
    if config.normed_mean:
        return blocks.norm(build, mean, "image.post", post, config.norm_eps)
    return mean


def write_reader(build: Builder, reader: Reader, x: str, tokens: int) -> str:
    """Return what the learned query reads of rows (B * tokens, H): (B, width)."""
    heads, width = reader.heads, len(reader.out[1])

    def by_heads(name: str, pair: Pair) -> str:
        rows = blocks.linear(build, x, f"image.head.{name}", pair)
        rows = build.reshape(rows, [-1, tokens, heads, width // heads])
        return build.op("Transpose", rows, perm=[0, 2, 1, 3])

    mixed = blocks.attend(
        build,
        build.constant(reader.query[None], "image.head.query"),
        by_heads("key", reader.key),
        by_heads("value", reader.value),
    )
    mixed = blocks.join_heads(build, mixed, width)
    return blocks.linear(build, mixed, "image.head.out", reader.out)


def read_post(checkpoint: Checkpoint) -> Pair:
    """Return the norm after the blocks; of CoCa's pooler it is one of what the query reads."""
    config = checkpoint.image
    name = "layernorm" if config.family == "dinov2" else "post_layernorm"
    width = config.projection if config.pool == "attention" else config.width
    return checkpoint.pair(f"vision_model.{name}", width)


def read_key_norm(checkpoint: Checkpoint) -> Pair:
    """Return the norm of what CoCa's pooler reads."""
    return checkpoint.pair(f"{HEAD}.key_norm", checkpoint.image.width)


def read_coca_reader(checkpoint: Checkpoint) -> Reader:
    """Return the first query of CoCa's pooler; the others are its decoder's."""
    config = checkpoint.image
    assert isinstance(config, PooledImage)
    wide = config.projection
    part = {
        name: checkpoint.pair(f"{HEAD}.{name}", wide, width)
        for name, width in (("query", wide), ("key", config.width), ("value", config.width))
    }
    learned = checkpoint.tensor(f"{HEAD}.learned", (1, wide))
    gain, bias = checkpoint.pair(f"{HEAD}.query_norm", wide)
    centred = learned - learned.mean()
    asking = centred / np.sqrt(np.square(centred).mean() + np.float32(config.norm_eps)) * gain
    out = checkpoint.pair(f"{HEAD}.out", wide, wide)
    return _reader(part, (asking + bias)[0], out, config.readers)


def read_siglip_reader(checkpoint: Checkpoint) -> Reader:
    """Return the query of SigLIP's head."""
    m = checkpoint.image.width
    weight = checkpoint.tensor(f"{HEAD}.attention.in_proj_weight", (3 * m, m))
    bias = checkpoint.tensor(f"{HEAD}.attention.in_proj_bias", (3 * m,))
    part = {name: (weight[i * m : (i + 1) * m], bias[i * m : (i + 1) * m])
            for i, name in enumerate(("query", "key", "value"))}  # fmt: skip
    probe = checkpoint.tensor(f"{HEAD}.probe", (1, 1, m)).reshape(m)
    out = checkpoint.pair(f"{HEAD}.attention.out_proj", m, m)
    return _reader(part, probe, out, checkpoint.image.heads)


def _reader(part: dict[str, Pair], learned: Array, out: Pair, heads: int) -> Reader:
    asking = part["query"][0] @ learned + part["query"][1]
    size = len(asking) // heads
    query = (asking / np.float32(size**0.5)).reshape(heads, 1, size)
    return Reader(query, part["key"], part["value"], out)
