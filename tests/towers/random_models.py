"""Random checkpoints, saved by transformers, with a small hand-made vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)  # the models are tiny: threads only get in each other's way

MERGES = ("c a", "ca t</w>", "d o", "do g</w>", "t h", "th e</w>", "p h", "o t", "ph ot",
          "phot o</w>", "o f</w>", "i n", "in g</w>")  # fmt: skip
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": 32}  # fmt: skip
VISION = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def write_vocabulary(folder: Path) -> tuple[int, int]:
    """Write vocab.json and merges.txt; return the ids of SOS and EOS, the highest two."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    pieces += [merge.replace(" ", "") for merge in MERGES]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    ids = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(ids), "utf-8")
    (folder / "merges.txt").write_text("\n".join(("#version: 0.2", *MERGES, "")), "utf-8")
    return len(ids) - 2, len(ids) - 1


def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter a size that matters; the usual initialisation hides mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("logit_scale"):
                parameter.fill_(3.0)
            elif "norm" in name or "lambda" in name or "layrnorm" in name:
                parameter.copy_(float(name.endswith("weight") or "lambda" in name) + 0.2 * noise)
            elif parameter.ndim < 2:
                parameter.copy_(0.2 * noise)
            elif "embedding" in name and parameter.ndim < 4:
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)


def save_clip(folder: Path, text: dict, vision: dict, eos: int | None = None, width: int = 24):
    sos_id, eos_id = write_vocabulary(folder)
    frame = {"bos_token_id": sos_id, "eos_token_id": eos_id if eos is None else eos}
    config = transformers.CLIPConfig(
        text_config={"vocab_size": eos_id + 1, **text, **frame},
        vision_config=vision,
        projection_dim=width,
    )
    model = transformers.CLIPModel(config).eval()
    randomise(model)
    model.save_pretrained(folder)
    return model


def save_dual(folder: Path):
    sos_id, eos_id = write_vocabulary(folder)
    text = transformers.CLIPTextConfig(
        **TEXT, vocab_size=eos_id + 1, bos_token_id=sos_id, eos_token_id=eos_id, hidden_act="gelu"
    )
    vision = transformers.Dinov2Config(**VISION, mlp_ratio=2, image_size=70, patch_size=14)
    config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(
        vision, text, projection_dim=24
    )
    model = transformers.VisionTextDualEncoderModel(config).eval()
    randomise(model)
    model.save_pretrained(folder)
    size = {"height": 42, "width": 42}
    settings = {"image_processor_type": "BitImageProcessor", "size": size, "crop_size": size}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return model


def halve(source: Path, target: Path) -> None:
    """Copy a checkpoint into a folder, its weights as float16."""
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    tensors = load_file(source / "model.safetensors")
    halves = {name: array.astype(np.float16) for name, array in tensors.items()}
    save_file(halves, target / "model.safetensors")


def text_features(model, ids: list[list[int]], contexts: np.ndarray) -> np.ndarray:
    """Return transformers' features (P, K, D), one unpadded prompt at a time.

    Contexts are put in place of the token embeddings behind SOS.
    """
    table = model.text_model.embeddings.token_embedding
    rows = []
    for context in contexts:
        n = len(context)

        def replace(module, inputs, output, context=context, n=n):
            output[:, 1 : 1 + n] = torch.from_numpy(context)
            return output

        hook = table.register_forward_hook(replace)
        with torch.no_grad():
            rows.append(
                [model.get_text_features(input_ids=torch.tensor([i])).pooler_output[0] for i in ids]
            )
        hook.remove()
    return np.stack([torch.stack(row).numpy() for row in rows])


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())
