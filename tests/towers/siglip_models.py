"""Random SigLIP checkpoints, saved by transformers, with a small tokenizer of words."""

from __future__ import annotations

import json
from pathlib import Path

from towers.random_models import randomise, torch, transformers

PIECES = ["<pad>", "<eos>", "<unk>", "a", "photo", "of", "the", "cat", "dog", "dark", "bright",
          "doing", ".", "s", "'"]  # fmt: skip
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": 16}  # fmt: skip
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
          "num_attention_heads": 4, "patch_size": 8}  # fmt: skip


def write_tokenizer(folder: Path, kind: str = "GemmaTokenizer", pad: str | None = "<pad>") -> None:
    """A tokenizer.json that splits at spaces and ends sentences with <eos>, as SigLIP's do."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    ids = {piece: i for i, piece in enumerate(PIECES)}
    core = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", ids["<eos>"])]
    )
    folder.mkdir(parents=True, exist_ok=True)
    core.save(str(folder / "tokenizer.json"))
    said = {"tokenizer_class": kind} | ({"pad_token": pad} if pad else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(said))


def save_siglip(folder: Path, **text):
    """SigLIP, or SigLIP 2 for one size of photo."""
    write_tokenizer(folder)
    config = transformers.SiglipConfig(
        text_config={**TEXT, "vocab_size": len(PIECES), **text},
        vision_config={**VISION, "image_size": 32},
    )
    return _save(transformers.SiglipModel(config), folder, 32)


def save_siglip2(folder: Path):
    """SigLIP 2 for photos of any shape."""
    write_tokenizer(folder)
    config = transformers.Siglip2Config(
        text_config={**TEXT, "vocab_size": len(PIECES), "projection_size": 32},
        vision_config={**VISION, "num_patches": 16},
    )
    return _save(transformers.Siglip2Model(config), folder, 32)


def save_real(folder: Path, name: str):
    """A model of base size, transformers' own defaults, and its photos' side."""
    write_tokenizer(folder)
    text = {"vocab_size": 32_000 if name == "siglip-b16" else 256_000}
    if name.endswith("naflex"):
        config = transformers.Siglip2Config(text_config={**text, "projection_size": 768})
        return _save(transformers.Siglip2Model(config), folder, 256), 256
    side = 224
    config = transformers.SiglipConfig(text_config=text, vision_config={"image_size": side})
    return _save(transformers.SiglipModel(config), folder, side), side


def _save(model, folder: Path, side: int):
    model = model.eval()
    randomise(model)
    with torch.no_grad():
        model.logit_bias.fill_(-6.0)
    model.save_pretrained(folder)
    settings = {"size": {"height": side, "width": side}, "do_center_crop": False,
                "image_mean": [0.5] * 3, "image_std": [0.5] * 3}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return model


def text_features(model, prompts, contexts):
    """transformers' features (P, K, D) of prompts whose context vectors are replaced."""
    table = model.text_model.embeddings.token_embedding
    first, rows = len(prompts.before), []
    filler = [0] * prompts.n_context
    ids = [[*prompts.before, *filler, *suffix] for suffix in prompts.suffixes]
    ids = torch.tensor([row + [prompts.pad] * (prompts.length - len(row)) for row in ids])
    for context in contexts:

        def replace(module, inputs, output, context=context):
            output[:, first : first + len(context)] = torch.from_numpy(context)
            return output

        hook = table.register_forward_hook(replace)
        with torch.no_grad():
            rows.append(model.text_model(input_ids=ids).pooler_output)
        hook.remove()
    return torch.stack(rows).numpy()


def image_features(model, pixels):
    """transformers' features (B, D) of pixels (B, 3, h, w)."""
    pixels, more = torch.from_numpy(pixels), {}
    if model.config.model_type == "siglip2":
        patch = model.config.vision_config.patch_size
        many, _, height, width = pixels.shape
        rows, columns = height // patch, width // patch
        parts = pixels.reshape(many, 3, rows, patch, columns, patch).permute(0, 2, 4, 3, 5, 1)
        pixels = parts.reshape(many, rows * columns, -1)
        more = {
            "pixel_attention_mask": torch.ones(many, rows * columns, dtype=torch.int64),
            "spatial_shapes": torch.tensor([[rows, columns]] * many),
        }
    with torch.no_grad():
        return model.vision_model(pixel_values=pixels, **more).pooler_output.numpy()
