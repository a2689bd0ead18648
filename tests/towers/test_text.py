"""The text graph against the NumPy reference and transformers."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import msgspec
import numpy as np
import pytest
from random_models import relative, text_features

import reference
from sharpzo.errors import CheckpointError, EngineError, InputError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.prompts import layout, pool_position
from sharpzo.towers.runtime import Session
from sharpzo.towers.text import build_text
from sharpzo.towers.tower import OnnxTextTower

SMALL = ("clip-quick", "clip-gelu", "clip-legacy", "dual")
# 1 to 12 tokens: letters of an unknown word are a token each.
NAMES = ["cat", "dog", "xyz", "the_cat", "a dog", "cat thing", "qwertyuiop", "abcdefghijkl", "p",
         "photo of the dog", "zz", "the dog, the cat"]  # fmt: skip
TEMPLATE = "a photo of the {}."
LIMIT = 1e-5


def candidates(tower: OnnxTextTower, count: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(count, *tower.start.shape))
    return (tower.start + noise).astype(np.float32)


def sentences(checkpoint: Checkpoint, names, template=TEMPLATE, n=None) -> list[list[int]]:
    prompts = layout(checkpoint, names, template, n)
    filler = [0] * prompts.n_context
    return [[prompts.sos_id, *filler, *suffix] for suffix in prompts.suffixes]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", SMALL)
def test_features_equal_transformers_and_reference(models, name, count):
    folder, model = models[name]
    checkpoint = Checkpoint.open(folder)
    tower = OnnxTextTower(checkpoint, NAMES, TEMPLATE, threads=1)
    contexts = candidates(tower, count)
    wanted = text_features(model, sentences(checkpoint, NAMES), contexts)
    states, features = reference.forward(checkpoint, layout(checkpoint, NAMES, TEMPLATE), contexts)
    assert relative(features, wanted) <= LIMIT
    assert relative(tower.forward(contexts), wanted) <= LIMIT
    assert relative(tower.forward(contexts), features) <= LIMIT
    assert relative(tower.states(contexts), states) <= LIMIT
    assert relative(tower.states(contexts) @ tower.projection.T, wanted) <= LIMIT


@pytest.mark.parametrize("name", ["clip-quick", "clip-legacy"])
def test_start_is_the_hand_written_prompt(models, name):
    """The features at ``start`` are those of the sentence, padded by transformers' tokenizer."""
    import torch
    from transformers import CLIPTokenizer

    folder, model = models[name]
    tower = OnnxTextTower(Checkpoint.open(folder), NAMES, TEMPLATE, threads=1)
    words = [TEMPLATE.format(n.replace("_", " ")) for n in NAMES]
    batch = CLIPTokenizer.from_pretrained(folder)(words, padding=True, return_tensors="pt")
    with torch.no_grad():
        wanted = model.get_text_features(**batch).pooler_output.numpy()
    assert relative(tower.forward(tower.start[None])[0], wanted) <= LIMIT


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", ["clip-quick", "clip-gelu"])
def test_contexts_of_their_own_for_every_class(models, name, n):
    """Classes of several lengths and tiles: features, and no class reads another's context."""
    checkpoint = Checkpoint.open(models[name][0])
    tower = OnnxTextTower(checkpoint, NAMES, TEMPLATE, n, threads=1, specific=True)
    assert tower.start.shape == (len(NAMES) * n, checkpoint.text.width)
    assert tower.tokens == sum(n + len(suffix) for suffix in tower.prompts.suffixes)
    contexts = candidates(tower, 2)
    features = reference.forward(checkpoint, tower.prompts, contexts)[1]
    found = tower.forward(contexts)
    assert relative(found, features) <= LIMIT
    contexts[0, 5 * n : 6 * n] *= 2  # of the sixth class
    moved = np.abs(tower.forward(contexts)[0] - found[0]).max(axis=1)
    assert moved[5] > 1e-2
    assert (np.delete(moved, 5) == 0).all()


def test_contexts_of_their_own_begin_as_the_shared_one(models):
    checkpoint = Checkpoint.open(models["clip-quick"][0])
    tower = OnnxTextTower(checkpoint, NAMES, TEMPLATE, threads=1)
    own = tower.variant(specific=True)
    found = own.forward(own.start[None])
    assert relative(found, tower.forward(tower.start[None])) <= LIMIT


def test_embedded_model(embedded):
    folder, model = embedded
    checkpoint = Checkpoint.open(folder)
    names = ["cat", "highway_or_road", "annual crop land", "tench", "sea or lake"]
    tower = OnnxTextTower(checkpoint, names)
    contexts = tower.start + np.random.default_rng(0).normal(size=(2, *tower.start.shape)) * 0.05
    contexts = contexts.astype(np.float32)
    ids = sentences(checkpoint, names, "a photo of a {}.")
    wanted = text_features(model, ids, contexts)
    assert relative(tower.forward(contexts), wanted) <= LIMIT
    assert tower.logit_scale == pytest.approx(model.logit_scale.detach().exp().item(), rel=1e-3)


@pytest.mark.parametrize(
    ("template", "n"), [("{}", None), ("{} of the photo", 0), ("the {}", 5), ("a photo of {}", 2)]
)
def test_other_context_lengths(models, template, n):
    folder, model = models["clip-quick"]
    checkpoint = Checkpoint.open(folder)
    tower = OnnxTextTower(checkpoint, NAMES, template, n_context=n, threads=1)
    contexts = candidates(tower, 2)
    wanted = text_features(model, sentences(checkpoint, NAMES, template, n), contexts)
    assert relative(tower.forward(contexts), wanted) <= LIMIT


def test_start_keeps_the_words_next_to_the_class_name(models):
    checkpoint = Checkpoint.open(models["clip-quick"][0])
    whole = OnnxTextTower(checkpoint, ["cat"], "photo of the {}").start
    short = OnnxTextTower(checkpoint, ["cat"], "photo of the {}", n_context=2).start
    long = OnnxTextTower(checkpoint, ["cat"], "photo of the {}", n_context=4).start
    table = checkpoint.weights["text_model.embeddings.token_embedding.weight"]
    assert np.array_equal(short, whole[-2:])
    assert np.array_equal(long[1:], whole)
    assert np.allclose(long[0], table.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_few_layers(tmp_path, layers):
    """With one layer the first block is also the last."""
    from random_models import TEXT, VISION, save_clip

    vision = {**VISION, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    save_clip(tmp_path, {**TEXT, "num_hidden_layers": layers}, vision)
    checkpoint = Checkpoint.open(tmp_path)
    tower = OnnxTextTower(checkpoint, NAMES, TEMPLATE, threads=1)
    contexts = candidates(tower, 2)
    _, wanted = reference.forward(checkpoint, layout(checkpoint, NAMES, TEMPLATE), contexts)
    assert relative(tower.forward(contexts), wanted) <= LIMIT


@pytest.mark.parametrize("count", [1, 2, 40])
def test_many_classes_in_several_tiles(models, count):
    checkpoint = Checkpoint.open(models["clip-gelu"][0])
    letters = "abcdefghij"
    names = [(a + b) * (1 + (i + j) % 4) for i, a in enumerate(letters) for j, b in
             enumerate(letters) if a != b][:count]  # fmt: skip
    tower = OnnxTextTower(checkpoint, names, TEMPLATE, threads=1)
    contexts = candidates(tower, 2)
    _, wanted = reference.forward(checkpoint, layout(checkpoint, names, TEMPLATE), contexts)
    assert relative(tower.forward(contexts), wanted) <= LIMIT


@pytest.mark.parametrize("threads", [1, 2])
def test_a_candidate_does_not_depend_on_its_neighbours(models, threads):
    """At a fixed batch size bit for bit; across batch sizes within rounding of the kernels."""
    checkpoint = Checkpoint.open(models["clip-quick"][0])
    tower = OnnxTextTower(checkpoint, NAMES, TEMPLATE, batch=8, threads=threads)
    contexts = candidates(tower, 8)
    alone = tower.forward(contexts[3:4])[0]
    others = candidates(tower, 8, seed=1) * 50
    others[3] = contexts[3]
    others[5] = np.nan
    mixed = tower.forward(others)
    assert np.array_equal(mixed[3], tower.forward(contexts)[3])
    assert np.isnan(mixed[5]).all()
    assert np.isfinite(np.delete(mixed, 5, axis=0)).all()
    assert relative(mixed[3], alone) <= 3e-6
    shuffled = contexts[::-1]
    assert relative(tower.forward(shuffled)[::-1], tower.forward(contexts)) <= 3e-6


def test_a_class_does_not_depend_on_the_other_classes(models):
    checkpoint = Checkpoint.open(models["clip-quick"][0])
    tower = OnnxTextTower(checkpoint, NAMES, TEMPLATE, threads=1)
    contexts = candidates(tower, 2)
    for k in (0, 7):
        alone = OnnxTextTower(checkpoint, [NAMES[k]], TEMPLATE, threads=1).forward(contexts)
        assert relative(tower.forward(contexts)[:, [k]], alone) <= 3e-6


def test_chunks_join_to_the_same_features(models):
    checkpoint = Checkpoint.open(models["dual"][0])
    whole = OnnxTextTower(checkpoint, NAMES, TEMPLATE, batch=7, threads=1)
    chunked = OnnxTextTower(checkpoint, NAMES, TEMPLATE, batch=3, threads=1)
    contexts = candidates(whole, 7)
    assert relative(chunked.forward(contexts), whole.forward(contexts)) <= 3e-6


@pytest.mark.parametrize("specific", [False, True])
@pytest.mark.parametrize("chunk", [1, 16, 30])
def test_class_chunks_join_to_the_same_features(models, monkeypatch, chunk, specific):
    """Classes of 1 to 12 tokens; chunks of one class and of several tiles."""
    checkpoint = Checkpoint.open(models["clip-quick"][0])
    prompts = layout(checkpoint, NAMES, TEMPLATE, specific=specific)
    contexts = candidates(OnnxTextTower(checkpoint, NAMES, TEMPLATE, specific=specific), 2)
    found = []
    for size in (10**6, chunk):
        monkeypatch.setattr("sharpzo.towers.text.CHUNK", size)
        with closing(Session(build_text(checkpoint, prompts), threads=1)) as session:
            found.append(session.run(["states", "features"], {"context": contexts}))
    for whole, chunked in zip(*found, strict=True):
        assert relative(chunked, whole) <= 3e-6


def test_contract(models):
    checkpoint = Checkpoint.open(models["dual"][0])
    tower = OnnxTextTower(checkpoint, NAMES, TEMPLATE)
    table = checkpoint.weights["text_model.embeddings.token_embedding.weight"].astype(float)
    pairs = table[:, None] - table
    exact = np.sqrt((pairs**2).sum(-1).mean())
    assert tower.token_distance == pytest.approx(exact, rel=1e-6)
    assert tower.class_names == tuple(NAMES)
    assert tower.projection.shape == (24, 32)
    assert tower.logit_scale == pytest.approx(np.exp(3.0))
    assert tower.start.dtype == tower.forward(tower.start[None]).dtype == np.float32
    other = OnnxTextTower(checkpoint, ["cat"], TEMPLATE)
    assert other.fingerprint == tower.fingerprint
    assert OnnxTextTower(checkpoint, ["cat"]).fingerprint != tower.fingerprint
    tower.start[:] = 0  # a copy: the tower itself cannot be changed from outside
    assert tower.start.any()


@pytest.mark.parametrize("shape", [(4, 32), (2, 3, 32), (2, 4, 31), (0, 4, 32)])
def test_wrong_shapes(models, shape):
    tower = OnnxTextTower(Checkpoint.open(models["dual"][0]), ["cat"], "a photo of the {}")
    assert tower.start.shape == (4, 32)
    with pytest.raises(InputError, match="4, 32"):
        tower.forward(np.zeros(shape, np.float32))


def test_closed_tower(models):
    tower = OnnxTextTower(Checkpoint.open(models["dual"][0]), ["cat"])
    tower.close()
    with pytest.raises(EngineError, match="closed"):
        tower.forward(tower.start[None])


def test_bidirectional_tower_is_refused(models):
    checkpoint = Checkpoint.open(models["dual"][0])
    text = msgspec.structs.replace(checkpoint.text, causal=False)
    with pytest.raises(CheckpointError, match="bidirectional"):
        build_text(dataclasses.replace(checkpoint, text=text), layout(checkpoint, ["cat"]))


@pytest.mark.parametrize(
    ("names", "template", "message"),
    [
        ([], "a {}", "at least one"),
        ("cat", "a {}", "list"),
        (["cat"], "a photo", "exactly one"),
        (["cat"], "{} and {}", "exactly one"),
        (["the_cat", "The  cat"], "a {}", "same words"),
        (["cat", " _ "], "a {}", "empty"),
        (["cat", "abcdefghijklmnopqrstuvwxyzabcdefg"], "a {}", "33 tokens.* at most 29"),
        (["cat"], "photo{}", "space"),
        (["<|endoftext|>"], "a {}", "does not know"),
    ],
)
def test_unusable_names_and_templates(models, names, template, message):
    with pytest.raises(InputError, match=message):
        OnnxTextTower(Checkpoint.open(models["dual"][0]), names, template)


def test_wrong_pooling_rule_is_refused(models):
    """Another eos_token_id than the tokenizer's would take the feature at SOS."""
    checkpoint = Checkpoint.open(models["dual"][0])
    text = msgspec.structs.replace(checkpoint.text, eos_id=7)
    with pytest.raises(CheckpointError, match="eos_token_id"):
        layout(dataclasses.replace(checkpoint, text=text), ["cat"])


def test_pool_position_equals_transformers(models):
    import torch

    ids = [521, 30, 522, 31, 522]
    for name, eos in (("clip-quick", None), ("clip-legacy", 2)):
        checkpoint, model = Checkpoint.open(models[name][0]), models[name][1]
        ids = [520, 30, checkpoint.text.vocabulary - 1, 31, checkpoint.text.vocabulary - 1]
        out = model.text_model(input_ids=torch.tensor([ids]))
        place = pool_position(ids, None if eos == 2 else checkpoint.text.eos_id)
        assert torch.equal(out.pooler_output[0], out.last_hidden_state[0, place])
