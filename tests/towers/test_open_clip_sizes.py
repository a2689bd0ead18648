"""Towers at their real sizes with random weights, against OpenCLIP's own models."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch
from open_clip_models import library, randomise, save
from random_models import relative

from sharpzo.metrics import normalise
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.families import image_family
from sharpzo.towers.runtime import Session
from sharpzo.towers.tower import OnnxTextTower

NAMES = ["cat", "qwertyuiop", "the_dog", "Golden retriever's", "naïve café 42"]
MODELS = ["RN50", "RN101", "ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16", "ViT-B-16-quickgelu"]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")
def test_real_size(tmp_path, name):
    open_clip = library()
    model = randomise(open_clip.create_model(name))
    save(tmp_path, open_clip.get_model_config(name), model.state_dict())
    checkpoint = Checkpoint.open(tmp_path)
    side, family = checkpoint.image.image_size, image_family(checkpoint)
    pixels = np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32)
    with closing(Session(family.build(checkpoint, side, side))) as session:
        (states,) = session.run(["states"], {"pixels": pixels})
    words = [f"a photo of a {one.replace('_', ' ')}." for one in NAMES]
    with torch.no_grad():
        photo = model.encode_image(torch.from_numpy(pixels), normalize=True).numpy()
        text = model.encode_text(open_clip.get_tokenizer(name)(words)).numpy()
    image_error = relative(normalise(states @ family.projection(checkpoint).T), photo)
    tower = OnnxTextTower(checkpoint, NAMES)
    text_error = relative(tower.forward(tower.start[None])[0], text)
    print(f"{name}: image {image_error:.1e}, text {text_error:.1e}")
    assert image_error <= 1e-5
    assert text_error <= 1e-5
