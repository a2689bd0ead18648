"""The text tower as an ONNX graph: contexts (P, n, m) -> features (P, K, D) for fixed classes."""

from __future__ import annotations

import numpy as np

from sharpzo.errors import CheckpointError
from sharpzo.towers import blocks
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.graph import Builder, Graph
from sharpzo.towers.prompts import Prompts, token_table
from sharpzo.types import Array

_MASKED = np.float32(-1e30)


def build_text(checkpoint: Checkpoint, prompts: Prompts) -> Graph:
    """Return the graph; outputs ``states`` (P, K, H) at EOS and ``features`` (P, K, D)."""
    config, n = checkpoint.text, prompts.n_context
    m = config.width
    build = Builder()
    order = sorted(range(len(prompts.suffixes)), key=lambda k: len(prompts.suffixes[k]))
    ids = [token for k in order for token in prompts.suffixes[k]]
    lengths = [len(prompts.suffixes[k]) for k in order]
    table = checkpoint.tensor(
        "text_model.embeddings.position_embedding.weight", (config.context_length, m)
    )
    owner = np.repeat(np.arange(len(order)), lengths)
    place = np.concatenate([np.arange(n + 1, n + 1 + length) for length in lengths])
    name = token_table(checkpoint)
    sos = checkpoint.weights.rows(name, np.array([prompts.sos_id])) + table[:1]
    suffix = checkpoint.weights.rows(name, np.array(ids)) + table[place]
    S = 1 + n + len(ids)
    owner = np.concatenate([np.full(1 + n, -1), owner])
    place = np.concatenate([np.arange(1 + n), place])
    sees = (place[None] <= place[:, None]) & ((owner[None] == -1) | (owner[None] == owner[:, None]))
    mask = np.where(sees, np.float32(0), _MASKED)
    ends = np.empty(len(order), np.int64)
    ends[order] = n + np.cumsum(lengths)

    batch = build.op("Shape", "context", start=0, end=1)
    def tile(x: Array) -> str:
        shape = build.op("Concat", batch, build.constant(list(x.shape)), axis=0)
        return build.op("Expand", build.constant(x[None]), shape)
    context = build.op("Add", "context", build.constant(table[1 : n + 1]))
    x = build.op("Concat", tile(sos), context, tile(suffix), axis=1)
    x = build.op("Reshape", x, build.constant([-1, m]))
    K = len(order)
    for layer in range(config.layers):
        block = _block(checkpoint, layer)
        key = f"text.{layer}"
        h = blocks.norm(build, x, f"{key}.norm1", block.norm1, config.norm_eps)
        hq, S_q, mk = h, S, mask
        if layer == config.layers - 1:
            def pick(v):
                v = build.op("Reshape", v, build.constant([-1, S, m]))
                v = build.op("Gather", v, build.constant(ends), axis=1)
                return build.op("Reshape", v, build.constant([-1, m]))
            hq, S_q, mk = pick(h), K, mask[ends]
            x = pick(x)
        q = blocks.split_heads(build, blocks.linear(build, hq, f"{key}.query", block.query), S_q, config.heads, m)
        k = blocks.split_heads(build, blocks.linear(build, h, f"{key}.key", block.key), S, config.heads, m)
        v = blocks.split_heads(build, blocks.linear(build, h, f"{key}.value", block.value), S, config.heads, m)
        a = blocks.join_heads(build, blocks.attend(build, q, k, v, mk), m)
        x = build.op("Add", x, blocks.linear(build, a, f"{key}.out", block.out))
        x = blocks.mlp(build, x, key, block, config.activation, config.norm_eps)
    final = _pair(checkpoint, "text_model.final_layer_norm", m)
    x = blocks.norm(build, x, "text.final", final, config.norm_eps)
    states = build.op("Reshape", x, build.constant([-1, K, m]), name="states")
    projection = checkpoint.tensor("text_projection.weight", (config.projection, m))
    y = build.op("Gemm", x, build.weight("text.projection", projection), transB=1)
    build.op("Reshape", y, build.constant([-1, K, config.projection]), name="features")
    return build.finish(
        {"context": ("P", n, m)},
        {"states": ("P", K, m), "features": ("P", K, config.projection)},
        "text",
    )


def _block(checkpoint: Checkpoint, layer: int) -> blocks.Block:
    config = checkpoint.text
    m, name = config.width, f"text_model.encoder.layers.{layer}"

    def pair(part: str, *shape: int) -> tuple[Array, Array]:
        return _pair(checkpoint, f"{name}.{part}", *shape)

    scale = np.float32((m // config.heads) ** -0.5)
    query = pair("self_attn.q_proj", m, m)
    return blocks.Block(
        norm1=pair("layer_norm1", m),
        query=(query[0] * scale, query[1] * scale),
        key=pair("self_attn.k_proj", m, m),
        value=pair("self_attn.v_proj", m, m),
        out=pair("self_attn.out_proj", m, m),
        norm2=pair("layer_norm2", m),
        fc1=pair("mlp.fc1", config.mlp_width, m),
        fc2=pair("mlp.fc2", m, config.mlp_width),
    )


def _pair(checkpoint: Checkpoint, name: str, *shape: int) -> tuple[Array, Array]:
    return (
        checkpoint.tensor(f"{name}.weight", shape),
        checkpoint.tensor(f"{name}.bias", shape[:1]),
    )
