"""The frozen image tower: DINOv2 ViT-S/14 read from an ONNX export, named as transformers names it.

Only the initialisers of the export are used. Its head (a 2x2 average of the patch tokens) is
dropped: our feature is the class token after the final norm. The exporter merged two equal tensors,
the class token and the class token's own position, so one value is used for both here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
SIZE = 112  # 8x8 patches: about 50 photos per second on two plain cores, against 11 at 224
BLOCKS = 12


def config() -> Dinov2Config:
    """Return the configuration of ViT-S/14 with its original 37x37 position table (518 px)."""
    return Dinov2Config(
        hidden_size=384, num_hidden_layers=BLOCKS, num_attention_heads=6, mlp_ratio=4,
        hidden_act="gelu", layer_norm_eps=1e-6, image_size=518, patch_size=14, qkv_bias=True,
        layerscale_value=1.0, use_swiglu_ffn=False, use_mask_token=True, apply_layernorm=True,
    )  # fmt: skip


def read_export(path: Path) -> dict[str, torch.Tensor]:
    """Return the export's weights as a state dict of `transformers.Dinov2Model` (float32)."""
    graph = onnx.load(str(path)).graph
    raw = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    # Linear weights lost their names in the export: find each by the MatMul node that reads it.
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in raw:
            place = node.name.strip("/").removesuffix("/MatMul").replace("/", ".")
            raw[f"model.{place}.weight"] = np.ascontiguousarray(raw[node.input[1]].T)
    positions = next(a for a in raw.values() if a.shape == (1, 37 * 37, 384))
    cls = raw["model.cls_token"]

    state = {
        "embeddings.cls_token": cls,
        "embeddings.mask_token": np.zeros((1, 384), np.float32),  # used in pretraining only
        "embeddings.position_embeddings": np.concatenate([cls, positions], axis=1),
        "embeddings.patch_embeddings.projection.weight": raw["model.patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": raw["model.patch_embed.proj.bias"],
        "layernorm.weight": raw["model.norm.weight"],
        "layernorm.bias": raw["model.norm.bias"],
    }
    for i in range(BLOCKS):
        ours, theirs = f"encoder.layer.{i}", f"model.blocks.{i}"
        for kind in ("weight", "bias"):
            parts = np.split(raw[f"{theirs}.attn.qkv.{kind}"], 3)
            for name, part in zip(("query", "key", "value"), parts, strict=True):
                state[f"{ours}.attention.attention.{name}.{kind}"] = part
            state[f"{ours}.attention.output.dense.{kind}"] = raw[f"{theirs}.attn.proj.{kind}"]
            for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                state[f"{ours}.{name}.{kind}"] = raw[f"{theirs}.{name}.{kind}"]
        for j in (1, 2):
            state[f"{ours}.layer_scale{j}.lambda1"] = raw[f"{theirs}.ls{j}.gamma"]
    return {k: torch.from_numpy(np.array(v, dtype=np.float32)) for k, v in state.items()}


def load(state: dict[str, torch.Tensor]) -> Dinov2Model:
    """Return the tower with these weights, named as in published checkpoints."""
    model = Dinov2Model.from_pretrained(None, config=config(), state_dict=state)
    return model.eval()


def build(path: Path) -> Dinov2Model:
    """Return the tower in float32 with weights rounded to float16, exactly as they are shipped."""
    return load({name: weight.half().float() for name, weight in read_export(path).items()})


def pixels(image: Image.Image) -> np.ndarray:
    """Resize the shorter edge to SIZE (bicubic), crop the centre, normalise: float32 (3, H, W)."""
    image = image.convert("RGB")
    w, h = image.size
    short = min(w, h)
    new = (SIZE, int(SIZE * h / w)) if w == short else (int(SIZE * w / h), SIZE)
    image = image.resize(new, Image.Resampling.BICUBIC)
    left, top = (new[0] - SIZE) // 2, (new[1] - SIZE) // 2
    array = np.asarray(image.crop((left, top, left + SIZE, top + SIZE)), np.float32) / 255
    return ((array - MEAN) / STD).transpose(2, 0, 1).astype(np.float32)


@torch.inference_mode()
def encode(model: Dinov2Model, batch: np.ndarray) -> np.ndarray:
    """Return the class tokens after the final norm: (N, 3, H, W) float32 -> (N, 384) float32."""
    return model(pixel_values=torch.from_numpy(batch)).pooler_output.numpy()
