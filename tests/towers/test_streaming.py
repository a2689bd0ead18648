"""Towers block by block against the whole graphs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from random_models import TEXT, relative, save_clip
from safetensors.numpy import load_file, save_file

from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.image import build_image
from sharpzo.towers.prompts import layout, start
from sharpzo.towers.session import Session
from sharpzo.towers.streaming import StreamedImage, StreamedText
from sharpzo.towers.text import build_text

LIMIT = 5e-6
NAMES = ["cat", "the dog", "photo of the cat", "dog"]
CLIP = {"hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 4, "image_size": 32,
        "patch_size": 8}  # fmt: skip


def check_text(folder: Path, template: str = "the photo of {}", n: int | None = None) -> None:
    checkpoint = Checkpoint.open(folder)
    prompts = layout(checkpoint, NAMES, template, n)
    noise = np.random.default_rng(0).normal(size=(3, *start(checkpoint, prompts).shape))
    contexts = (start(checkpoint, prompts) + noise).astype(np.float32)
    streamed = StreamedText(checkpoint, prompts, threads=1)
    with Session(build_text(checkpoint, prompts), threads=1) as whole:
        for output in ("states", "features"):
            wanted = whole.run(output, {"context": contexts})
            (found,) = streamed.run_many([output], {"context": contexts})
            assert relative(found, wanted) <= LIMIT
    streamed.close()


def check_image(folder: Path, height: int, width: int, count: int = 3) -> None:
    pixels = np.random.default_rng(0).normal(size=(count, 3, height, width)).astype(np.float32)
    checkpoint = Checkpoint.open(folder)
    streamed = StreamedImage(checkpoint, height, width, threads=1)
    with Session(build_image(checkpoint, height, width), threads=1) as whole:
        wanted = whole.run("states", {"pixels": pixels})
        assert relative(streamed.states(pixels), wanted) <= LIMIT
    streamed.close()


@pytest.mark.parametrize("name", ["clip-quick", "clip-gelu", "clip-legacy", "dual"])
def test_text_equals_the_whole_graph(models, name):
    check_text(models[name][0])


@pytest.mark.parametrize("n", [0, 1, 7])
def test_any_length_of_context(models, n):
    check_text(models["clip-gelu"][0], n=n)


@pytest.mark.parametrize("name", ["clip-quick", "clip-gelu", "clip-legacy"])
def test_clip_image_equals_the_whole_graph(models, name):
    check_image(models[name][0], 32, 32)


@pytest.mark.parametrize("size", [(70, 70), (84, 98), (50, 47)])
def test_dinov2_image_equals_the_whole_graph(models, size):
    check_image(models["dual"][0], *size)


def test_embedded_model(embedded):
    check_image(embedded[0], 112, 112, count=2)


@pytest.mark.parametrize("layers", [1, 2])
def test_towers_of_one_and_two_blocks(tmp_path, layers):
    save_clip(tmp_path, TEXT | {"num_hidden_layers": layers}, CLIP | {"num_hidden_layers": layers})
    check_text(tmp_path)
    check_image(tmp_path, 32, 32)


def test_float16_files_are_converted_block_by_block(models, tmp_path):
    source = models["clip-gelu"][0]
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(source / "model.safetensors")
    halves = {name: array.astype(np.float16) for name, array in tensors.items()}
    save_file(halves, tmp_path / "model.safetensors")
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "clip"
    check_text(tmp_path)
    check_image(tmp_path, 32, 32)
