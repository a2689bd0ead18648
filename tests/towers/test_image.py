"""The image graph against transformers."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch
from PIL import Image
from random_models import relative

from sharpzo.errors import CheckpointError, InputError
from sharpzo.metrics import normalise
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.image import build_image, read_projection, resize_positions
from sharpzo.towers.runtime import Session
from sharpzo.towers.tower import OnnxImageTower

LIMIT = 1e-5


def wanted(model, pixels: np.ndarray, **options) -> np.ndarray:
    with torch.no_grad():
        out = model.get_image_features(torch.from_numpy(pixels), **options).pooler_output
    return (out / out.norm(dim=-1, keepdim=True)).numpy()


def check(folder, model, height: int, width: int, count: int = 3, size=None, **options) -> None:
    pixels = np.random.default_rng(0).normal(size=(count, 3, height, width)).astype(np.float32)
    checkpoint = Checkpoint.open(folder, size)
    with closing(Session(build_image(checkpoint, height, width))) as session:
        (states,) = session.run(["states"], {"pixels": pixels})
    found = normalise(states @ read_projection(checkpoint).T)
    assert relative(found, wanted(model, pixels, **options)) <= LIMIT


@pytest.mark.parametrize("name", ["clip-quick", "clip-gelu", "clip-legacy"])
def test_clip_equals_transformers(models, name):
    check(*models[name], 32, 32)


@pytest.mark.parametrize("size", [16, 40, 64])
def test_clip_equals_transformers_at_another_size(models, size):
    check(*models["clip-quick"], size, size, size=size, interpolate_pos_encoding=True)


@pytest.mark.parametrize("size", [(70, 70), (42, 42), (84, 98), (50, 47)])
def test_dinov2_equals_transformers_at_any_size(models, size):
    check(*models["dual"], *size)


def test_embedded_model(embedded):
    check(*embedded, 112, 112, count=2)


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (37, 37), (5, 40)])
def test_positions_equal_torch(size):
    table = np.random.default_rng(0).normal(size=(1 + 37 * 37, 6)).astype(np.float32)
    grid = torch.from_numpy(table[1:].reshape(1, 37, 37, 6)).permute(0, 3, 1, 2)
    out = torch.nn.functional.interpolate(grid, size=size, mode="bicubic", align_corners=False)
    patches = out.permute(0, 2, 3, 1).reshape(-1, 6).numpy()
    found = resize_positions(table, *size)
    assert np.array_equal(found[0], table[0])
    assert relative(found[1:], patches) <= 5e-6  # torch's own rounding, float32


def photos(count: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [
        generator.integers(0, 256, (40 + 3 * i, 60 - 2 * i, 3), dtype=np.uint8)
        for i in range(count)
    ]


def test_states_are_lazy_and_reports(models):
    tower = OnnxImageTower(Checkpoint.open(models["dual"][0]), batch=4, threads=1)
    taken, received = [], []

    def source():
        for i, photo in enumerate(photos(10)):
            taken.append(i)
            yield photo if i % 2 else Image.fromarray(photo)

    found = tower.states(source(), progress=lambda n: received.append((n, len(taken))))
    assert [done for done, _ in received] == [4, 8, 10]
    assert all(taken <= done + 4 for done, taken in received)  # one batch ahead at most
    assert found.shape == (10, tower.projection.shape[1])
    assert found.dtype == np.float32
    alone = np.concatenate([tower.states([photo]) for photo in photos(10)])
    assert relative(found, alone) <= 3e-6
    assert tower.states([]).shape == (0, tower.projection.shape[1])


def test_fingerprint_covers_weights_and_preprocessing(models):
    first, second = (OnnxImageTower(Checkpoint.open(models[n][0])) for n in ("clip-quick", "dual"))
    again = OnnxImageTower(Checkpoint.open(models["dual"][0]), batch=3)
    assert first.fingerprint != second.fingerprint == again.fingerprint


def test_wrong_inputs(models):
    checkpoint = Checkpoint.open(models["clip-quick"][0])
    with pytest.raises(CheckpointError, match=r"40x40.*32x32"):
        build_image(checkpoint, 40, 40)
    with pytest.raises(CheckpointError, match="smaller than a patch"):
        build_image(Checkpoint.open(models["dual"][0]), 13, 42)
    with pytest.raises(InputError, match="batch is 0"):
        OnnxImageTower(checkpoint, batch=0)
    with pytest.raises(InputError, match=r"float64 \(2, 2, 3\)"):
        OnnxImageTower(checkpoint).states([np.zeros((2, 2, 3))])
