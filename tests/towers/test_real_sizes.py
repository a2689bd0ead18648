"""CLIP's and SigLIP's towers at their real sizes with random weights, against transformers."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch
from random_models import relative, save_clip, text_features
from siglip_models import image_features, save_real
from siglip_models import text_features as siglip_text_features

from sharpzo.metrics import normalise
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.image import build_image, read_projection
from sharpzo.towers.prompts import layout
from sharpzo.towers.runtime import Session
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower

LARGE_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
LARGE_VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16,
                "num_hidden_layers": 24}  # fmt: skip
SIZES = {
    "b32": ({}, {"patch_size": 32}, 512, 2),
    "b16": ({}, {"patch_size": 16}, 512, None),
    "l14": (LARGE_TEXT, {**LARGE_VISION, "patch_size": 14}, 768, 2),
}
NAMES = ["cat", "qwertyuiop", "the_dog", "xy", "photo"]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SIZES))
def test_real_size(tmp_path, name):
    text, vision, width, eos = SIZES[name]
    model = save_clip(tmp_path, {"vocab_size": 49408, **text}, vision, eos=eos, width=width)
    checkpoint = Checkpoint.open(tmp_path)
    pixels = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    with closing(Session(build_image(checkpoint, 224, 224))) as session:
        (states,) = session.run(["states"], {"pixels": pixels})
    found = normalise(states @ read_projection(checkpoint).T)
    with torch.no_grad():
        out = model.get_image_features(pixel_values=torch.from_numpy(pixels)).pooler_output
    image_error = relative(found, (out / out.norm(dim=-1, keepdim=True)).numpy())

    prompts = layout(checkpoint, NAMES)
    tower = OnnxTextTower(checkpoint, NAMES)
    noise = np.random.default_rng(0).normal(size=(1, *tower.start.shape))
    contexts = (tower.start + noise).astype(np.float32)
    filler = [0] * prompts.n_context
    ids = [[prompts.sos_id, *filler, *suffix] for suffix in prompts.suffixes]
    text_error = relative(tower.forward(contexts), text_features(model, ids, contexts))
    print(f"{name}: image {image_error:.1e}, text {text_error:.1e}")
    assert image_error <= 1e-5
    assert text_error <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["siglip-b16", "siglip2-b16", "siglip2-b16-naflex"])
def test_real_size_of_siglip(tmp_path, name):
    """At 224 pixels, with SigLIP 2's vocabulary, and its towers for photos of any shape."""
    model, side = save_real(tmp_path, name)
    checkpoint = Checkpoint.open(tmp_path)
    pixels = np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32)
    with closing(OnnxImageTower(checkpoint)) as image:
        image_error = relative(image.forward(pixels), image_features(model, pixels))
    with closing(OnnxTextTower(checkpoint, ["cat", "bright dog"])) as tower:
        noise = np.random.default_rng(0).normal(size=(1, *tower.start.shape))
        contexts = (tower.start + noise).astype(np.float32)
        wanted = siglip_text_features(model, tower.prompts, contexts)
        text_error = relative(tower.forward(contexts), wanted)
    print(f"{name}: image {image_error:.1e}, text {text_error:.1e}")
    assert image_error <= 1e-5
    assert text_error <= 1e-5
