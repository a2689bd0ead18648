"""Text towers that compute every prompt whole: SigLIP's, and those of OpenCLIP that read both ways
or at another token than EOS.

Every prompt is filled up to the tower's length, the filling is read as other tokens are, and the
feature is made of the last token, the first one or EOS (`config.WholeText`). So a prompt is
computed whole for every candidate: none of the savings of `text.py` holds. Classes pass in groups,
which bounds the memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from sharpzo.towers import blocks, text
from sharpzo.towers.blocks import Block, Pair
from sharpzo.towers.checkpoint import CLIP_LAYERS, Checkpoint, block_shapes
from sharpzo.towers.packing import MASKED
from sharpzo.towers.prompts import Prompts, pool_position, token_table
from sharpzo.towers.runtime import Running, Runtime
from sharpzo.types import Array, Precision

if TYPE_CHECKING:
    from sharpzo.towers.config import WholeText
    from sharpzo.towers.graph import Builder, Graph

TOKENS = 2048  # of a call: classes of a group times the tower's length
LESS = 512  # of a call under a memory limit: text.CHUNK says why it is no slower
_EMBEDDINGS = "text_model.embeddings"


def check_text(checkpoint: Checkpoint) -> None:
    """Raise `CheckpointError` for what is missing of the text tower; nothing is read."""
    config, width = checkpoint.text, checkpoint.text.width
    wanted = {
        f"encoder.layers.{layer}.{CLIP_LAYERS[part]}": shape
        for layer in range(config.layers)
        for part, shape in block_shapes(width, config.mlp_width).items()
    }
    wanted["final_layer_norm"] = (width,)
    for name, shape in wanted.items():
        checkpoint.find(f"text_model.{name}.weight", shape)
        checkpoint.find(f"text_model.{name}.bias", shape[:1])
    head = _config(checkpoint).head
    if head != "none":
        checkpoint.find("text_model.head.weight", (config.projection, width))
    if head == "linear":
        checkpoint.find("text_model.head.bias", (config.projection,))
    checkpoint.find(f"{_EMBEDDINGS}.position_embedding.weight", (config.context_length, width))


def read_projection(checkpoint: Checkpoint) -> Array:
    """Return what makes features of states, float32 (D, H + 1): states end in a 1, for the bias."""
    config, head = checkpoint.text, _config(checkpoint).head
    bias = np.zeros(config.projection, np.float32)
    if head == "none":
        weight = np.eye(config.projection, dtype=np.float32)
    elif head == "plain":
        weight = checkpoint.tensor("text_model.head.weight", (config.projection, config.width))
    else:
        weight, bias = checkpoint.pair("text_model.head", config.projection, config.width)
    return np.concatenate([weight, bias[:, None]], axis=1)


def open_text(
    checkpoint: Checkpoint, prompts: Prompts, runtime: Runtime, tangents: bool
) -> Running:
    """Return the running text tower for class names: ``context`` (P, n, m) to ``states``
    (P, K, H + 1) and ``features`` (P, K, D), with derivatives if ``tangents``; see
    `text.build_text` and `tangent.build_tangent`."""
    many = group(prompts)
    graph = build_text(checkpoint, prompts, many, runtime.weights, tangents)
    return ByClasses(runtime.open(graph), checkpoint, prompts, many)


def group(prompts: Prompts, tokens: int | None = None) -> int:
    """Return how many classes pass at a time: equally many in each group, of so many tokens at
    most."""
    classes, most = len(prompts.suffixes), max(1, (tokens or TOKENS) // prompts.length)
    return math.ceil(classes / math.ceil(classes / most))


class ByClasses:
    """A session over ``many`` classes a call: ``words`` (K, t, m) are what follows a context,
    ``ends`` (K, length) is 1 where the feature is taken, and outputs have the classes as their
    second axis."""

    def __init__(
        self, session: Running, checkpoint: Checkpoint, prompts: Prompts, many: int
    ) -> None:
        self._session, self._many = session, many
        self._own = prompts.n_context if prompts.specific else 0  # vectors of each class
        length = prompts.length - len(prompts.before) - prompts.n_context
        ids = [[*suffix, *[prompts.pad or 0] * (length - len(suffix))]
               for suffix in prompts.suffixes]  # fmt: skip
        # A row for each word that is there: most places hold the same filling.
        once, places = np.unique(np.array(ids), return_inverse=True)
        self._words, self._places = _rows(checkpoint, once), places.reshape(len(ids), length)
        self._ends = _ends(checkpoint, prompts)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        parts, classes = [], len(self._places)
        for first in range(0, classes, self._many):
            rows = np.arange(first, first + self._many).clip(max=classes - 1)
            given = {name: self._of(array, rows) for name, array in inputs.items()}
            given["words"] = self._words[self._places[rows]]
            if self._ends is not None:
                given["ends"] = self._ends[rows]
            found = self._session.run(outputs, given)
            parts.append([values[:, : classes - first] for values in found])
        return [np.concatenate(values, axis=1) for values in zip(*parts, strict=True)]

    def close(self) -> None:
        """Give the memory of the session back."""
        self._session.close()

    def _of(self, contexts: Array, rows: Array) -> Array:
        """What contexts hold for some classes."""
        if not self._own:
            return contexts
        places = rows[:, None] * self._own + np.arange(self._own)
        return np.ascontiguousarray(contexts[:, places.ravel()])


def build_text(
    checkpoint: Checkpoint, prompts: Prompts, many: int, precision: Precision, tangents: bool
) -> Graph:
    """Return the graph of ``many`` classes: inputs ``context`` (P, n, m) and ``words`` (many, t, m)
    that follow it, outputs ``states`` (P, many, H + 1) and ``features`` (P, many, D). Where the
    feature is taken at EOS, the input ``ends`` (many, length) says where that is.

    P is free, or 1 with ``tangents``: then ``directions`` (p, n, m) give ``derivatives``
    (p, many, D), as `tangent.build_tangent` has them.
    """
    from sharpzo.towers.graph import Builder
    from sharpzo.towers.tangent import TangentBuilder, check_moves

    config, n = checkpoint.text, prompts.n_context
    if tangents:
        check_moves(prompts)
        build: Builder = TangentBuilder({"context": "directions"}, precision)
    else:
        build = Builder(precision)
    writer = WholeWriter(build, checkpoint, prompts, many)
    for layer in range(config.layers):
        block, last = text.read_block(checkpoint, layer), layer == config.layers - 1
        writer.add_block(f"text.{layer}", block, layer == 0, last)
    writer.add_features()
    batch, moved = 1 if tangents else "P", n * (many if prompts.specific else 1)
    inputs: dict[str, Sequence[int | str]] = {"context": (batch, moved, config.width)}
    inputs |= writer.inputs(first=True, last=True)
    outputs: dict[str, Sequence[int | str]] = {
        name: (batch, *shape) for name, shape in writer.outputs.items()
    }
    if isinstance(build, TangentBuilder):
        build.name_tangent("features", "derivatives")
        inputs["directions"] = ("p", moved, config.width)
        outputs["derivatives"] = ("p", many, config.projection)
    return build.finish(inputs, outputs, "whole-text")


class WholeWriter:
    """Rows ``suffix`` (P * many * length, H) of whole prompts through the blocks.

    Blocks are added in order; between two of them ``build`` may be another builder, as in
    `text.TextWriter`.
    """

    def __init__(self, build: Builder, checkpoint: Checkpoint, prompts: Prompts, many: int) -> None:
        self.build, self._checkpoint, self._many = build, checkpoint, many
        self._config, self._pool = checkpoint.text, _config(checkpoint).pool
        self._length, n = prompts.length, prompts.n_context
        config = self._config
        self._words = self._length - len(prompts.before) - n  # and what fills up behind them
        batch = build.op("Shape", "context", start=0, end=1)
        parts = []
        if prompts.before:
            rows = _rows(checkpoint, np.array(prompts.before))
            before = np.broadcast_to(rows, (many, *rows.shape))
            parts.append(self._repeated(build.constant(before, "text.before"), 3, batch))
        if n:
            # One axis for classes: of size `many` if each has its own context.
            own = build.reshape("context", [-1, many if prompts.specific else 1, n, config.width])
            parts.append(build.op("Expand", own, build.constant([1, many, 1, 1])))
        parts.append(self._repeated("words", 3, batch))
        x = parts[0] if len(parts) == 1 else build.op("Concat", *parts, axis=2)
        name = f"{_EMBEDDINGS}.position_embedding.weight"
        positions = checkpoint.tensor(name, (self._length, config.width))
        x = build.op("Add", x, build.constant(positions, "text.positions"))
        self.suffix = build.reshape(x, [-1, config.width])

    @property
    def outputs(self) -> dict[str, tuple[int, int]]:
        """Classes and numbers of what `add_features` names."""
        config = self._config
        return {"states": (self._many, config.width + 1),
                "features": (self._many, config.projection)}  # fmt: skip

    def inputs(self, first: bool, last: bool) -> dict[str, Sequence[int | str]]:
        """Inputs of a block's graph beside context and suffix."""
        found: dict[str, Sequence[int | str]] = {}
        if first:
            found["words"] = (self._many, self._words, self._config.width)
        if last and self._pool == "eos":
            found["ends"] = (self._many, self._length)
        return found

    def carried(self) -> dict[str, str]:
        """What the next block reads, by the name of its input."""
        return {"suffix": self.suffix}

    def go_on(self, build: Builder) -> None:
        """Go on in a new graph, whose inputs are what was carried."""
        self.build, self.suffix = build, "suffix"

    def add_block(self, name: str, block: Block, first: bool, last: bool) -> None:
        """Move the rows through one block; after the last one ``suffix`` is (P * many, H), of the
        tokens that features are made of."""
        build, config, length = self.build, self._config, self._length
        x = self.suffix
        h = blocks.norm(build, x, f"{name}.norm1", block.norm1, config.norm_eps)
        querying, count, causal = h, length, ""
        if last:
            querying, x, count = self._ends(h), self._ends(x), 1
        if config.causal and not (last and self._pool == "last"):
            causal = self._causal(last)

        def heads(rows: str, part: str, pair: Pair, tokens: int) -> str:
            rows = blocks.linear(build, rows, f"{name}.{part}", pair)
            size = config.width // config.heads
            rows = build.reshape(rows, [-1, self._many, tokens, config.heads, size])
            return build.op("Transpose", rows, perm=[0, 1, 3, 2, 4])

        mixed = blocks.attend(
            build,
            heads(querying, "query", block.query, count),
            heads(h, "key", block.key, length),
            heads(h, "value", block.value, length),
            causal,
            rank=5,
        )
        mixed = build.op("Transpose", mixed, perm=[0, 1, 3, 2, 4])
        mixed = build.reshape(mixed, [-1, config.width])
        rows = blocks.finish(build, x, mixed, name, block, config)
        self.suffix = build.settle(rows)

    def add_features(self) -> None:
        """Name ``states`` (P, many, H + 1) and ``features`` (P, many, D), after the last block."""
        build, config, many = self.build, self._config, self._many
        pair = self._checkpoint.pair("text_model.final_layer_norm", config.width)
        x = blocks.norm(build, self.suffix, "text.final", pair, config.norm_eps)
        x = build.reshape(x, [-1, many, config.width])
        batch = build.op("Shape", x, start=0, end=1)
        one = self._repeated(build.constant(np.ones((many, 1), np.float32)), 2, batch)
        states = build.op("Concat", x, one, axis=2, name="states")
        rows = build.reshape(states, [-1, config.width + 1])
        projection = build.weight("text.projection", read_projection(self._checkpoint))
        rows = build.op("Gemm", rows, projection, transB=1)
        build.reshape(rows, [-1, many, config.projection], name="features")

    def _ends(self, rows: str) -> str:
        """The rows that features are made of: (P * many, H)."""
        build, length, width = self.build, self._length, self._config.width
        if self._pool != "eos":
            place = length - 1 if self._pool == "last" else 0
            return blocks.pick(build, rows, length, [place], width)
        x = build.reshape(rows, [-1, self._many, length, width])
        ends = build.op("Unsqueeze", "ends", build.constant([1]))
        return build.reshape(build.op("MatMul", ends, x), [-1, width])

    def _causal(self, last: bool) -> str:
        """What is added to scores, (length, length), or (many, 1, 1, length) of EOS alone."""
        build, length = self.build, self._length
        hidden = np.where(np.tri(length, dtype=bool), np.float32(0), MASKED)
        if not last:
            return build.constant(hidden, "text.causal")
        # The row of the place where ``ends`` is 1.
        found = build.op("MatMul", "ends", build.constant(hidden, "text.causal.ends"))
        return build.reshape(found, [self._many, 1, 1, length])

    def _repeated(self, value: str, rank: int, batch: str) -> str:
        """A value (many, ..., m) or (1, ..., m) once for every candidate."""
        build = self.build
        shape = build.op("Concat", batch, build.constant([1] * rank), axis=0)
        return build.op("Expand", build.op("Unsqueeze", value, build.constant([0])), shape)


def _config(checkpoint: Checkpoint) -> WholeText:
    """The configuration, which has a pool and a head in all families of this kind."""
    return cast("WholeText", checkpoint.text)


def _rows(checkpoint: Checkpoint, ids: Array) -> Array:
    """Embeddings of tokens, (T, m)."""
    return checkpoint.weights.rows(token_table(checkpoint), ids)


def _ends(checkpoint: Checkpoint, prompts: Prompts) -> Array | None:
    """1 where the features of classes are taken, else 0, float32 (K, length); None of a tower that
    takes all at one place."""
    config = checkpoint.text
    if _config(checkpoint).pool != "eos":
        return None
    eos_id = None if config.highest else config.eos_id
    found = np.zeros((len(prompts.suffixes), prompts.length), np.float32)
    for row, suffix in zip(found, prompts.suffixes, strict=True):
        filler = [-1] * prompts.n_context  # vectors, which are no ids
        row[pool_position([*prompts.before, *filler, *suffix], eos_id)] = 1
    return found
