"""The text tower as an ONNX graph: contexts (P, n, m) -> features (P, K, D) for fixed classes.

Five savings, all exact because the tower is causal:

* nothing after EOS is computed, so there is no padding;
* [SOS] attends to itself alone: its keys and values are constants of the checkpoint;
* the context comes before the class names: its keys and values are computed once per candidate and
  shared by all classes;
* what enters the first block behind the context is fixed: its queries, keys and values there are
  constants of the class names;
* the feature is read at EOS: in the last block, queries, output and MLP exist only there.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import erf
from typing import TYPE_CHECKING

import numpy as np

from sharpzo.errors import CheckpointError
from sharpzo.towers import blocks
from sharpzo.towers.blocks import Block, Pair
from sharpzo.towers.checkpoint import CLIP_LAYERS, Checkpoint, block_shapes
from sharpzo.towers.packing import MASKED, Chunk, Group, Packing, pack
from sharpzo.towers.prompts import Prompts, token_table
from sharpzo.types import Array, Precision

if TYPE_CHECKING:
    from sharpzo.towers.graph import Builder, Graph

_POSITIONS = "text_model.embeddings.position_embedding.weight"
_CLASS = "text_model.embeddings.class_embedding"
_erf = np.vectorize(erf, otypes=[np.float64])
# Tokens of an attention tile. On two AVX2 cores 16, 32 and 64 were equal within noise (100 classes,
# width 256); 1 cost 20 % more and 128 cost 15 % more.
TILE = 32
# Tokens of a candidate that pass a block together. ONNX Runtime's matrix products take rows all at
# once, so activations of more rows leave the second-level cache (512 KB here). Measured at
# ViT-B/16's size with 1,000 classes (5,500 tokens): 512 is 1.2 times as fast as all at once, in a
# sixth of the memory; 256 is no faster, and compiles longer (benchmarks/class_chunks.py).
CHUNK = 512


def build_text(checkpoint: Checkpoint, prompts: Prompts, precision: Precision = "float32") -> Graph:
    """Return the graph: input ``context``, outputs ``states`` (P, K, H) and ``features``.

    P is free; n, K and the class names are fixed. States are those after the final norm at EOS;
    features = states @ projection.T, not normalised. The blocks' matrices are kept in
    ``precision``; what is folded into constants and the projection stay float32. Raises
    `CheckpointError` for a tower that is not causal: every saving above would be wrong there.
    """
    from sharpzo.towers.graph import Builder

    config, k = checkpoint.text, len(prompts.suffixes)
    build = Builder(precision)
    write_text(build, checkpoint, prompts)
    return build.finish(
        {"context": ("P", prompts.vectors, config.width)},
        {"states": ("P", k, config.width), "features": ("P", k, config.projection)},
        "text",
    )


def write_text(build: Builder, checkpoint: Checkpoint, prompts: Prompts) -> None:
    """Write the nodes from ``context`` to ``states`` and ``features``; see `build_text`."""
    config = checkpoint.text
    writer = TextWriter(build, checkpoint, prompts)
    for layer in range(config.layers):
        block = read_block(checkpoint, layer)
        writer.add_block(f"text.{layer}", block, layer == 0, layer == config.layers - 1)
    writer.add_features()


def check_text(checkpoint: Checkpoint) -> None:
    """Raise `CheckpointError` for what is missing of the text tower; nothing is read."""
    width = checkpoint.text.width
    wanted = {
        f"encoder.layers.{layer}.{CLIP_LAYERS[part]}": shape
        for layer in range(checkpoint.text.layers)
        for part, shape in block_shapes(width, checkpoint.text.mlp_width).items()
    }
    for name, shape in {"final_layer_norm": (width,), **wanted}.items():
        checkpoint.find(f"text_model.{name}.weight", shape)
        checkpoint.find(f"text_model.{name}.bias", shape[:1])
    positions = (checkpoint.text.context_length + checkpoint.text.appended, width)
    checkpoint.find(_POSITIONS, positions)
    if checkpoint.text.appended:
        checkpoint.find(_CLASS, (width,))


def read_positions(checkpoint: Checkpoint) -> Array:
    """Return the table of positions, float32 (T, H)."""
    config = checkpoint.text
    return checkpoint.tensor(_POSITIONS, (config.context_length + config.appended, config.width))


def read_projection(checkpoint: Checkpoint) -> Array:
    """Final text projection, float32 (D, H): features = states @ projection.T."""
    shape = (checkpoint.text.projection, checkpoint.text.width)
    return checkpoint.tensor("text_projection.weight", shape)


def read_block(checkpoint: Checkpoint, layer: int) -> Block:
    """Return the arrays of one block."""
    config, name = checkpoint.text, f"text_model.encoder.layers.{layer}"
    return blocks.clip_block(checkpoint, name, config.width, config.mlp_width, config.heads)


class TextWriter:
    """Two streams of rows through the blocks: ``context`` (P * n, H) and ``suffix`` (P * T, H).

    Blocks are added in order. Between two of them ``build`` may be another builder, if ``context``
    and ``suffix`` are then the names of these rows there (see `lowmem/streaming.py`).
    """

    def __init__(self, build: Builder, checkpoint: Checkpoint, prompts: Prompts) -> None:
        if not checkpoint.text.causal:
            raise CheckpointError("the text tower is bidirectional; only a causal one can be read")
        self.build = build
        n, own = prompts.n_context, prompts.n_context if prompts.specific else 0
        self._n = n - own  # context vectors that all classes share
        self.packing: Packing = pack(
            [own + len(suffix) for suffix in prompts.suffixes], self._n + 1, TILE, CHUNK,
            blind=checkpoint.text.appended > 0,
        )  # fmt: skip
        self._checkpoint = checkpoint
        self._config = checkpoint.text
        self._specific = prompts.specific
        self._classes = len(prompts.suffixes)
        suffixes = [prompts.suffixes[k] for k in self.packing.order]
        positions = read_positions(checkpoint)
        vectors = _embed(checkpoint, prompts.sos_id, suffixes, n, positions)
        self._sos, self._words = vectors[:1], vectors[1:]
        self.tokens = prompts.tokens - self._n
        words = self._repeat(self._words, "text.words")
        if n:
            added = np.tile(positions[1 : n + 1], (prompts.vectors // n, 1))
            context = self.build.op("Add", "context", self.build.constant(added, "text.positions"))
            if own:
                words = self._before_words(context, words, own, [len(s) for s in suffixes])
            else:
                self.context = self._rows(context)
        self.suffix = self._rows(words)

    @property
    def outputs(self) -> dict[str, tuple[int, int]]:
        """Classes and numbers of what `add_features` names."""
        config = self._config
        return {"states": (self._classes, config.width),
                "features": (self._classes, config.projection)}  # fmt: skip

    def inputs(self, first: bool, last: bool) -> dict[str, Sequence[int | str]]:
        """Inputs of a block's graph beside context and suffix: there are none."""
        return {}

    def carried(self) -> dict[str, str]:
        """What the next block reads, by the name of its input."""
        found = {"suffix": self.suffix}
        if self._n:
            found["context"] = self.build.reshape(self.context, [-1, self._n, self._config.width])
        return found

    def go_on(self, build: Builder) -> None:
        """Go on in a new graph, whose inputs are what was carried."""
        self.build, self.suffix = build, "suffix"
        if self._n:
            self.context = build.reshape("context", [-1, self._config.width])

    def add_block(self, name: str, block: Block, first: bool, last: bool) -> None:
        """Move both streams through one block; after the last one, ``suffix`` is (P * K, H)."""
        shared = self._context_attention(name, block, last)
        parts = []
        for chunk in self.packing.chunks:
            rows = self._cut(chunk)
            query, key, value = self._suffix_heads(rows, chunk, name, block, first, last)
            mixed = self._suffix_attention(query, (key, value), shared, chunk, last)
            if last:
                rows = blocks.pick(self.build, rows, chunk.tokens, chunk.ends, self._config.width)
            rows = blocks.finish(self.build, rows, mixed, name, block, self._config)
            parts.append(self.build.settle(rows))
        self.suffix = self._join(parts, last)

    def add_features(self) -> None:
        """Name ``states`` (P, K, H) and ``features`` (P, K, D), after the last block."""
        build, config, checkpoint = self.build, self._config, self._checkpoint
        pair = checkpoint.pair("text_model.final_layer_norm", config.width)
        x = blocks.norm(build, self.suffix, "text.final", pair, config.norm_eps)
        x = build.reshape(x, [-1, self._classes, config.width])
        back = build.constant(np.argsort(self.packing.order), "text.back")
        states = build.op("Gather", x, back, axis=1, name="states")
        rows = build.reshape(states, [-1, config.width])
        projection = build.weight("text.projection", read_projection(checkpoint))
        rows = build.op("Gemm", rows, projection, transB=1)
        build.reshape(rows, [-1, self._classes, config.projection], name="features")

    def _context_attention(self, name: str, block: Block, last: bool) -> tuple[str, str]:
        """Return keys and values of [SOS] and context (P, heads, n + 1, d); move both on."""
        build, config, n = self.build, self._config, self._n
        key, value = self._sos_key_value(name, block)
        if not n:
            return key, value
        h = blocks.norm(build, self.context, f"{name}.norm1", block.norm1, config.norm_eps)
        own = self._heads(h, f"{name}.key", block.key, n)
        key = build.op("Concat", key, own, axis=2)
        own = self._heads(h, f"{name}.value", block.value, n)
        value = build.op("Concat", value, own, axis=2)
        if not last:  # nothing reads the context after the last keys and values
            query = self._heads(h, f"{name}.query", block.query, n)
            causal = np.where(np.tri(n, n + 1, 1, dtype=bool), np.float32(0), MASKED)
            mask = build.constant(causal, "text.causal")
            mixed = blocks.attend(build, query, key, value, mask)
            mixed = blocks.join_heads(build, mixed, config.width)
            self.context = blocks.finish(build, self.context, mixed, name, block, config)
        return key, value

    def _sos_key_value(self, name: str, block: Block) -> tuple[str, str]:
        """Return key and value of [SOS] (P, heads, 1, d), and move its own state on."""
        h = norm(self._sos, block.norm1, self._config.norm_eps)
        key, value = self._linear(h, block.key), self._linear(h, block.value)
        # Attention over one token is that token's value.
        self._sos = self._sos + self._linear(value, block.out)
        h = self._linear(norm(self._sos, block.norm2, self._config.norm_eps), block.fc1)
        h = activate(h, self._config.activation).astype(np.float32)
        self._sos = self._sos + self._linear(h, block.fc2)
        return self._fixed(key, f"{name}.sos.key"), self._fixed(value, f"{name}.sos.value")

    def _suffix_heads(
        self, rows: str, chunk: Chunk, name: str, block: Block, first: bool, last: bool
    ) -> tuple[str, str, str]:
        """Return queries, keys and values (P, heads, tokens, d); if last, queries of EOS alone."""
        build, config, tokens, ends = self.build, self._config, chunk.tokens, chunk.ends
        if first and not self._specific:  # nothing of the context has reached these tokens yet
            words = self._words[chunk.first : chunk.first + tokens]
            h = norm(words, block.norm1, config.norm_eps)
            name = f"{name}.words.{chunk.first}"
            return (
                self._fixed(self._linear(h[ends] if last else h, block.query), f"{name}.query"),
                self._fixed(self._linear(h, block.key), f"{name}.key"),
                self._fixed(self._linear(h, block.value), f"{name}.value"),
            )
        h = blocks.norm(build, rows, f"{name}.norm1", block.norm1, config.norm_eps)
        querying = blocks.pick(build, h, tokens, ends, config.width) if last else h
        return (
            self._heads(querying, f"{name}.query", block.query, len(ends) if last else tokens),
            self._heads(h, f"{name}.key", block.key, tokens),
            self._heads(h, f"{name}.value", block.value, tokens),
        )

    def _suffix_attention(
        self, query: str, own: tuple[str, str], shared: tuple[str, str], chunk: Chunk, last: bool
    ) -> str:
        """Return what the suffixes of a chunk read from shared tokens and themselves, rows."""
        build, config, parts = self.build, self._config, []
        for group in chunk.groups:
            first, width, mask = group.first_token, group.width, group.mask
            if last:
                first, width = group.first_class, group.classes
                mask = np.take_along_axis(mask, group.ends[:, :, None], axis=1)
            q = self._tiles(query, chunk, group, first, width)
            key, value = (
                build.op(
                    "Concat",
                    self._to_tiles(before, group),
                    self._tiles(x, chunk, group, group.first_token, group.width),
                    axis=3,
                )
                for x, before in zip(own, shared, strict=True)
            )
            place = f"{chunk.first + group.first_token}.{'last' if last else 'all'}"
            added = build.constant(mask, f"text.mask.{place}")
            mixed = blocks.attend(build, q, key, value, added, rank=5)
            shape = [0, config.heads, group.tiles * width, config.width // config.heads]
            parts.append(build.reshape(mixed, shape))
        joined = parts[0] if len(parts) == 1 else build.op("Concat", *parts, axis=2)
        return blocks.join_heads(build, joined, config.width)

    def _before_words(self, context: str, words: str, n: int, lengths: Sequence[int]) -> str:
        """Return contexts (P, K * n, H) and words (P, T, H), packed, each context before its own
        class's words."""
        places, word = [], len(lengths) * n
        for k, length in zip(self.packing.order, lengths, strict=True):
            places += [*range(k * n, (k + 1) * n), *range(word, word + length)]
            word += length
        both = self.build.op("Concat", context, words, axis=1)
        return self.build.op("Gather", both, self.build.constant(places), axis=1)

    def _tiles(self, x: str, chunk: Chunk, group: Group, first: int, width: int) -> str:
        """Return a group's stretch of a chunk's axis, (P, heads, tiles, width, d)."""
        build, config = self.build, self._config
        if len(chunk.groups) > 1:
            x = self._stretch(x, first, group.tiles * width, 2)
        shape = [0, config.heads, group.tiles, width, config.width // config.heads]
        return build.reshape(x, shape)

    def _to_tiles(self, shared: str, group: Group) -> str:
        """Return shared keys or values (P, heads, n + 1, d) once for every tile of a group."""
        build = self.build
        x = build.op("Unsqueeze", shared, build.constant([2]))
        if group.tiles == 1:
            return x
        return build.op("Expand", x, build.constant([1, 1, group.tiles, 1, 1]))

    def _cut(self, chunk: Chunk) -> str:
        """Return a chunk's rows (P * tokens, H) of ``suffix``."""
        if len(self.packing.chunks) == 1:
            return self.suffix
        build, width = self.build, self._config.width
        x = build.reshape(self.suffix, [-1, self.tokens, width])
        return self._rows(self._stretch(x, chunk.first, chunk.tokens, 1))

    def _join(self, parts: Sequence[str], last: bool) -> str:
        """Undo `_cut`; after the last block, rows are those of EOS alone.

        Chunks meet after every block, so a runtime computes one block after the other: matrices of
        fewer bits are made float32 once for all chunks, and `lowmem/streaming.py` carries one
        stream.
        """
        if len(parts) == 1:
            return parts[0]
        build, width = self.build, self._config.width
        counts = [len(c.ends) if last else c.tokens for c in self.packing.chunks]
        shapes = [build.constant([-1, count, width]) for count in counts]
        parts = [build.op("Reshape", x, s) for x, s in zip(parts, shapes, strict=True)]
        return self._rows(build.op("Concat", *parts, axis=1))

    def _stretch(self, x: str, first: int, count: int, axis: int) -> str:
        """Return ``count`` places of an axis."""
        build = self.build
        bounds = (build.constant([first]), build.constant([first + count]), build.constant([axis]))
        return build.op("Slice", x, *bounds)

    def _heads(self, rows: str, name: str, pair: Pair, tokens: int) -> str:
        return blocks.heads(self.build, rows, name, pair, tokens, self._config)

    def _fixed(self, rows: Array, name: str) -> str:
        """Return constant rows (t, H) as (P, heads, t, d)."""
        parts = rows.reshape(len(rows), self._config.heads, -1).transpose(1, 0, 2)
        return self._repeat(parts, name)

    def _repeat(self, values: Array, name: str) -> str:
        return blocks.repeat(self.build, "context", values, name)

    def _rows(self, x: str) -> str:
        return self.build.reshape(x, [-1, self._config.width])

    def _linear(self, x: Array, pair: Pair) -> Array:
        """Return what is constant; the matrix leaves memory, for another one is next."""
        result = x @ pair[0].T + pair[1]
        self._checkpoint.weights.release()
        return result


def _embed(
    checkpoint: Checkpoint, sos_id: int, suffixes: Sequence[Sequence[int]], n: int, positions: Array
) -> Array:
    """Embeddings of [SOS] and of suffixes behind a context of n vectors, one after another.

    The class token that CoCa appends has the first id behind the vocabulary and the last position.
    """
    config = checkpoint.text
    ids = np.array([sos_id, *(token for suffix in suffixes for token in suffix)])
    places = np.array([0, *(n + 1 + i for suffix in suffixes for i in range(len(suffix)))])
    appended = ids == config.vocabulary
    places[appended] = config.context_length
    ids[appended] = 0
    vectors = checkpoint.weights.rows(token_table(checkpoint), ids)
    if appended.any():
        vectors[appended] = checkpoint.tensor(_CLASS, (config.width,))
    return vectors + positions[places]


def activate(x: Array, name: str) -> Array:
    """Return x times the Gaussian distribution function, or CLIP's x * sigmoid(1.702 x)."""
    if name == "gelu":
        return x * 0.5 * (1.0 + _erf(x / np.sqrt(2.0)))
    return x / (1.0 + np.exp(-1.702 * x))


def norm(x: Array, pair: Pair, eps: float) -> Array:
    """Return the layer norm of x along its last axis, times a gain, plus a bias."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * pair[0] + pair[1]
