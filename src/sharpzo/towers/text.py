"""The text tower as an ONNX graph: contexts (P, n, m) -> features (P, K, D) for fixed classes.

Five savings, all exact because the tower is causal:

* nothing after EOS is computed, so there is no padding;
* [SOS] sees itself alone: its keys and values are constants of the checkpoint;
* the context comes before the class names: its keys and values are computed once a candidate and
  shared by all classes;
* what enters the first block behind the context is fixed: its queries, keys and values there are
  constants of the class names;
* the feature is read at EOS: in the last block, queries, output and MLP exist only there.
"""

from __future__ import annotations

import os
import numpy as np

from sharpzo.towers import blocks
from sharpzo.towers.blocks import Block
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.graph import Builder, Graph
from sharpzo.towers.packing import Group, Packing, pack
from sharpzo.towers.prompts import Prompts, token_table
from sharpzo.types import Array

# Tokens of an attention tile, measured in experiments/tiles
TILE = int(os.environ.get("TILE", "64"))


def build_text(checkpoint: Checkpoint, prompts: Prompts) -> Graph:
    """Return the graph: input ``context``, outputs ``states`` (P, K, H) and ``features``.

    P is free; K, n and the class names are fixed. States are those after the final norm at EOS,
    features = states @ projection.T, not normalised.
    """
    config, n = checkpoint.text, prompts.n_context
    packing = pack([len(s) for s in prompts.suffixes], n + 1, TILE)
    writer = _Writer(checkpoint, prompts, packing)
    build = writer.build
    for layer in range(config.layers):
        writer.add_block(layer, last=layer == config.layers - 1)
    pair = checkpoint.pair("text_model.final_layer_norm", config.width)
    x = blocks.norm(build, writer.suffix, "text.final", pair, config.norm_eps)
    x = build.op("Reshape", x, build.constant([-1, len(packing.order), config.width]))
    back = np.argsort(packing.order)
    states = build.op("Gather", x, build.constant(back, "text.back"), axis=1, name="states")
    rows = build.op("Reshape", states, build.constant([-1, config.width]))
    projection = checkpoint.tensor("text_projection.weight", (config.projection, config.width))
    rows = build.op("Gemm", rows, build.weight("text.projection", projection), transB=1)
    shape = build.constant([-1, len(back), config.projection])
    build.op("Reshape", rows, shape, name="features")
    return build.finish(
        {"context": ("P", n, config.width)},
        {"states": ("P", len(back), config.width), "features": ("P", len(back), config.projection)},
        "text",
    )


class _Writer:
    """Two streams of rows through the blocks: ``context`` (P * n, H) and ``suffix`` (P * T, H)."""

    def __init__(self, checkpoint: Checkpoint, prompts: Prompts, packing: Packing) -> None:
        self.build = Builder()
        self._checkpoint = checkpoint
        self._packing = packing
        self._n = prompts.n_context
        config = checkpoint.text
        positions = checkpoint.tensor(
            "text_model.embeddings.position_embedding.weight", (config.context_length, config.width)
        )
        suffixes = [prompts.suffixes[k] for k in packing.order]
        ids = np.array([prompts.sos_id, *(token for suffix in suffixes for token in suffix)])
        places = [n for suffix in suffixes for n in range(self._n + 1, self._n + 1 + len(suffix))]
        rows = checkpoint.weights.rows(token_table(checkpoint), ids)
        self._sos = rows[:1] + positions[:1]
        self._words = rows[1:] + positions[places]
        self._tokens = len(places)
        added = self.build.constant(positions[1 : self._n + 1], "text.positions")
        self.context = self._rows(self.build.op("Add", "context", added))
        self.suffix = self._rows(
            blocks.repeat(self.build, "context", self._words, "text.words")
        )

    def add_block(self, layer: int, last: bool) -> None:
        """Move both streams through one block; after the last one, ``suffix`` is (P * K, H)."""
        config, build = self._checkpoint.text, self.build
        name = f"text.{layer}"
        block = blocks.clip_block(
            self._checkpoint, f"text_model.encoder.layers.{layer}", config.width, config.mlp_width,
            config.heads,
        )  # fmt: skip
        key, value = self._sos_key_value(name, block)
        if self._n:
            h = blocks.norm(build, self.context, f"{name}.norm1", block.norm1, config.norm_eps)
            key = build.op("Concat", key, self._heads(h, f"{name}.key", block.key, self._n), axis=2)
            own = self._heads(h, f"{name}.value", block.value, self._n)
            value = build.op("Concat", value, own, axis=2)
            if not last:
                query = self._heads(h, f"{name}.query", block.query, self._n)
                mask = np.where(np.tri(self._n, self._n + 1, 1), np.float32(0), np.float32(-1e30))
                mixed = blocks.attend(build, query, key, value, build.constant(mask, "text.causal"))
                mixed = blocks.join_heads(build, mixed, config.width)
                self.context = self._finish(self.context, mixed, name, block)
        query, own_key, own_value = self._suffix_heads(name, block, layer, last)
        mixed = self._attend(query, own_key, own_value, key, value, last)
        if last:
            self.suffix = blocks.pick(
                build, self.suffix, self._tokens, self._packing.ends, config.width
            )
        self.suffix = self._finish(self.suffix, mixed, name, block)

    def _suffix_heads(
        self, name: str, block: Block, layer: int, last: bool
    ) -> tuple[str, str, str]:
        """Return queries, keys and values (P, heads, T, d); only the queries at EOS if last."""
        config, build, ends = self._checkpoint.text, self.build, self._packing.ends
        if layer == 0:  # nothing of the context has reached these tokens yet
            h = _norm(self._words, block.norm1, config.norm_eps)
            asked = h[ends] if last else h
            parts = ((asked, "query", block.query), (h, "key", block.key), (h, "value", block.value))
            query, key, value = (
                self._fixed(_linear(rows, pair), f"{name}.words.{part}") for rows, part, pair in parts
            )
            return query, key, value
        rows = blocks.norm(build, self.suffix, f"{name}.norm1", block.norm1, config.norm_eps)
        picked, count = rows, self._tokens
        if last:
            picked = blocks.pick(build, rows, self._tokens, ends, config.width)
            count = len(ends)
        return (
            self._heads(picked, f"{name}.query", block.query, count),
            self._heads(rows, f"{name}.key", block.key, self._tokens),
            self._heads(rows, f"{name}.value", block.value, self._tokens),
        )

    def _attend(
        self, query: str, key: str, value: str, shared_key: str, shared_value: str, last: bool
    ) -> str:
        """Return attention of the suffixes over the shared tokens and themselves, rows."""
        build, groups, parts = self.build, self._packing.groups, []
        for i, group in enumerate(groups):
            asked = (group.first_class, group.classes) if last else (group.first_token, group.width)
            whole = len(groups) == 1
            q = self._tiles(query, group, *asked, whole)
            k, v = (
                build.op(
                    "Concat",
                    self._to_tiles(shared, group),
                    self._tiles(x, group, group.first_token, group.width, whole),
                    axis=3,
                )
                for x, shared in ((key, shared_key), (value, shared_value))
            )
            mask = group.mask
            if last:
                mask = np.take_along_axis(mask, group.ends[:, :, None], axis=1)
            mask = build.constant(mask, f"text.mask.{i}.{'last' if last else 'all'}")
            mixed = blocks.attend(build, q, k, v, mask, rank=5)
            shape = [0, 0, group.tiles * asked[1], self._checkpoint.text.width // self._checkpoint.text.heads]
            parts.append(build.op("Reshape", mixed, build.constant(shape)))
        joined = parts[0] if len(parts) == 1 else build.op("Concat", *parts, axis=2)
        return blocks.join_heads(build, joined, self._checkpoint.text.width)

    def _tiles(self, x: str, group: Group, first: int, width: int, whole: bool) -> str:
        """Return a group's stretch of the packed axis, (P, heads, tiles, width, d)."""
        build, config = self.build, self._checkpoint.text
        if not whole:
            stop = first + group.tiles * width
            ends = (build.constant([first]), build.constant([stop]), build.constant([2]))
            x = build.op("Slice", x, *ends)
        shape = [0, config.heads, group.tiles, width, config.width // config.heads]
        return build.op("Reshape", x, build.constant(shape))

    def _to_tiles(self, shared: str, group: Group) -> str:
        """Return shared keys or values (P, heads, n + 1, d) once for every tile of a group."""
        build = self.build
        x = build.op("Unsqueeze", shared, build.constant([2]))
        if group.tiles == 1:
            return x
        return build.op("Expand", x, build.constant([1, 1, group.tiles, 1, 1]))

    def _finish(self, x: str, mixed: str, name: str, block: Block) -> str:
        config, build = self._checkpoint.text, self.build
        x = build.op("Add", x, blocks.linear(build, mixed, f"{name}.out", block.out))
        return blocks.mlp(build, x, name, block, config.activation, config.norm_eps)

    def _sos_key_value(self, name: str, block: Block) -> tuple[str, str]:
        """Return key and value of [SOS] (P, heads, 1, d), and move its own state on."""
        eps = self._checkpoint.text.norm_eps
        h = _norm(self._sos, block.norm1, eps)
        key, value = _linear(h, block.key), _linear(h, block.value)
        # Attention over one token is that token's value.
        self._sos = self._sos + _linear(value, block.out)
        h = _linear(_norm(self._sos, block.norm2, eps), block.fc1)
        h = blocks.activation(h, self._checkpoint.text.activation)
        self._sos = self._sos + _linear(h, block.fc2)
        return self._fixed(key, f"{name}.sos.key"), self._fixed(value, f"{name}.sos.value")

    def _fixed(self, rows: Array, name: str) -> str:
        """Return constant rows (t, H) as (P, heads, t, d)."""
        heads = self._checkpoint.text.heads
        parts = rows.reshape(len(rows), heads, -1).transpose(1, 0, 2)
        return blocks.repeat(self.build, "context", np.ascontiguousarray(parts), name)

    def _heads(self, rows: str, name: str, pair: blocks.Pair, tokens: int) -> str:
        config, build = self._checkpoint.text, self.build
        rows = blocks.linear(build, rows, name, pair)
        return blocks.split_heads(build, rows, tokens, config.heads, config.width)

    def _rows(self, x: str) -> str:
        return self.build.op("Reshape", x, self.build.constant([-1, self._checkpoint.text.width]))


def _linear(x: Array, pair: blocks.Pair) -> Array:
    return x @ pair[0].T + pair[1]


def _norm(x: Array, pair: blocks.Pair, eps: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + eps) * pair[0] + pair[1]
