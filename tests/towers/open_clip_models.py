"""Random checkpoints in the format of OpenCLIP, and its own models beside them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"


def library() -> Any:
    """OpenCLIP, also where torchvision's operators, which it does not use, miss their CUDA."""
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip_torch is not installed")
    register, idle = torch.library.register_fake, lambda *a, **k: lambda function: function
    try:
        torch.library.register_fake = idle
        importlib.import_module("torchvision")
    finally:
        torch.library.register_fake = register
    return importlib.import_module("open_clip")


def randomise(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every parameter and statistic a size that matters."""
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: torch.Tensor) -> torch.Tensor:
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if name.endswith("logit_scale"):
                tensor.fill_(3.0)
            elif name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif tensor.ndim < 2:
                gain = name.endswith("weight")  # of a norm
                tensor.copy_(float(gain) + 0.2 * noise(tensor))
            elif "embedding" in name:
                tensor.copy_(0.5 * noise(tensor))
            else:
                fan = tensor[0].numel() if "proj" not in name.rsplit(".", 1)[-1] else len(tensor)
                tensor.copy_(noise(tensor) / fan**0.5)
    return model.eval()


def save(folder: Path, config: dict[str, Any], state: dict[str, torch.Tensor], **more: Any) -> Path:
    """Write a folder as OpenCLIP does; ``more`` is beside the model's configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({"model_cfg": config, **more}))
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(state, folder / WEIGHTS)
    return folder


def from_transformers(source: Path, target: Path, prefix: str = "", **options: Any) -> Path:
    """Write a CLIP checkpoint of transformers as OpenCLIP has it, its text tower below ``prefix``;
    ``options`` are the configuration's."""
    from safetensors.torch import load_file

    config = json.loads((source / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    tensors = load_file(source / "model.safetensors")
    found: dict[str, torch.Tensor] = {"logit_scale": tensors["logit_scale"]}
    words = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj",
             "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}  # fmt: skip
    for tower, own, sizes in (("text", prefix, text), ("vision", "visual.", vision)):
        for layer in range(sizes["num_hidden_layers"]):
            name = f"{tower}_model.encoder.layers.{layer}"
            other = f"{own}transformer.resblocks.{layer}"
            for kind in ("weight", "bias"):
                found[f"{other}.attn.in_proj_{kind}"] = torch.cat(
                    [tensors[f"{name}.self_attn.{one}_proj.{kind}"] for one in "qkv"]
                )
                for ours, theirs in words.items():
                    found[f"{other}.{theirs}.{kind}"] = tensors[f"{name}.{ours}.{kind}"]
    for kind in ("weight", "bias"):
        found[f"{prefix}ln_final.{kind}"] = tensors[f"text_model.final_layer_norm.{kind}"]
        found[f"visual.ln_pre.{kind}"] = tensors[f"vision_model.pre_layrnorm.{kind}"]
        found[f"visual.ln_post.{kind}"] = tensors[f"vision_model.post_layernorm.{kind}"]
    embeddings = "text_model.embeddings"
    found |= {
        f"{prefix}token_embedding.weight": tensors[f"{embeddings}.token_embedding.weight"],
        f"{prefix}positional_embedding": tensors[f"{embeddings}.position_embedding.weight"],
        f"{prefix}text_projection": tensors["text_projection.weight"].T,
        "visual.proj": tensors["visual_projection.weight"].T,
    }
    embeddings = "vision_model.embeddings"
    found |= {
        "visual.class_embedding": tensors[f"{embeddings}.class_embedding"],
        "visual.conv1.weight": tensors[f"{embeddings}.patch_embedding.weight"],
        "visual.positional_embedding": tensors[f"{embeddings}.position_embedding.weight"],
    }
    model = {
        "embed_dim": config["projection_dim"],
        "quick_gelu": text["hidden_act"] == "quick_gelu",
        "text_cfg": {
            "vocab_size": text["vocab_size"],
            "context_length": text["max_position_embeddings"],
            "width": text["hidden_size"],
            "heads": text["num_attention_heads"],
            "layers": text["num_hidden_layers"],
            "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
        },
        "vision_cfg": {
            "layers": vision["num_hidden_layers"],
            "width": vision["hidden_size"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"],
            "patch_size": vision["patch_size"],
            "image_size": vision["image_size"],
        },
        **options,
    }
    save(target, model, found)
    for name in ("vocab.json", "merges.txt"):
        (target / name).write_bytes((source / name).read_bytes())
    return target


def with_options(made: Path, folder: Path, part: str, options: dict) -> Path:
    """The model of ``made`` with options of one tower, and the tensors that these ask for."""
    from safetensors.torch import load_file

    config = json.loads((made / CONFIG).read_text())["model_cfg"]
    config[f"{part}_cfg"].update(options)
    state, generator = load_file(made / WEIGHTS), torch.Generator().manual_seed(3)
    m, wide = config[f"{part}_cfg"]["width"], config["embed_dim"]

    def fresh(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    def norm(name: str, width: int) -> None:
        state[f"{name}.weight"] = 1 + 0.2 * torch.randn(width, generator=generator)
        state[f"{name}.bias"] = 0.2 * torch.randn(width, generator=generator)

    if options.get("embed_cls"):
        state["cls_emb"] = 0.5 * torch.randn(m, generator=generator)
        state["positional_embedding"] = torch.cat([state["positional_embedding"], fresh(1, m)])
    if options.get("proj_bias"):
        state["text_projection.weight"] = state.pop("text_projection").T.contiguous()
        state["text_projection.bias"] = fresh(wide)
    if options.get("no_ln_pre"):
        state = {name: one for name, one in state.items() if "ln_pre" not in name}
    if options.get("ls_init_value"):
        for layer in range(config["vision_cfg"]["layers"]):
            for number in (1, 2):
                name = f"visual.transformer.resblocks.{layer}.ls_{number}.gamma"
                state[name] = 1 + 0.3 * torch.randn(m, generator=generator)
    if options.get("attentional_pool"):
        name = "visual.attn_pool"
        state[f"{name}.query"] = torch.randn((5, wide), generator=generator)
        for one, width in zip("qkv", (wide, m, m), strict=True):
            state[f"{name}.attn.{one}_proj_weight"] = 2 * fresh(wide, width)
        state[f"{name}.attn.in_proj_bias"] = fresh(3 * wide)
        state[f"{name}.attn.out_proj.weight"] = fresh(wide, wide)
        state[f"{name}.attn.out_proj.bias"] = fresh(wide)
        norm(f"{name}.ln_q", wide)
        norm(f"{name}.ln_k", m)
        norm("visual.ln_post", wide)
        state["visual.proj"] = fresh(wide, wide)
    save(folder, config, state)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_bytes((made / name).read_bytes())
    return folder


def features(model: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Features of photos, of length 1."""
    with torch.no_grad():
        found = model.encode_image(torch.from_numpy(pixels), normalize=True)
    return found.numpy()


def save_resnet(
    clip: Path,
    target: Path,
    stages: tuple[int, int, int, int] = (1, 2, 1, 1),
    stem: int = 8,
    heads: int = 4,
    side: int = 64,
) -> Path:
    """Write a folder of OpenCLIP with a small ResNet, and the text tower of another one."""
    from safetensors.torch import load_file

    from sharpzo.towers.bottlenecks import shapes
    from sharpzo.towers.config import ResNetConfig

    config = json.loads((clip / CONFIG).read_text())["model_cfg"]
    tower = ResNetConfig(stages, stem, heads, side, config["embed_dim"])
    generator, found = torch.Generator().manual_seed(0), {}
    for name, shape in shapes(tower).items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("running_var"):
            noise = 0.5 + torch.rand(shape, generator=generator)
        elif len(shape) == 1:
            noise = float(name.endswith("weight")) + 0.2 * noise
        elif "embedding" not in name:
            noise = noise / noise[0].numel() ** 0.5
        found[f"visual.{name}"] = noise
        if name.endswith("running_var"):
            found[f"visual.{name[:-11]}num_batches_tracked"] = torch.tensor(7)
    words = load_file(clip / "open_clip_model.safetensors")
    found |= {name: one for name, one in words.items() if not name.startswith("visual.")}
    sizes = {"layers": list(stages), "width": stem, "image_size": side, "patch_size": None,
             "head_width": 32 * stem // heads}  # fmt: skip
    save(target, {**config, "vision_cfg": sizes}, found)
    for name in ("vocab.json", "merges.txt"):
        (target / name).write_bytes((clip / name).read_bytes())
    return target
