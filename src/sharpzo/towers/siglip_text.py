"""The text tower of SigLIP and SigLIP 2: tokens read each other both ways.

Every prompt is filled up to the tower's length, the filling is read as other tokens are, and the
feature is made of the last token. So a prompt is computed whole for every candidate: none of the
savings of `text.py` holds. Classes pass in groups, which bounds the memory.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpzo.errors import CheckpointError
from sharpzo.towers import blocks
from sharpzo.towers.blocks import Block, Pair
from sharpzo.towers.checkpoint import CLIP_LAYERS, Checkpoint, block_shapes
from sharpzo.towers.config import read_json
from sharpzo.towers.prompts import Prompts, lay_out_whole, token_table
from sharpzo.towers.runtime import Running, Runtime
from sharpzo.towers.tokenizer import Tokenizer
from sharpzo.types import Array, Precision

if TYPE_CHECKING:
    from sharpzo.towers.config import TextConfig
    from sharpzo.towers.graph import Builder, Graph

_TOKENS = 2048  # of a call: classes of a group times the tower's length


def check_text(checkpoint: Checkpoint) -> None:
    """Raise `CheckpointError` for what is missing of the text tower; nothing is read."""
    config, width = checkpoint.text, checkpoint.text.width
    wanted = {
        f"encoder.layers.{layer}.{CLIP_LAYERS[part]}": shape
        for layer in range(config.layers)
        for part, shape in block_shapes(width, config.mlp_width).items()
    }
    wanted |= {"final_layer_norm": (width,), "head": (config.projection, width)}
    for name, shape in wanted.items():
        checkpoint.find(f"text_model.{name}.weight", shape)
        checkpoint.find(f"text_model.{name}.bias", shape[:1])
    positions = (config.context_length, width)
    checkpoint.find("text_model.embeddings.position_embedding.weight", positions)


def layout(
    checkpoint: Checkpoint,
    class_names: Sequence[str],
    template: str,
    n_context: int | None,
    specific: bool,
) -> Prompts:
    """Return the prompts of class names, filled up to the tower's length; see `prompts.layout`.

    Words are in lower case, as both generations were trained; the first also leaves out
    punctuation. Raises `CheckpointError` if no file says which token fills prompts up.
    """
    config, folder = checkpoint.text, checkpoint.folder
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise CheckpointError(
            f"{folder} holds no tokenizer.json; SigLIP's spiece.model alone is not read, save the "
            "tokenizer with transformers (AutoTokenizer.from_pretrained(…).save_pretrained(…))"
        )
    tokenizer = Tokenizer.read(file, config.vocabulary)
    settings = folder / "tokenizer_config.json"
    said = read_json(settings) if settings.is_file() else {}
    tokenizer.clean = _without_punctuation if _first(said) else str.lower
    return lay_out_whole(
        tokenizer, config.context_length, _pad(tokenizer, said, folder), class_names, template,
        n_context, specific,
    )  # fmt: skip


def _first(said: Mapping[str, Any]) -> bool:
    """Whether a tokenizer is SigLIP's own, and not Gemma's, which SigLIP 2 took."""
    return str(said.get("tokenizer_class", "")).removesuffix("Fast") == "SiglipTokenizer"


def _without_punctuation(words: str) -> str:
    kept = words.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(kept.split())


def _pad(tokenizer: Tokenizer, said: Mapping[str, Any], folder: Path) -> int:
    """The id of the token that fills prompts up: the tower reads it like any other."""
    token = said.get("pad_token")
    token = token.get("content") if isinstance(token, dict) else token
    found = tokenizer.pad if token is None else tokenizer.id_of(str(token))
    if found is None:
        raise CheckpointError(
            f"{folder}: neither tokenizer_config.json (pad_token) nor tokenizer.json (padding) "
            "says which token of the vocabulary fills prompts up, and the text tower reads it"
        )
    return found


def read_projection(checkpoint: Checkpoint) -> Array:
    """Return what makes features of states, float32 (D, H + 1): states end in a 1, for the bias."""
    config = checkpoint.text
    weight, bias = checkpoint.pair("text_model.head", config.projection, config.width)
    return np.concatenate([weight, bias[:, None]], axis=1)


def open_text(
    checkpoint: Checkpoint, prompts: Prompts, runtime: Runtime, tangents: bool
) -> Running:
    """Return the running text tower for class names: ``context`` (P, n, m) to ``states``
    (P, K, H + 1) and ``features`` (P, K, D), with derivatives if ``tangents``; see
    `text.build_text` and `tangent.build_tangent`."""
    words = _words(checkpoint, prompts)
    many = min(len(words), max(1, _TOKENS // checkpoint.text.context_length))
    graph = build_text(checkpoint, prompts, many, runtime.weights, tangents)
    own = prompts.n_context if prompts.specific else 0
    return ByClasses(runtime.open(graph), words, many, own)


class ByClasses:
    """A session over ``many`` classes a call: ``words`` (K, t, m) are what follows a context, and
    outputs have the classes as their second axis. ``own`` vectors of a context are each class's
    own, one class after the other; 0: all classes share them."""

    def __init__(self, session: Running, words: Array, many: int, own: int) -> None:
        self._session, self._words, self._many, self._own = session, words, many, own

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        parts = []
        for first in range(0, len(self._words), self._many):
            rows = np.arange(first, first + self._many).clip(max=len(self._words) - 1)
            given = {name: self._of(array, rows) for name, array in inputs.items()}
            found = self._session.run(outputs, {**given, "words": self._words[rows]})
            parts.append([values[:, : len(self._words) - first] for values in found])
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
    that follow it, outputs ``states`` (P, many, H + 1) and ``features`` (P, many, D).

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
    _write_text(build, checkpoint, prompts, many)
    batch, moved = 1 if tangents else "P", n * (many if prompts.specific else 1)
    inputs: dict[str, Sequence[int | str]] = {
        "context": (batch, moved, config.width),
        "words": (many, config.context_length - len(prompts.before) - n, config.width),
    }
    outputs: dict[str, Sequence[int | str]] = {
        "states": (batch, many, config.width + 1),
        "features": (batch, many, config.projection),
    }
    if isinstance(build, TangentBuilder):
        build.name_tangent("features", "derivatives")
        inputs["directions"] = ("p", moved, config.width)
        outputs["derivatives"] = ("p", many, config.projection)
    return build.finish(inputs, outputs, "siglip-text")


def _words(checkpoint: Checkpoint, prompts: Prompts) -> Array:
    """Embeddings of the class names and of what fills the prompts up, (K, t, m)."""
    length = checkpoint.text.context_length - len(prompts.before) - prompts.n_context
    ids = [[*suffix, *[prompts.pad] * (length - len(suffix))] for suffix in prompts.suffixes]
    return checkpoint.weights.rows(token_table(checkpoint), np.array(ids).ravel()).reshape(
        len(ids), length, -1
    )


def _write_text(build: Builder, checkpoint: Checkpoint, prompts: Prompts, many: int) -> None:
    config, length, n = checkpoint.text, checkpoint.text.context_length, prompts.n_context
    batch = build.op("Shape", "context", start=0, end=1)

    def repeated(value: str, rank: int) -> str:
        """A value (many, ..., m) or (1, ..., m) once for every candidate."""
        shape = build.op("Concat", batch, build.constant([1] * rank), axis=0)
        return build.op("Expand", build.op("Unsqueeze", value, build.constant([0])), shape)

    parts = []
    if prompts.before:
        rows = checkpoint.weights.rows(token_table(checkpoint), np.array(prompts.before))
        before = np.broadcast_to(rows, (many, *rows.shape))
        parts.append(repeated(build.constant(before, "text.before"), 3))
    if n:
        # One axis for classes: of size `many` if each has its own context.
        own = build.reshape("context", [-1, many if prompts.specific else 1, n, config.width])
        parts.append(build.op("Expand", own, build.constant([1, many, 1, 1])))
    parts.append(repeated("words", 3))
    x = parts[0] if len(parts) == 1 else build.op("Concat", *parts, axis=2)
    name = "text_model.embeddings.position_embedding.weight"
    positions = checkpoint.tensor(name, (length, config.width))
    x = build.op("Add", x, build.constant(positions, "text.positions"))
    x = build.reshape(x, [-1, config.width])
    for layer in range(config.layers):
        block = blocks.clip_block(
            checkpoint, f"text_model.encoder.layers.{layer}", config.width, config.mlp_width,
            config.heads,
        )  # fmt: skip
        last = layer == config.layers - 1
        x = _write_block(build, config, x, f"text.{layer}", block, many, length, last)
        x = build.settle(x)
    pair = checkpoint.pair("text_model.final_layer_norm", config.width)
    x = blocks.norm(build, x, "text.final", pair, config.norm_eps)
    x = build.reshape(x, [-1, many, config.width])
    one = repeated(build.constant(np.ones((many, 1), np.float32)), 2)
    states = build.op("Concat", x, one, axis=2, name="states")
    rows = build.reshape(states, [-1, config.width + 1])
    projection = build.weight("text.projection", read_projection(checkpoint))
    rows = build.op("Gemm", rows, projection, transB=1)
    build.reshape(rows, [-1, many, config.projection], name="features")


def _write_block(
    build: Builder, config: TextConfig, x: str, name: str, block: Block, many: int, length: int,
    last: bool,
) -> str:  # fmt: skip
    """Return rows (P * many * length, H) after one block; after the last one, those of the last
    token, (P * many, H)."""
    h = blocks.norm(build, x, f"{name}.norm1", block.norm1, config.norm_eps)
    querying, count = h, length
    if last:
        querying, x = (blocks.pick(build, v, length, [length - 1], config.width) for v in (h, x))
        count = 1

    def heads(rows: str, part: str, pair: Pair, tokens: int) -> str:
        rows = blocks.linear(build, rows, f"{name}.{part}", pair)
        size = config.width // config.heads
        rows = build.reshape(rows, [-1, many, tokens, config.heads, size])
        return build.op("Transpose", rows, perm=[0, 1, 3, 2, 4])

    mixed = blocks.attend(
        build,
        heads(querying, "query", block.query, count),
        heads(h, "key", block.key, length),
        heads(h, "value", block.value, length),
        rank=5,
    )
    mixed = build.op("Transpose", mixed, perm=[0, 1, 3, 2, 4])
    mixed = build.reshape(mixed, [-1, config.width])
    return blocks.finish(build, x, mixed, name, block, config)
