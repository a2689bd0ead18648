"""The image tower layer by layer in NumPy against the whole graph."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from random_models import TEXT, VISION, halve, relative, save_clip

import reference
from sharpzo.errors import CheckpointError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.image import build_image
from sharpzo.towers.lowmem.layers import LayeredImage, activate
from sharpzo.towers.runtime import Session

LIMIT = 5e-6


def check(folder: Path, height: int, width: int, count: int = 3) -> None:
    pixels = np.random.default_rng(0).normal(size=(count, 3, height, width)).astype(np.float32)
    checkpoint = Checkpoint.open(folder)
    tower = LayeredImage(checkpoint, height, width)
    with closing(Session(build_image(checkpoint, height, width), threads=1)) as whole:
        states, tokens, wanted = whole.run(["states", "tokens", "summary"], {"pixels": pixels})
    assert np.array_equal(wanted[:, 0], tokens[:, 0])
    assert relative(wanted[:, 1], tokens[:, 1:].mean(axis=1)) <= LIMIT
    wanted = np.concatenate([states[:, None], wanted], axis=1)
    for _ in range(2):  # the second time the layers are read again
        found = tower.summaries(pixels)
        assert all(relative(found[:, i], wanted[:, i]) <= LIMIT for i in range(5))
    assert relative(tower.summaries(pixels[1:2]), wanted[1:2]) <= LIMIT
    traced, summaries = tower.trace(pixels)
    assert relative(traced, tokens) <= LIMIT
    assert np.array_equal(summaries, tower.summaries(pixels))


@pytest.mark.parametrize("name", ["clip-quick", "clip-gelu", "clip-legacy"])
def test_clip_equals_the_whole_graph(models, name):
    check(models[name][0], 32, 32)


@pytest.mark.parametrize("size", [(70, 70), (84, 98), (50, 47)])
def test_dinov2_equals_the_whole_graph(models, size):
    check(models["dual"][0], *size)


def test_embedded_model(embedded):
    check(embedded[0], 112, 112, count=2)


@pytest.mark.parametrize("layers", [1, 2])
def test_towers_of_one_and_two_blocks(tmp_path, layers):
    vision = {"intermediate_size": 64, "image_size": 32, "patch_size": 8}
    save_clip(tmp_path, TEXT, VISION | vision | {"num_hidden_layers": layers})
    check(tmp_path, 32, 32)


def test_float16_files_are_converted_layer_by_layer(models, tmp_path):
    halve(models["clip-gelu"][0], tmp_path)
    check(tmp_path, 32, 32)


def test_a_size_that_the_tower_cannot_see_is_refused(models):
    with pytest.raises(CheckpointError, match=r"40x40.*32x32"):
        LayeredImage(Checkpoint.open(models["clip-gelu"][0]), 40, 40)


@pytest.mark.parametrize("kind", ["gelu", "quick_gelu", "gelu_pytorch_tanh"])
def test_activations_are_exact_up_to_rounding(kind):
    x = np.concatenate([np.linspace(-9, 9, 100_001), [-400, -100, 100, 400]]).astype(np.float32)
    found = x.copy()
    activate(found, kind)
    wanted = reference.activate(x.astype(np.float64), kind)
    # Both are x times a share, and float32 knows a share to 6e-8 when it has been computed exactly.
    assert (np.abs(found - wanted) <= 3e-7 * np.abs(x)).all()
    assert found[[-2, -1]].tolist() == [100, 400]
