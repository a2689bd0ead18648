"""Towers at their real sizes with random weights, against OpenCLIP's own models."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch
from open_clip_models import library, randomise, save
from random_models import relative
from siglip_models import write_tokenizer

from sharpzo.metrics import normalise
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.families import image_family
from sharpzo.towers.runtime import Session
from sharpzo.towers.tower import OnnxTextTower

NAMES = ["cat", "qwertyuiop", "the_dog", "Golden retriever's", "naïve café 42"]
MODELS = ["RN50", "RN101", "ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16", "ViT-B-16-quickgelu",
          "coca_ViT-B-32", "ViT-M-16-alt"]  # fmt: skip
# Text towers beside image towers that are not read here, or with tokenizers that are not at hand.
TEXTS = ["MobileCLIP-S1", "ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "ViT-L-14-CLIPA",
         "ViT-H-14-worldwide"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")
def test_real_size(tmp_path, name):
    open_clip = library()
    model = randomise(open_clip.create_model(name))
    save(tmp_path, open_clip.get_model_config(name), model.state_dict())
    checkpoint = Checkpoint.open(tmp_path)
    image_error = image_difference(model, checkpoint)
    words = [f"a photo of a {one.replace('_', ' ')}." for one in NAMES]
    with torch.no_grad():
        text = model.encode_text(open_clip.get_tokenizer(name)(words), normalize=True).numpy()
    tower = OnnxTextTower(checkpoint, NAMES)
    text_error = relative(normalise(tower.forward(tower.start[None])[0]), text)
    print(f"{name}: image {image_error:.1e}, text {text_error:.1e}")
    assert image_error <= 1e-5
    assert text_error <= 1e-5


def image_difference(model, checkpoint) -> float:
    side, family = checkpoint.image.image_size, image_family(checkpoint)
    pixels = np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32)
    with closing(Session(family.build(checkpoint, side, side))) as session:
        (states,) = session.run(["states"], {"pixels": pixels})
    with torch.no_grad():
        photo = model.encode_image(torch.from_numpy(pixels), normalize=True).numpy()
    return relative(normalise(states @ family.projection(checkpoint).T), photo)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.filterwarnings("ignore")
def test_real_size_of_a_text_tower(tmp_path, name):
    """With a small tokenizer of words: the ids are compared elsewhere, the tower is here."""
    open_clip = library()
    config = open_clip.get_model_config(name)
    sizes = {"vocab_size": min(config["text_cfg"]["vocab_size"], 49408)}
    config["text_cfg"] |= sizes | {"layers": min(config["text_cfg"]["layers"], 12)}
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"] = open_clip.get_model_config("ViT-B-32")["vision_cfg"]
    config["vision_cfg"]["layers"] = 4
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    bias = config.pop("init_logit_bias", None)
    model = randomise(kind(**config, init_logit_bias=bias))
    save(tmp_path, config, model.state_dict())
    if config["text_cfg"].get("hf_tokenizer_name"):
        write_tokenizer(tmp_path)
        if config["text_cfg"].get("pool_type") == "eos":
            frame_as_xlm(tmp_path)
    checkpoint = Checkpoint.open(tmp_path)
    tower = OnnxTextTower(checkpoint, ["cat", "bright dog"])
    prompts = tower.prompts
    ids = np.zeros((2, checkpoint.text.context_length), int)
    for row, suffix in zip(ids, prompts.suffixes, strict=True):
        found = [*prompts.before, *prompts.prefix, *suffix]
        row[: len(found)] = found
    with torch.no_grad():
        text = model.encode_text(torch.from_numpy(ids), normalize=True).numpy()
    text_error = relative(normalise(tower.untuned), text)
    image_error = image_difference(model, checkpoint)
    print(f"{name}: image {image_error:.1e}, text {text_error:.1e}")
    assert image_error <= 1e-5
    assert text_error <= 1e-5


def frame_as_xlm(folder) -> None:
    """<s> words </s>, the latter of id 2."""
    from tokenizers import Tokenizer, processors

    core = Tokenizer.from_file(str(folder / "tokenizer.json"))
    core.post_processor = processors.BertProcessing(("<unk>", 2), ("<eos>", 1))
    core.save(str(folder / "tokenizer.json"))
