"""SigLIP and SigLIP 2 against transformers, and that no saving of causal towers is taken."""

import json

import numpy as np
import pytest
from random_models import relative
from siglip_models import (
    image_features,
    save_siglip,
    save_siglip2,
    text_features,
    write_tokenizer,
)

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.families import image_family
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower

NAMES = ["cat", "bright dog", "The Dark cat"]


@pytest.fixture(scope="module", params=["siglip", "siglip2"])
def given(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("siglip") / request.param
    model = save_siglip(folder) if request.param == "siglip" else save_siglip2(folder)
    return Checkpoint.open(folder), model


def contexts_for(tower, many=3):
    draws = np.random.default_rng(1)
    moved = tower.start + 0.3 * draws.normal(size=(many, *tower.start.shape))
    return moved.astype(np.float32)


def test_text_features_are_those_of_transformers(given):
    checkpoint, model = given
    tower = OnnxTextTower(checkpoint, NAMES)
    contexts = contexts_for(tower)
    assert relative(tower.forward(contexts), text_features(model, tower.prompts, contexts)) < 1e-5
    states = tower.states(contexts)
    assert relative(states @ tower.projection.T, tower.forward(contexts)) < 1e-5


def test_image_features_are_those_of_transformers(given):
    checkpoint, model = given
    tower = OnnxImageTower(checkpoint)
    pixels = np.random.default_rng(2).normal(size=(3, 3, 32, 32)).astype(np.float32)
    assert relative(tower.forward(pixels), image_features(model, pixels)) < 1e-5
    tokens, summary = tower.trace(pixels)
    last = np.stack([tokens[:, 0], tokens[:, 1:].mean(axis=1)], axis=1)
    assert np.allclose(summary[:, 1:3], last, atol=1e-5)
    assert np.array_equal(tower.summarise(pixels), summary)
    assert Preprocessing.open(checkpoint).size == (32, 32)


def test_derivatives_are_those_of_differences(given):
    checkpoint, _ = given
    tower = OnnxTextTower(checkpoint, NAMES)
    context, directions = contexts_for(tower, 1)[0], contexts_for(tower, 3) - tower.start
    features, slopes = tower.jvp(context, directions)
    step = 0.02
    ahead, behind = (tower.forward(context + s * directions) for s in (step, -step))
    assert relative(features, tower.forward(context[None])[0]) < 1e-6
    assert relative(slopes, (ahead - behind) / (2 * step)) < 2e-3


def test_scale_and_bias(given):
    checkpoint, model = given
    assert checkpoint.logit_scale == pytest.approx(np.exp(model.logit_scale.item()), rel=1e-6)
    assert checkpoint.logit_bias == -6


def test_what_follows_a_word_changes_what_it_says(given):
    """A causal tower's states at a class name do not see what comes later; here another end of the
    template, and even another token of filling, changes the features."""
    checkpoint, _ = given
    one = OnnxTextTower(checkpoint, NAMES, "a photo of a {}.")
    features = one.forward(one.start[None])
    for prompts in (
        OnnxTextTower(checkpoint, NAMES, "a photo of a {} doing.").prompts,
        one.prompts.__class__(**{**vars(one.prompts), "pad": 2}),
    ):
        other = OnnxTextTower(checkpoint, NAMES)
        other.prompts = prompts
        assert relative(other.forward(one.start[None]), features) > 1e-3


@pytest.mark.parametrize("specific", [False, True])
def test_classes_in_groups_are_the_same(given, monkeypatch, specific):
    checkpoint, model = given
    names = ["cat", "dog", "the cat", "dark cat", "bright cat"]
    tower = OnnxTextTower(checkpoint, names, specific=specific)
    contexts = contexts_for(tower)
    whole = tower.forward(contexts)
    monkeypatch.setattr("sharpzo.towers.whole_text.TOKENS", 2 * 16)
    apart = OnnxTextTower(checkpoint, names, specific=specific)
    assert relative(apart.forward(contexts), whole) < 1e-5
    found = apart.jvp(contexts[0], contexts[1:] - contexts[:1])
    wanted = tower.jvp(contexts[0], contexts[1:] - contexts[:1])
    assert all(relative(one, two) < 1e-5 for one, two in zip(found, wanted, strict=True))
    if specific:
        n = tower.prompts.n_context
        own = [text_features(model, tower.prompts, contexts[:, k * n : (k + 1) * n])[:, k]
               for k in range(len(names))]  # fmt: skip
        assert relative(whole, np.stack(own, axis=1)) < 1e-5


@pytest.mark.parametrize(("precision", "worst"), [("float16", 2e-3), ("int8", 5e-2)])
def test_matrices_of_fewer_bits(given, precision, worst):
    checkpoint, _ = given
    tower = OnnxTextTower(checkpoint, NAMES)
    lighter = OnnxTextTower(checkpoint, NAMES, precision=precision)
    streamed = OnnxTextTower(checkpoint, NAMES, precision=precision, streamed=True)
    assert 0 < relative(lighter.untuned, tower.untuned) < worst
    assert relative(streamed.untuned, lighter.untuned) < 1e-5


def test_layers_and_blocks_are_the_towers(given):
    """What computes them under a memory limit."""
    checkpoint, _ = given
    pixels = np.random.default_rng(2).normal(size=(3, 3, 32, 32)).astype(np.float32)
    layered = image_family(checkpoint).layered(checkpoint, 32, 32)
    wanted = OnnxImageTower(checkpoint).summarise(pixels)
    assert relative(layered.summaries(pixels), wanted) < 5e-6
    assert relative(layered.summaries(pixels[1:2]), wanted[1:2]) < 5e-6
    for specific in (False, True):
        tower = OnnxTextTower(checkpoint, NAMES, specific=specific)
        streamed = OnnxTextTower(checkpoint, NAMES, specific=specific, streamed=True, batch=2)
        contexts = contexts_for(tower)
        assert relative(streamed.forward(contexts), tower.forward(contexts)) < 5e-6
        moves = contexts[1:] - contexts[:1]
        found, wanted = (one.jvp(contexts[0], moves)[1] for one in (streamed, tower))
        assert relative(found, wanted) < 1e-6


@pytest.fixture
def folder(tmp_path):
    save_siglip(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_config": {"vision_use_head": False}}, "vision_use_head is False; SigLIP without"),
        ({"vision_config": {"model_type": "clip_vision_model"}}, "'clip_vision_model' is not supp"),
        ({"text_config": {"num_attention_heads": 5}}, "width 768 is not a multiple of 5 heads"),
        ({"text_config": {"hidden_act": "relu"}}, "text_config.hidden_act: invalid enum value"),
        ({"model_type": "siglip2", "vision_config": {"num_patches": 15}}, "a square is needed"),
        ({"text_config": {"num_hidden_layers": 2}}, "gives text_model 2 layers"),
        ({"text_config": {"num_hidden_layers": 10**12}}, "num_hidden_layers: expected `int` <="),
    ],
)
def test_configurations_that_cannot_be_read(folder, change, message):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(folder)


def test_a_width_beyond_memory_is_refused_before_it_is_used(folder):
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["hidden_size"] = 10**12
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = Checkpoint.open(folder)
    with pytest.raises(CheckpointError, match=r"has shape \(32,\), config.json asks for"):
        image_family(checkpoint).projection(checkpoint)


def test_a_tensor_that_is_missing_is_named(folder):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["projection_size"] = 48
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"'text_model.head.weight' has shape \(32, 32\)"):
        OnnxTextTower(Checkpoint.open(folder), NAMES)


def test_what_fills_prompts_up_is_known_or_asked_for(folder):
    def pad():
        return OnnxTextTower(Checkpoint.open(folder), NAMES).prompts.pad

    assert pad() == 0
    write_tokenizer(folder, pad="<unk>")
    assert pad() == 2
    write_tokenizer(folder, pad=None)
    with pytest.raises(CheckpointError, match="which token of the vocabulary fills prompts up"):
        pad()
    settings = json.loads((folder / "tokenizer.json").read_text())
    padding = {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": None}
    settings["padding"] = {**padding, "pad_id": 1, "pad_type_id": 0, "pad_token": "<eos>"}
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    assert pad() == 1
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"holds no tokenizer\.json"):
        pad()


def test_words_are_read_as_each_generation_was_trained(folder):
    def suffixes(*names):
        return OnnxTextTower(Checkpoint.open(folder), names, "a photo of a {}.").prompts.suffixes

    second = suffixes("CAT", "dog's")
    assert second[0] == suffixes("cat", "dog")[0]
    assert len(second[0]) == 3  # the word, the full stop and <eos>
    assert len(second[1]) == 5
    write_tokenizer(folder, kind="SiglipTokenizer")
    with pytest.raises(InputError, match="characters that the tokenizer does not know"):
        suffixes("CAT", "dog's")  # "dogs", which this vocabulary lacks
    assert suffixes("CAT", "dog") == ((7, 1), (8, 1))


def test_the_last_block_cannot_be_tuned(given):
    with pytest.raises(InputError, match="choose another method"):
        _ = OnnxImageTower(given[0]).last_block
