"""The specification of the text tower in plain NumPy: slow, short, float64, one prompt at a time.

Every graph is tested against this file, and this file against transformers' `CLIPTextModel`. No
padding, no packing, no sharing: a prompt is computed as the sequence it is.
"""

from __future__ import annotations

from math import erf

import numpy as np

from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.prompts import Prompts, token_table
from sharpzo.types import Array

_erf = np.vectorize(erf, otypes=[np.float64])


def forward(checkpoint: Checkpoint, prompts: Prompts, contexts: Array) -> tuple[Array, Array]:
    """Return states at EOS (P, K, H) and features (P, K, D), float64, for contexts (P, n, m), or
    (P, K * n, m) where each class has its own."""
    suffixes, n = prompts.suffixes, prompts.n_context

    def own(context: Array, k: int) -> Array:
        return context[k * n : (k + 1) * n] if prompts.specific else context

    states = np.stack(
        [
            [
                encode(checkpoint, embed(checkpoint, prompts, own(context, k), suffix))
                for k, suffix in enumerate(suffixes)
            ]
            for context in contexts
        ]
    )
    shape = (checkpoint.text.projection, checkpoint.text.width)
    return states, states @ _tensor(checkpoint, "text_projection.weight", *shape).T


def embed(
    checkpoint: Checkpoint, prompts: Prompts, context: Array, suffix: tuple[int, ...]
) -> Array:
    """Return the token vectors of one prompt, [SOS] context suffix, float64 (length, H)."""
    ids = np.array([prompts.sos_id, *suffix])
    rows = checkpoint.weights.rows(token_table(checkpoint), ids).astype(np.float64)
    return np.concatenate([rows[:1], context, rows[1:]])


def encode(checkpoint: Checkpoint, vectors: Array) -> Array:
    """Return the state after the final norm at the last of these vectors (length, H) -> (H,)."""
    config = checkpoint.text
    m, length = config.width, len(vectors)
    positions = _tensor(
        checkpoint, "text_model.embeddings.position_embedding.weight", config.context_length, m
    )
    x = vectors + positions[:length]
    for layer in range(config.layers):
        name = f"text_model.encoder.layers.{layer}"
        h = _norm(checkpoint, f"{name}.layer_norm1", x)
        x = x + _attention(checkpoint, f"{name}.self_attn", h)
        h = _norm(checkpoint, f"{name}.layer_norm2", x)
        h = _linear(checkpoint, f"{name}.mlp.fc1", h, config.mlp_width)
        x = x + _linear(checkpoint, f"{name}.mlp.fc2", activate(h, config.activation), m)
    return _norm(checkpoint, "text_model.final_layer_norm", x)[-1]


def activate(x: Array, name: str) -> Array:
    """Return x times the Gaussian distribution function, its approximation by tanh, or CLIP's
    x * sigmoid(1.702 x)."""
    if name == "gelu_pytorch_tanh":
        return x * 0.5 * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))
    if name == "gelu":
        return x * 0.5 * (1.0 + _erf(x / np.sqrt(2.0)))
    return x / (1.0 + np.exp(-1.702 * x))


def norm(x: Array, pair: tuple[Array, Array], eps: float) -> Array:
    """Return the layer norm of x along its last axis, times a gain, plus a bias."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * pair[0] + pair[1]


def _attention(checkpoint: Checkpoint, name: str, x: Array) -> Array:
    config = checkpoint.text
    length, heads = len(x), config.heads

    def split(part: str) -> Array:  # (length, H) -> (heads, length, H / heads)
        y = _linear(checkpoint, f"{name}.{part}", x, config.width)
        return y.reshape(length, heads, -1).transpose(1, 0, 2)

    query, key, value = split("q_proj"), split("k_proj"), split("v_proj")
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(config.width // heads)
    scores[
        :, np.triu(np.ones((length, length), bool), k=1)
    ] = -np.inf  # no token attends to a later one
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = weights / weights.sum(axis=-1, keepdims=True) @ value
    joined = mixed.transpose(1, 0, 2).reshape(length, -1)
    return _linear(checkpoint, f"{name}.out_proj", joined, config.width)


def _linear(checkpoint: Checkpoint, name: str, x: Array, width: int) -> Array:
    weight, bias = _pair(checkpoint, name, width, x.shape[-1])
    return x @ weight.T + bias


def _norm(checkpoint: Checkpoint, name: str, x: Array) -> Array:
    return norm(x, _pair(checkpoint, name, x.shape[-1]), checkpoint.text.norm_eps)


def _pair(checkpoint: Checkpoint, name: str, *shape: int) -> tuple[Array, Array]:
    return (
        _tensor(checkpoint, f"{name}.weight", *shape),
        _tensor(checkpoint, f"{name}.bias", shape[0]),
    )


def _tensor(checkpoint: Checkpoint, name: str, *shape: int) -> Array:
    return checkpoint.tensor(name, shape).astype(np.float64)
