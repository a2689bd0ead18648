"""The text tower without any saving: what the others are compared with.

`NaiveTower` is how research code evaluates a candidate: torch, one candidate at a time, every class
padded to the full context length, all tokens through all blocks. `write_padded` is the same
arithmetic as an ONNX graph, with padding and the last block's idle tokens to be left out one after
the other.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from sharpzo.towers import blocks
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.graph import Builder, Graph
from sharpzo.towers.packing import MASKED
from sharpzo.towers.prompts import Prompts, token_table
from sharpzo.towers.text import read_block

Array = np.ndarray


def embed(checkpoint: Checkpoint, prompts: Prompts, length: int) -> tuple[Array, Array, Array]:
    """Token embeddings (K, length, m) with an empty place for the context, positions, EOS (K,)."""
    config, n = checkpoint.text, prompts.n_context
    ids = np.full((len(prompts.suffixes), length), prompts.eos_id)
    ids[:, 0] = prompts.sos_id
    for row, suffix in zip(ids, prompts.suffixes, strict=True):
        row[1 + n : 1 + n + len(suffix)] = suffix
    vectors = checkpoint.weights.rows(token_table(checkpoint), ids.ravel())
    name = "text_model.embeddings.position_embedding.weight"
    positions = checkpoint.tensor(name, (config.context_length, config.width))[:length]
    ends = np.array([n + len(suffix) for suffix in prompts.suffixes])
    return vectors.reshape(*ids.shape, -1), positions, ends


class NaiveTower:
    """Contexts (P, n, m) -> raw text features (P, K, D) in torch, float32."""

    def __init__(self, checkpoint: Checkpoint, prompts: Prompts) -> None:
        config = self._config = checkpoint.text
        vectors, positions, self._ends = embed(checkpoint, prompts, config.context_length)
        self._vectors, self._positions = torch.tensor(vectors), torch.tensor(positions)
        self._n = prompts.n_context
        self._blocks = [
            {
                name: tuple(map(torch.tensor, pair))
                for name, pair in vars(read_block(checkpoint, layer)).items()
            }
            for layer in range(config.layers)
        ]
        final = checkpoint.pair("text_model.final_layer_norm", config.width)
        self._final = tuple(map(torch.tensor, final))
        shape = (config.projection, config.width)
        self._projection = torch.tensor(checkpoint.tensor("text_projection.weight", shape))
        side = config.context_length
        self._mask = torch.full((side, side), float("-inf")).triu(1)

    @torch.no_grad()
    def forward(self, contexts: Array) -> Array:
        return np.stack([self._one(torch.tensor(context)) for context in contexts])

    def _one(self, context: torch.Tensor) -> Array:
        k, config = len(self._vectors), self._config
        x = self._vectors.clone()
        x[:, 1 : 1 + self._n] = context
        x = x + self._positions
        for block in self._blocks:
            h = functional.layer_norm(x, x.shape[-1:], *block["norm1"], eps=config.norm_eps)
            query, key, value = (
                functional.linear(h, *block[name]).reshape(k, -1, config.heads, 64).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            weights = torch.softmax(query @ key.transpose(-1, -2) + self._mask, dim=-1)
            mixed = (weights @ value).transpose(1, 2).reshape(x.shape)
            x = x + functional.linear(mixed, *block["out"])
            h = functional.layer_norm(x, x.shape[-1:], *block["norm2"], eps=config.norm_eps)
            h = functional.linear(h, *block["fc1"])
            h = h * torch.sigmoid(1.702 * h) if config.activation != "gelu" else functional.gelu(h)
            x = x + functional.linear(h, *block["fc2"])
        x = functional.layer_norm(x, x.shape[-1:], *self._final, eps=config.norm_eps)
        return (x[torch.arange(k), torch.tensor(self._ends)] @ self._projection.T).numpy()


def write_padded(checkpoint: Checkpoint, prompts: Prompts, length: int, last_at_end: bool) -> Graph:
    """The same as a graph: ``context`` (P, n, m) -> ``features`` (P, K, D).

    ``length``: tokens per class, at least the longest prompt's; ``last_at_end``: of the last block
    queries, output and MLP at EOS alone.
    """
    build, config, k = Builder(), checkpoint.text, len(prompts.suffixes)
    vectors, positions, ends = embed(checkpoint, prompts, length)
    width, n = config.width, prompts.n_context
    vectors = vectors + positions
    frame = [blocks.repeat(build, "context", part, name) for part, name in (
        (vectors[:, :1], "sos"), (vectors[:, 1 + n :], "words"))]  # fmt: skip
    moved = build.op("Add", "context", build.constant(positions[1 : n + 1], "positions"))
    moved = build.op("Unsqueeze", moved, build.constant([1]))
    moved = build.op("Expand", moved, build.constant([1, k, 1, 1]))
    x = build.op("Concat", frame[0], moved, frame[1], axis=2)
    x = build.op("Reshape", x, build.constant([-1, width]))
    causal = np.where(np.tri(length, dtype=bool), np.float32(0), MASKED)
    places = np.arange(k) * length + ends
    for layer in range(config.layers):
        block, name = read_block(checkpoint, layer), f"text.{layer}"
        h = blocks.norm(build, x, f"{name}.norm1", block.norm1, config.norm_eps)
        asked, count, mask = h, length, build.constant(causal, "causal")
        end = last_at_end and layer == config.layers - 1
        if end:
            asked, x = (blocks.pick(build, v, k * length, places, width) for v in (h, x))
            count, mask = 1, build.constant(causal[ends][:, None, None], "causal.end")
        heads = [
            blocks.heads(build, rows, f"{name}.{part}", getattr(block, part), many, config)
            for part, rows, many in (
                ("query", asked, count),
                ("key", h, length),
                ("value", h, length),
            )
        ]
        if end:  # the mask differs from class to class
            shape = build.constant([-1, k, config.heads, length, width // config.heads])
            one = build.constant([-1, k, config.heads, 1, width // config.heads])
            q = build.op("Reshape", heads[0], one)
            key, value = (build.op("Reshape", y, shape) for y in heads[1:])
            mixed = blocks.attend(build, q, key, value, mask, rank=5)
            mixed = build.op("Reshape", mixed, build.constant([-1, width]))
        else:
            mixed = blocks.join_heads(build, blocks.attend(build, *heads, mask), width)
        x = blocks.finish(build, x, mixed, name, block, config)
    if not last_at_end:
        x = blocks.pick(build, x, k * length, places, width)
    pair = checkpoint.pair("text_model.final_layer_norm", width)
    x = blocks.norm(build, x, "final", pair, config.norm_eps)
    shape = (config.projection, width)
    projection = build.weight("projection", checkpoint.tensor("text_projection.weight", shape))
    x = build.op("Gemm", x, projection, transB=1)
    build.op("Reshape", x, build.constant([-1, k, config.projection]), name="features")
    return build.finish(
        {"context": ("P", n, width)}, {"features": ("P", k, config.projection)}, "padded"
    )
