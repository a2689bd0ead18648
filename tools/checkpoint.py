"""Write the model folder in the layout of `transformers.VisionTextDualEncoderModel`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import CLIPTextModelWithProjection, VisionTextDualEncoderConfig

import dinov2
import text_tower

IMAGE, TEXT = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def write_image(out: Path, image: dict[str, torch.Tensor]) -> None:
    """Write the image tower, which never changes: shard 1."""
    _shard(out / IMAGE, {f"vision_model.{k}": v for k, v in image.items()})


def write_text(out: Path, text: CLIPTextModelWithProjection, weights: dict[str, torch.Tensor],
               projection: np.ndarray, tokenizer: Tokenizer) -> None:  # fmt: skip
    """Write the text tower with both projections (shard 2) and the files that describe the model.

    `weights` holds the parameters of `text` by name, and `logit_scale`.
    """
    unit = projection / np.linalg.norm(projection, axis=1).mean()  # the scale falls out later
    tensors = {**weights, "visual_projection.weight": torch.from_numpy(unit)}
    _shard(out / TEXT, tensors)
    index: dict[str, str] = {}
    total = 0
    for name in (IMAGE, TEXT):
        tensors = load_file(out / name)
        index |= dict.fromkeys(tensors, name)
        total += sum(t.numel() * t.element_size() for t in tensors.values())
    _json(out / "model.safetensors.index.json",
          {"metadata": {"total_size": total}, "weight_map": index})  # fmt: skip

    config = VisionTextDualEncoderConfig(
        vision_config=dinov2.config().to_dict(), text_config=text_tower.config().to_dict(),
        projection_dim=text_tower.WIDTH, logit_scale_init_value=float(weights["logit_scale"]),
        architectures=["VisionTextDualEncoderModel"], dtype="float16",
    )  # fmt: skip
    _json(out / "config.json", {**config.to_dict(), "transformers_version": None})
    tokenizer.save(str(out / "tokenizer.json"))
    special = {"pad_token": "[PAD]", "bos_token": "[SOS]", "eos_token": "[EOS]"}
    _json(out / "special_tokens_map.json", special)
    _json(out / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": text_tower.CONTEXT,
        "model_input_names": ["input_ids", "attention_mask"], "padding_side": "right",
        "clean_up_tokenization_spaces": False, **special,
    })  # fmt: skip
    _json(out / "preprocessor_config.json", {
        "image_processor_type": "BitImageProcessor", "do_resize": True,
        "size": {"shortest_edge": dinov2.SIZE}, "resample": 3, "do_center_crop": True,
        "crop_size": {"height": dinov2.SIZE, "width": dinov2.SIZE}, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True,
        "image_mean": list(dinov2.MEAN), "image_std": list(dinov2.STD),
    })  # fmt: skip


def _shard(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    half = {k: v.detach().half().contiguous() for k, v in sorted(tensors.items())}
    save_file(half, unfinished, {"format": "pt"})
    unfinished.chmod(0o644)  # the writer makes it readable by its owner alone
    unfinished.rename(file)


def _json(file: Path, content: dict) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
