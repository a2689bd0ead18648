"""OpenCLIP's transformers in plain NumPy, float64, from its own names of tensors and options: the
specification of those towers that have no transformers class. `test_open_clip_sizes.py` compares
the same towers with the library itself."""

from __future__ import annotations

from typing import Any

import numpy as np

import reference

Tensors = dict[str, np.ndarray]


def text_features(
    state: Tensors, config: dict[str, Any], ids: np.ndarray, context: np.ndarray | None = None
) -> np.ndarray:
    """Features (K, D) of filled-up ids (K, L); a ``context`` (n, m) replaces vectors behind the
    first token."""
    part = config["text_cfg"]
    own = "text." if "text.token_embedding.weight" in state else ""
    width, heads = part["width"], part["heads"]
    x = state[f"{own}token_embedding.weight"][ids]
    if context is not None:
        x[:, 1 : 1 + len(context)] = context
    seen = np.ones((len(ids), ids.shape[1]), bool)
    if part.get("embed_cls"):
        token = np.broadcast_to(state[f"{own}cls_emb"], (len(ids), 1, width))
        x = np.concatenate([x, token], axis=1)
        seen = np.concatenate([seen[:, :1], ids != 0], axis=1)  # one place off, as there
    length = x.shape[1]
    x = x + state[f"{own}positional_embedding"][:length]
    mask = np.broadcast_to(seen[:, None], (len(ids), length, length))
    if not part.get("no_causal_mask"):
        mask = mask & np.tri(length, dtype=bool)
    for layer in range(part["layers"]):
        name = f"{own}transformer.resblocks.{layer}"
        x = _block(state, name, x, heads, mask, _activation(config, part), _eps(part))
    x = _norm(state, f"{own}ln_final", x, _eps(part))
    how = "last" if part.get("embed_cls") else part.get("pool_type", "argmax")
    places = {
        "first": np.zeros(len(ids), int),
        "last": np.full(len(ids), length - 1),
        "argmax": ids.argmax(axis=1),
        "eos": (ids == part.get("eos_id", 2)).argmax(axis=1),
    }[how]
    pooled = x[np.arange(len(ids)), places]
    if part.get("proj_type") == "none":
        return pooled
    if part.get("proj_bias"):
        return (
            pooled @ state[f"{own}text_projection.weight"].T + state[f"{own}text_projection.bias"]
        )
    return pooled @ state[f"{own}text_projection"]


def image_features(state: Tensors, config: dict[str, Any], pixels: np.ndarray) -> np.ndarray:
    """Features (N, D), not of length 1, of pixels (N, 3, h, w)."""
    part, eps = config["vision_cfg"], _eps(config["vision_cfg"])
    heads = part["width"] // part.get("head_width", 64)
    kernel = state["visual.conv1.weight"]
    p, many = kernel.shape[2], len(pixels)
    rows, columns = pixels.shape[2] // p, pixels.shape[3] // p
    x = pixels.astype(np.float64)[:, :, : rows * p, : columns * p]
    x = x.reshape(many, 3, rows, p, columns, p).transpose(0, 2, 4, 1, 3, 5)
    x = x.reshape(many, rows * columns, -1) @ kernel.reshape(len(kernel), -1).T
    token = np.broadcast_to(state["visual.class_embedding"], (many, 1, x.shape[2]))
    x = np.concatenate([token, x], axis=1) + state["visual.positional_embedding"]
    if not part.get("no_ln_pre"):
        x = _norm(state, "visual.ln_pre", x, eps)
    for layer in range(part["layers"]):
        name = f"visual.transformer.resblocks.{layer}"
        x = _block(state, name, x, heads, None, _activation(config, part), eps)
    if part.get("attentional_pool"):
        x = _norm(state, "visual.ln_post", _pool(state, x, part.get("attn_pooler_heads", 8)), eps)
    elif not part.get("final_ln_after_pool"):
        x = _norm(state, "visual.ln_post", x, eps)
    pooled = x[:, 1:].mean(axis=1) if part.get("pool_type") == "avg" else x[:, 0]
    if part.get("final_ln_after_pool") and not part.get("attentional_pool"):
        pooled = _norm(state, "visual.ln_post", pooled, eps)
    return pooled @ state["visual.proj"]


def _pool(state: Tensors, x: np.ndarray, heads: int) -> np.ndarray:
    name = "visual.attn_pool"
    read = _norm(state, f"{name}.ln_k", x, 1e-5)
    asking = _norm(state, f"{name}.ln_q", state[f"{name}.query"], 1e-5)
    wide = asking.shape[1]
    if f"{name}.attn.in_proj_weight" in state:
        weights = np.split(state[f"{name}.attn.in_proj_weight"], 3)
    else:
        weights = [state[f"{name}.attn.{one}_proj_weight"] for one in "qkv"]
    biases = np.split(state[f"{name}.attn.in_proj_bias"], 3)
    query, key, value = (
        of @ weight.T + bias
        for of, weight, bias in zip((asking[None], read, read), weights, biases, strict=True)
    )
    query = np.broadcast_to(query, (len(x), *query.shape[1:]))
    mixed = _attend(query, key, value, heads, None)
    assert mixed.shape[2] == wide
    return mixed @ state[f"{name}.attn.out_proj.weight"].T + state[f"{name}.attn.out_proj.bias"]


def _block(
    state: Tensors, name: str, x: np.ndarray, heads: int, mask: Any, activation: str, eps: float
) -> np.ndarray:
    h = _norm(state, f"{name}.ln_1", x, eps)
    h = h @ state[f"{name}.attn.in_proj_weight"].T + state[f"{name}.attn.in_proj_bias"]
    mixed = _attend(*np.split(h, 3, axis=2), heads, mask)
    added = mixed @ state[f"{name}.attn.out_proj.weight"].T + state[f"{name}.attn.out_proj.bias"]
    x = x + added * state.get(f"{name}.ls_1.gamma", 1)
    h = _norm(state, f"{name}.ln_2", x, eps)
    h = h @ state[f"{name}.mlp.c_fc.weight"].T + state[f"{name}.mlp.c_fc.bias"]
    h = reference.activate(h, activation)
    h = h @ state[f"{name}.mlp.c_proj.weight"].T + state[f"{name}.mlp.c_proj.bias"]
    return x + h * state.get(f"{name}.ls_2.gamma", 1)


def _attend(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, heads: int, mask: Any
) -> np.ndarray:
    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    query, key, value = split(query), split(key), split(value)
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(query.shape[3])
    if mask is not None:
        scores = np.where(mask[:, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = weights / weights.sum(axis=-1, keepdims=True) @ value
    return mixed.transpose(0, 2, 1, 3).reshape(len(mixed), mixed.shape[2], -1)


def _norm(state: Tensors, name: str, x: np.ndarray, eps: float) -> np.ndarray:
    return reference.norm(x, (state[f"{name}.weight"], state[f"{name}.bias"]), eps)


def _eps(part: dict[str, Any]) -> float:
    return (part.get("norm_kwargs") or {}).get("eps", 1e-5)


def _activation(config: dict[str, Any], part: dict[str, Any]) -> str:
    if (part.get("act_kwargs") or {}).get("approximate") == "tanh":
        return "gelu_pytorch_tanh"
    return "quick_gelu" if config.get("quick_gelu") else "gelu"
