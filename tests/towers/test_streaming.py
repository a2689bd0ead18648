"""The text tower block by block against the whole graph."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from random_models import TEXT, VISION, halve, relative, save_clip

from sharpzo.errors import EngineError, InputError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.lowmem.streaming import Kept, stream
from sharpzo.towers.prompts import layout, start
from sharpzo.towers.runtime import Session
from sharpzo.towers.tangent import build_tangent
from sharpzo.towers.text import build_text
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Precision

LIMIT = 5e-6
NAMES = ["cat", "the dog", "photo of the cat", "dog"]


def check_text(
    folder: Path,
    template: str = "the photo of {}",
    n: int | None = None,
    precision: Precision = "float32",
    limit: float = LIMIT,
    specific: bool = False,
) -> None:
    checkpoint = Checkpoint.open(folder)
    prompts = layout(checkpoint, NAMES, template, n, specific)
    noise = np.random.default_rng(0).normal(size=(3, *start(checkpoint, prompts).shape))
    contexts = (start(checkpoint, prompts) + noise).astype(np.float32)
    streamed = stream(checkpoint, prompts, threads=1, precision=precision)
    with closing(Session(build_text(checkpoint, prompts, precision), threads=1)) as whole:
        for output in ("states", "features"):
            (wanted,) = whole.run([output], {"context": contexts})
            (found,) = streamed.run([output], {"context": contexts})
            assert relative(found, wanted) <= limit
    streamed.close()


def check_tangents(
    folder: Path, n: int | None = None, precision: Precision = "float32", specific: bool = False
) -> None:
    checkpoint = Checkpoint.open(folder)
    prompts = layout(checkpoint, NAMES, "the photo of {}", n, specific)
    draws = np.random.default_rng(0).normal(size=(6, *start(checkpoint, prompts).shape))
    inputs = {"context": start(checkpoint, prompts) + draws[:1], "directions": draws[1:]}
    inputs = {name: values.astype(np.float32) for name, values in inputs.items()}
    outputs = ("derivatives", "features", "states", "state_derivatives")
    streamed = stream(checkpoint, prompts, 1, precision, tangents=True)
    found = streamed.run(outputs, inputs)
    streamed.close()
    with closing(Session(build_tangent(checkpoint, prompts, precision), threads=1)) as whole:
        for one, wanted in zip(found, whole.run(outputs, inputs), strict=True):
            assert relative(one, wanted) <= 3e-6


@pytest.mark.parametrize("name", ["clip-quick", "clip-gelu", "clip-legacy", "dual"])
def test_text_equals_the_whole_graph(models, name):
    check_text(models[name][0])


@pytest.mark.parametrize("n", [0, 1, 7])
def test_any_length_of_context(models, n):
    check_text(models["clip-gelu"][0], n=n)


@pytest.mark.parametrize("n", [1, 3])
def test_contexts_of_their_own_for_every_class(models, n):
    check_text(models["clip-gelu"][0], n=n, specific=True)


@pytest.mark.parametrize("specific", [False, True])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_class_chunks(models, monkeypatch, precision, specific):
    monkeypatch.setattr("sharpzo.towers.text.CHUNK", 4)
    check_text(models["clip-gelu"][0], precision=precision, specific=specific)


@pytest.mark.parametrize("layers", [1, 2])
def test_towers_of_one_and_two_blocks(tmp_path, layers):
    save_clip(tmp_path, TEXT | {"num_hidden_layers": layers}, VISION)
    for precision in ("float32", "int8"):
        check_text(tmp_path, precision=precision)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_fewer_bits_equal_the_whole_graph(models, precision):
    check_text(models["clip-gelu"][0], precision=precision, limit=3e-6)
    check_text(models["clip-quick"][0], n=0, precision=precision, limit=3e-6)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_candidate_does_not_see_its_neighbours(models, precision):
    checkpoint = Checkpoint.open(models["clip-gelu"][0])
    tower = OnnxTextTower(checkpoint, NAMES, threads=1, precision=precision, streamed=True)
    draws = np.random.default_rng(0).normal(size=(5, *tower.start.shape)).astype(np.float32)
    first, second = tower.forward(draws[:3]), tower.forward(draws[[0, 3, 4]])
    assert np.array_equal(first[0], second[0])
    assert not np.array_equal(first[1], second[1])


def test_float16_files_are_converted_block_by_block(models, tmp_path):
    halve(models["clip-gelu"][0], tmp_path)
    check_text(tmp_path)
    check_text(tmp_path, precision="int8", limit=3e-6)


@pytest.mark.parametrize("how", [{"precision": "int4"}, {"engine": "openvino"}])
def test_what_cannot_be_computed_block_by_block_is_refused(models, how):
    checkpoint = Checkpoint.open(models["clip-gelu"][0])
    with pytest.raises(InputError, match=r"memory limit.*leave out one of them"):
        OnnxTextTower(checkpoint, NAMES, streamed=True, **how)


@pytest.mark.parametrize("name", ["clip-quick", "clip-legacy", "dual"])
def test_tangents_equal_the_whole_graph(models, name):
    check_tangents(models[name][0])


@pytest.mark.parametrize("specific", [False, True])
@pytest.mark.parametrize("n", [1, 7])
def test_tangents_of_any_context(models, n, specific):
    check_tangents(models["clip-gelu"][0], n, specific=specific)


@pytest.mark.parametrize("specific", [False, True])
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_tangents_in_fewer_bits(models, precision, specific):
    check_tangents(models["clip-gelu"][0], precision=precision, specific=specific)


@pytest.mark.parametrize("layers", [1, 2])
def test_tangents_of_one_and_two_blocks(tmp_path, layers):
    save_clip(tmp_path, TEXT | {"num_hidden_layers": layers}, VISION)
    for specific in (False, True):
        check_tangents(tmp_path, specific=specific)


@pytest.mark.parametrize("specific", [False, True])
def test_a_streamed_tower_has_derivatives(models, specific):
    checkpoint = Checkpoint.open(models["clip-gelu"][0])
    how = {"threads": 1, "specific": specific}
    whole, streamed = (OnnxTextTower(checkpoint, NAMES, streamed=s, **how) for s in (False, True))
    streamed.batch = 2
    draws = np.random.default_rng(0).normal(size=(5, *whole.start.shape)).astype(np.float32)
    wanted, found = (tower.jvp(whole.start, draws) for tower in (whole, streamed))
    assert relative(found[0], wanted[0]) <= 3e-6
    assert relative(found[1], wanted[1]) <= 3e-6
    streamed.close()
    with pytest.raises(EngineError, match="closed"):
        streamed.jvp(whole.start, draws)


def test_a_streamed_tower_without_context_has_none(models):
    tower = OnnxTextTower(Checkpoint.open(models["clip-gelu"][0]), NAMES, "{}", streamed=True)
    with pytest.raises(InputError, match="0 context tokens"):
        tower.jvp(tower.start, np.zeros((1, 0, 32), np.float32))


def test_matrices_in_fewer_bits_are_in_memory_once(models):
    checkpoint, kept = Checkpoint.open(models["clip-gelu"][0]), Kept()
    for specific, tangents in ((False, False), (False, True), (True, True)):
        prompts = layout(checkpoint, NAMES, specific=specific)
        streamed = stream(checkpoint, prompts, 1, "int8", tangents, kept)
        for layer, step in enumerate(streamed._steps):
            assert step.fixed["block.fc2.weight"] is kept[layer, "block.fc2.weight"].values
