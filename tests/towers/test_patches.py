"""What is read of patches, against transformers' hidden states."""

import numpy as np
import pytest
import torch
from random_models import relative

from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.patches import depth
from sharpzo.towers.tower import OnnxImageTower


# 4 patches a side, of which the middle 2 are read; 3, of which all are.
@pytest.mark.parametrize(
    ("name", "side", "grid", "read"),
    [("clip-quick", 32, 4, slice(1, 3)), ("dual", 42, 3, slice(0, 3))],
)
def test_it_is_mean_and_deviation_of_the_middle(models, name, side, grid, read):
    folder, model = models[name]
    pixels = np.random.default_rng(0).normal(size=(3, 3, side, side)).astype(np.float32)
    with torch.no_grad():
        hidden = model.vision_model(torch.from_numpy(pixels), output_hidden_states=True)
    checkpoint = Checkpoint.open(folder)
    tokens = hidden.hidden_states[depth(checkpoint.image.layers)].numpy()[:, 1:]
    tokens = tokens.reshape(3, grid, grid, -1)[:, read, read].reshape(3, -1, tokens.shape[-1])
    wanted = np.stack([tokens.mean(axis=1), tokens.std(axis=1)], axis=1)
    for batch in (3, 1):
        tower = OnnxImageTower(checkpoint, batch=batch, threads=1)
        assert relative(tower.summarise(pixels)[:, 3:], wanted) < 1e-5
