"""The last image block in NumPy: against the tower's graph, finite differences and torch."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sharpzo.methods.last_block import Seen, forward, gradient
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.tower import OnnxImageTower
from sharpzo.types import LastBlock

sys.path.insert(0, str(Path(__file__).parents[1] / "towers"))
CLIP = {"norm1": "layer_norm1", "query": "self_attn.q_proj", "value": "self_attn.v_proj",
        "out": "self_attn.out_proj", "norm2": "layer_norm2", "fc1": "mlp.fc1", "fc2": "mlp.fc2",
        "norm": "post_layernorm"}  # fmt: skip
DUAL = {"norm1": "norm1", "query": "attention.q_proj", "value": "attention.v_proj",
        "out": "attention.o_proj", "norm2": "norm2", "fc1": "mlp.fc1", "fc2": "mlp.fc2",
        "norm": "layernorm"}  # fmt: skip
SCALED = {"out": "layer_scale1.lambda1", "fc2": "layer_scale2.lambda1"}
PARTS = ("norm1", "query", "value", "out", "norm2", "fc1", "fc2", "norm")


def random_block(activation: str, width: int = 12, wide: int = 20) -> LastBlock:
    draws = np.random.default_rng(0)
    shapes = {"fc1": (wide, width), "fc2": (width, wide)}
    parts = {}
    for part in (*PARTS, "key"):
        shape = (width,) if part.startswith("norm") else shapes.get(part, (width, width))
        about = 1.0 if len(shape) == 1 else 0.0
        weight = about + draws.normal(size=shape) / shape[-1] ** (0.5 * (len(shape) > 1))
        parts[part] = weight, draws.normal(size=shape[0])
    return LastBlock(parts, heads=3, activation=activation, eps=1e-5)


def moved(block: LastBlock, part: str, which: int, by: np.ndarray) -> LastBlock:
    pair = list(block.parts[part])
    pair[which] = pair[which] + by
    return replace(block, parts={**block.parts, part: tuple(pair)})


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_the_gradient_is_that_of_finite_differences(activation):
    draws = np.random.default_rng(1)
    block = random_block(activation)
    photos = Seen.of(draws.normal(size=(4, 7, 12)), block.eps)
    error = draws.normal(size=(4, 12))
    trace = forward(block, photos)
    assert trace.states.dtype == np.float64
    found = gradient(block, photos, trace, error)
    assert set(found) == set(PARTS)
    for part in PARTS:
        for which in (0, 1):
            step = draws.normal(size=block.parts[part][which].shape)
            up, down = (
                (error * forward(moved(block, part, which, h * step), photos).states).sum()
                for h in (1e-4, -1e-4)
            )
            # The distribution function is good to 7.5e-8, and so is its difference quotient.
            wanted = (up - down) / 2e-4
            assert (found[part][which] * step).sum() == pytest.approx(wanted, rel=1e-5, abs=2e-4)


@pytest.mark.parametrize("name", ["clip-quick", "clip-gelu", "dual", "one-block"])
def test_states_are_the_tower_s_and_the_gradient_is_torch_s(name, tmp_path):
    models = pytest.importorskip("random_models")
    torch = models.torch
    vision = {**models.VISION, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    vision["hidden_act"] = "quick_gelu" if name == "clip-quick" else "gelu"
    vision["num_hidden_layers"] = 1 if name == "one-block" else 2
    dual = name == "dual"
    model = models.save_dual(tmp_path) if dual else models.save_clip(tmp_path, models.TEXT, vision)
    side = 42 if dual else 32
    pixels = np.random.default_rng(0).normal(size=(5, 3, side, side)).astype(np.float32)
    tower = OnnxImageTower(Checkpoint.open(tmp_path), batch=2, threads=1)
    tokens, summaries = tower.trace(pixels)
    states = summaries[:, 0]
    assert np.array_equal(states, tower.forward(pixels))
    block = tower.last_block
    photos = Seen.of(tokens, block.eps)
    trace = forward(block, photos)
    assert models.relative(trace.states, states) <= 1e-5
    half = Seen(photos.normal.astype(np.float16), photos.first).widened()
    assert models.relative(forward(block, half).states, states) <= 2e-3

    error = np.random.default_rng(1).normal(size=states.shape).astype(np.float32)
    out = model.vision_model(pixel_values=torch.from_numpy(pixels)).pooler_output
    assert models.relative(states, out.detach().numpy()) <= 1e-5
    (torch.from_numpy(error) * out).sum().backward()
    found = gradient(block, photos, trace, error)
    known = dict(model.vision_model.named_parameters())
    prefix = "encoder.layer.1." if dual else f"encoder.layers.{vision['num_hidden_layers'] - 1}."
    for part, layer in (DUAL if dual else CLIP).items():
        name = layer if part == "norm" else prefix + layer
        for mine, what in zip(found[part], ("weight", "bias"), strict=True):
            if part == "query":  # by the scaled query: the chain rule's last factor
                mine = mine * (block.parts["norm1"][0].size // block.heads) ** -0.5
            if dual and part in SCALED:  # by the layer with its LayerScale
                mine = (mine.T * known[prefix + SCALED[part]].detach().numpy()).T
            wanted = known[f"{name}.{what}"].grad.numpy()
            assert models.relative(mine, wanted) <= 2e-4, (part, what)
