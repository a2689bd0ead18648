"""The tangent graph against torch.func.jvp of transformers' tower and against differences."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import msgspec
import numpy as np
import pytest
import torch
from random_models import save_clip, text_features
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

import reference
from sharpzo.errors import CheckpointError, EngineError, InputError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.prompts import layout
from sharpzo.towers.runtime import Session
from sharpzo.towers.tangent import TangentBuilder, build_tangent
from sharpzo.towers.tower import OnnxTextTower

# 1 to 12 tokens: letters of an unknown word are a token each.
NAMES = ["cat", "dog", "xyz", "the_cat", "a dog", "cat thing", "qwertyuiop", "abcdefghijkl", "p",
         "photo of the dog", "zz", "the dog, the cat"]  # fmt: skip
TEMPLATE = "a photo of the {}."
LIMIT = 1e-5


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def problem(tower: OnnxTextTower, count: int, noise: float = 1.0, seed: int = 0):
    draws = np.random.default_rng(seed)
    context = tower.start + noise * draws.normal(size=tower.start.shape)
    directions = draws.normal(size=(count, *tower.start.shape))
    return context.astype(np.float32), directions.astype(np.float32)


def derivatives_of_transformers(model, prompts, context, directions) -> np.ndarray:
    """Return (p, K, D) by torch.func.jvp, one unpadded prompt and one direction at a time."""
    table, n = model.text_model.embeddings.token_embedding, len(context)
    columns = []
    for suffix in prompts.suffixes:
        ids = torch.tensor([[prompts.sos_id, *[0] * n, *suffix]])

        def features(vectors, ids=ids):
            def replace(module, inputs, output):
                return torch.cat([output[:, :1], vectors[None], output[:, 1 + n :]], dim=1)

            hook = table.register_forward_hook(replace)
            try:  # the other kernels of attention have no forward-mode rule
                with sdpa_kernel(SDPBackend.MATH):
                    return model.get_text_features(input_ids=ids).pooler_output[0]
            finally:
                hook.remove()

        point = torch.from_numpy(context)
        with torch.no_grad():
            columns.append(
                [jvp(features, (point,), (torch.from_numpy(v),))[1].numpy() for v in directions]
            )
    return np.stack([np.stack(column) for column in columns], axis=1)


@pytest.mark.parametrize("name", ["clip-quick", "clip-gelu", "clip-legacy", "dual"])
def test_derivatives_equal_torch(models, name):
    folder, model = models[name]
    checkpoint = Checkpoint.open(folder)
    prompts = layout(checkpoint, NAMES, TEMPLATE)
    tower = OnnxTextTower(checkpoint, NAMES, TEMPLATE, threads=1)
    context, directions = problem(tower, 2)
    features, derivatives = tower.jvp(context, directions)
    wanted = derivatives_of_transformers(model, prompts, context, directions)
    assert error(derivatives, wanted) <= LIMIT
    ids = [[prompts.sos_id, *[0] * len(context), *suffix] for suffix in prompts.suffixes]
    assert error(features, text_features(model, ids, context[None])[0]) <= LIMIT


def test_embedded_model(embedded):
    folder, model = embedded
    checkpoint = Checkpoint.open(folder)
    names = ["cat", "highway_or_road", "annual crop land", "tench", "sea or lake"]
    tower = OnnxTextTower(checkpoint, names)
    context, directions = problem(tower, 3, noise=0.05)
    _, derivatives = tower.jvp(context, directions)
    wanted = derivatives_of_transformers(model, layout(checkpoint, names), context, directions)
    assert error(derivatives, wanted) <= LIMIT


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_derivatives_equal_differences_in_float64(tmp_path, layers, activation):
    """With one layer the first block is also the last. States have tangents, too."""
    from random_models import TEXT, VISION

    vision = {**VISION, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    save_clip(tmp_path, {**TEXT, "num_hidden_layers": layers, "hidden_act": activation}, vision)
    checkpoint = Checkpoint.open(tmp_path)
    prompts = layout(checkpoint, NAMES[:7], TEMPLATE)
    tower = OnnxTextTower(checkpoint, NAMES[:7], TEMPLATE, threads=1)
    context, directions = problem(tower, 2)
    step = 1e-5
    ends = [context + sign * step * v.astype(float) for v in directions for sign in (1, -1)]
    wanted = [
        (values[::2] - values[1::2]) / (2 * step)
        for values in reference.forward(checkpoint, prompts, np.stack(ends))
    ]
    outputs = ("state_derivatives", "derivatives")
    with closing(Session(build_tangent(checkpoint, prompts), threads=1)) as session:
        found = session.run(outputs, {"context": context[None], "directions": directions})
    assert [error(f, w) <= LIMIT for f, w in zip(found, wanted, strict=True)] == [True, True]


@pytest.mark.parametrize("specific", [False, True])
@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("n", [1, 5])
def test_many_classes_in_several_tiles(models, count, n, specific):
    checkpoint = Checkpoint.open(models["clip-gelu"][0])
    letters = "abcdefghij"
    names = [(a + b) * (1 + (i + j) % 4) for i, a in enumerate(letters) for j, b in
             enumerate(letters) if a != b][:count]  # fmt: skip
    tower = OnnxTextTower(checkpoint, names, TEMPLATE, n, threads=1, specific=specific)
    prompts = layout(checkpoint, names, TEMPLATE, n, specific)
    context, directions = problem(tower, 1)
    step = 1e-5 * directions[0].astype(float)
    ends = reference.forward(checkpoint, prompts, np.stack([context + step, context - step]))[1]
    _, derivatives = tower.jvp(context, directions)
    assert error(derivatives[0], (ends[0] - ends[1]) / 2e-5) <= LIMIT


def test_the_primal_is_that_of_forward(models):
    for name in ("clip-quick", "clip-gelu"):
        tower = OnnxTextTower(Checkpoint.open(models[name][0]), NAMES, TEMPLATE, threads=1)
        context, directions = problem(tower, 3)
        assert error(tower.jvp(context, directions)[0], tower.forward(context[None])[0]) <= 3e-6


def test_chunks_join_to_the_same_derivatives(models, monkeypatch):
    checkpoint = Checkpoint.open(models["dual"][0])
    whole = OnnxTextTower(checkpoint, NAMES, TEMPLATE, threads=1)
    monkeypatch.setattr("sharpzo.towers.tower.TANGENT_TOKENS", 1)
    chunked = OnnxTextTower(checkpoint, NAMES, TEMPLATE, batch=1, threads=1)
    context, directions = problem(whole, 9)  # chunks of 4, 4 and 1
    assert error(chunked.jvp(context, directions)[1], whole.jvp(context, directions)[1]) <= 3e-6


@pytest.mark.parametrize("specific", [False, True])
def test_class_chunks_join_to_the_same_derivatives(models, monkeypatch, specific):
    checkpoint = Checkpoint.open(models["clip-quick"][0])
    found = []
    for size in (10**6, 16):
        monkeypatch.setattr("sharpzo.towers.text.CHUNK", size)
        tower = OnnxTextTower(checkpoint, NAMES, TEMPLATE, threads=1, specific=specific)
        found.append(tower.jvp(*problem(tower, 3)))
    for whole, chunked in zip(*found, strict=True):
        assert error(chunked, whole) <= 3e-6


def test_a_block_waits_for_the_tangents_of_the_one_before(models):
    """Or the primal of all blocks would be held until tangents read it."""
    checkpoint = Checkpoint.open(models["clip-quick"][0])
    nodes = build_tangent(checkpoint, layout(checkpoint, NAMES, TEMPLATE)).model.graph.node
    known: dict[str, set[str]] = {}
    for node in nodes:
        known[node.output[0]] = set(node.input).union(*(known.get(x, set()) for x in node.input))
    last = f"text.{checkpoint.text.layers - 1}.fc1.weight"
    (primal,) = [x for x in nodes if last in x.input and x.input[2:]]  # tangents have no bias
    assert "directions" in known[primal.output[0]]


def test_a_direction_does_not_depend_on_its_neighbours(models):
    tower = OnnxTextTower(Checkpoint.open(models["clip-quick"][0]), NAMES, TEMPLATE, threads=1)
    context, directions = problem(tower, 4)
    wanted = tower.jvp(context, directions)[1]
    directions[2] = np.nan
    found = tower.jvp(context, directions)[1]
    assert np.array_equal(found[[0, 1, 3]], wanted[[0, 1, 3]])
    assert np.isnan(found[2]).all()


def test_derivatives_are_linear_in_the_direction(models):
    tower = OnnxTextTower(Checkpoint.open(models["clip-gelu"][0]), NAMES, TEMPLATE, threads=1)
    context, (u, v) = problem(tower, 2)
    found = tower.jvp(context, np.stack([u, v, 2 * u - 3 * v]))[1]
    assert error(found[2], 2 * found[0] - 3 * found[1]) <= 1e-5


def test_what_is_refused(models):
    checkpoint = Checkpoint.open(models["dual"][0])
    tower = OnnxTextTower(checkpoint, ["cat"], TEMPLATE)
    context, directions = problem(tower, 2)
    with pytest.raises(InputError, match="directions have shape"):
        tower.jvp(context, directions[0])
    with pytest.raises(InputError, match="context have shape"):
        tower.jvp(context[:-1], directions)
    bare = OnnxTextTower(checkpoint, ["cat"], "{}")
    with pytest.raises(InputError, match="0 context tokens"):
        bare.jvp(bare.start, np.zeros((1, 0, 32), np.float32))
    text = msgspec.structs.replace(checkpoint.text, causal=False)
    with pytest.raises(CheckpointError, match="bidirectional"):
        build_tangent(dataclasses.replace(checkpoint, text=text), layout(checkpoint, ["cat"]))
    tower.jvp(context, directions)
    tower.close()
    with pytest.raises(EngineError, match="closed"):
        tower.jvp(context, directions)


def test_nodes_without_a_rule_are_refused():
    build = TangentBuilder({"x": "dx"})
    with pytest.raises(EngineError, match="Tanh"):
        build.op("Tanh", "x")
    left, right = build.op("Gemm", "x", "a"), build.op("Gemm", "x", "b")
    with pytest.raises(EngineError, match="independent"):
        build.op("Mul", left, right)


@pytest.mark.slow
def test_real_size(tmp_path):
    """ViT-B/16's text tower with random weights."""
    model = save_clip(tmp_path, {"vocab_size": 49408}, {"patch_size": 16}, width=512)
    checkpoint = Checkpoint.open(tmp_path)
    names = ["cat", "qwertyuiop", "the_dog", "xy"]
    tower = OnnxTextTower(checkpoint, names)
    context, directions = problem(tower, 2)
    _, derivatives = tower.jvp(context, directions)
    wanted = derivatives_of_transformers(model, layout(checkpoint, names), context, directions)
    found = error(derivatives, wanted)
    print(f"b16: {found:.1e}")
    assert found <= LIMIT
