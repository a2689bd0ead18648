"""ResNet towers of OpenAI's CLIP: graph and layers against plain torch, and damaged tensors."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip_models import from_transformers, save_resnet
from safetensors.torch import load_file, save_file
from torch.nn import functional

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.families import image_family
from sharpzo.towers.lowmem.resnet_layers import LayeredResNet
from sharpzo.towers.tower import OnnxImageTower

WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def made(models, tmp_path_factory) -> Path:
    clip = from_transformers(models["clip-quick"][0], tmp_path_factory.mktemp("clip") / "clip")
    return save_resnet(clip, tmp_path_factory.mktemp("resnet") / "resnet")


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "model"))


def reference(folder: Path, pixels: torch.Tensor, heads: int) -> tuple[torch.Tensor, ...]:
    """Tokens that attention reads, and features, as OpenAI's model computes them, in float64."""
    t = {k: v.double() for k, v in load_file(folder / WEIGHTS).items()}

    def convolve(x, name, norm, stride=1):
        weight = t[f"visual.{name}.weight"]
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        parts = [t[f"visual.{norm}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *parts)

    x = pixels.double()
    for i in (1, 2, 3):
        x = functional.relu(convolve(x, f"conv{i}", f"bn{i}", 2 if i == 1 else 1))
    x = functional.avg_pool2d(x, 2)
    blocks = {tuple(name.split(".")[1:3]) for name in t if name.startswith("visual.layer")}
    for layer, i in sorted(blocks):
        name, stride = f"{layer}.{i}", 2 if i == "0" and layer != "layer1" else 1
        h = functional.relu(convolve(x, f"{name}.conv1", f"{name}.bn1"))
        h = functional.relu(convolve(h, f"{name}.conv2", f"{name}.bn2"))
        if stride > 1:
            h, x = functional.avg_pool2d(h, 2), functional.avg_pool2d(x, 2)
        h = convolve(h, f"{name}.conv3", f"{name}.bn3")
        if f"visual.{name}.downsample.0.weight" in t:
            x = convolve(x, f"{name}.downsample.0", f"{name}.downsample.1")
        x = functional.relu(h + x)
    x = x.flatten(2).permute(0, 2, 1)
    x = torch.cat([x.mean(1, keepdim=True), x], 1) + t["visual.attnpool.positional_embedding"]
    q, k, v = (
        functional.linear(
            x, t[f"visual.attnpool.{n}_proj.weight"], t[f"visual.attnpool.{n}_proj.bias"]
        ).unflatten(-1, (heads, -1)).transpose(1, 2)
        for n in "qkv"
    )  # fmt: skip
    mixed = functional.scaled_dot_product_attention(q[:, :, :1], k, v).flatten(1)
    out = functional.linear(
        mixed, t["visual.attnpool.c_proj.weight"], t["visual.attnpool.c_proj.bias"]
    )
    return x, mixed, functional.normalize(out, dim=-1)


@pytest.mark.parametrize("batch", [1, 3])
def test_graph_and_layers_are_the_model(made, batch):
    checkpoint = Checkpoint.open(made)
    pixels = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)
    tokens, mixed, features = (
        found.numpy() for found in reference(made, torch.from_numpy(pixels), 4)
    )
    tower = OnnxImageTower(checkpoint, batch=batch, threads=1)
    seen, summaries = tower.trace(pixels)
    states = summaries[:, 0]
    np.testing.assert_allclose(seen[..., :-1], tokens, atol=1e-5 * np.abs(tokens).max())
    np.testing.assert_allclose(states[:, :-1], mixed, atol=1e-5 * np.abs(mixed).max())
    assert not seen[..., -1].any()
    assert (states[:, -1] == 1).all()
    vectors = states @ image_family(checkpoint).projection(checkpoint).T
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, features, atol=1e-5 * np.abs(features).max())
    assert np.array_equal(summaries, tower.summarise(pixels))
    np.testing.assert_allclose(summaries[:, 2], seen[:, 1:].mean(axis=1), atol=1e-5)
    traced, layered = LayeredResNet(checkpoint, 64, 64).trace(pixels)
    np.testing.assert_allclose(layered, summaries, atol=1e-5 * np.abs(summaries).max())
    np.testing.assert_allclose(traced, seen, atol=1e-5 * np.abs(summaries).max())


def test_photos_of_another_size_are_refused(made):
    checkpoint = Checkpoint.open(made)
    for make in (image_family(checkpoint).build, LayeredResNet):
        with pytest.raises(CheckpointError, match="made for 64x64"):
            make(checkpoint, 96, 96)


def test_a_resnet_has_no_last_block_to_tune(made):
    with pytest.raises(InputError, match="none that can be tuned"):
        _ = OnnxImageTower(Checkpoint.open(made)).last_block


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t["visual.bn2.running_var"].fill_(-1), r"'visual.bn2.running_var' is below 0"),
        (lambda t: t.pop("visual.layer3.0.downsample.0.weight"),
         r"holds no tensor 'visual.layer3.0.downsample.0.weight'"),
        (lambda t: t.pop("visual.attnpool.c_proj.bias"), r"'visual.attnpool.c_proj.bias'"),
        (lambda t: t.update({"visual.conv1.weight": torch.zeros(4, 3, 7, 7)}),
         r"'visual.conv1.weight' has shape \(4, 3, 7, 7\).*\(4, 3, 3, 3\)"),
        (lambda t: t.update({"visual.layer2.2.conv1.weight": torch.zeros(1)}),
         r"3 blocks 'visual.layer2'.*says 2 layers"),
        (lambda t: t.update({"visual.layer5.0.conv1.weight": torch.zeros(1)}),
         r"'visual.layer5.0.conv1.weight', which no supported option"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_belong_are_named(folder, edit, message):
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=message):
        image_family(checkpoint := Checkpoint.open(folder)).build(checkpoint, 64, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [1, 2, 1]}, r"vision_cfg.layers is \[1, 2, 1\]"),
        ({"layers": [10**9, 2, 1, 1]}, "1 blocks 'visual.layer1'.*says 1000000000 layers"),
        ({"layers": [1, 2, 1, 0]}, "vision_cfg.layers"),
        ({"head_width": 48}, "cannot be"),
        ({"image_size": 70}, "cannot be"),
        ({"layers": 12, "width": 64}, "blocks 'visual.layer1'|12 layers"),
    ],
)
def test_sizes_that_cannot_be_are_refused(folder, options, message):
    from test_open_clip import change

    change(folder, "vision_cfg", **options)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(folder)
