"""Options of OpenCLIP's towers against its computation in plain NumPy."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip_models import CONFIG, WEIGHTS, from_transformers, save, with_options
from open_clip_reference import image_features, text_features
from random_models import relative
from safetensors.torch import load_file
from test_open_clip import change

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.families import image_family, text_family
from sharpzo.towers.lowmem.streaming import stream
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower

NAMES = ["cat", "dog", "the photo cat"]
WIDE = 32  # of the text tower
TEXT = {
    "coca": {"embed_cls": True, "pool_type": "last"},
    "both-ways": {"no_causal_mask": True},
    "both-ways-last": {"no_causal_mask": True, "pool_type": "last", "proj_bias": True,
                       "act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-6}},
    "both-ways-first": {"no_causal_mask": True, "pool_type": "first"},
    "causal-last": {"pool_type": "last"},
    "causal-bias": {"proj_bias": True},
}  # fmt: skip
IMAGE = {
    "avg": {"pool_type": "avg"},
    "clipa": {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},
    "scaled": {"ls_init_value": 1e-4, "final_ln_after_pool": True},
    "tanh": {"act_kwargs": {"approximate": "tanh"}},
    "coca": {"attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 5},
}


@pytest.fixture(scope="module")
def made(models, tmp_path_factory) -> Path:
    return from_transformers(models["clip-gelu"][0], tmp_path_factory.mktemp("options") / "clip")


def read(folder: Path):
    state = {name: one.double().numpy() for name, one in load_file(folder / WEIGHTS).items()}
    return json.loads((folder / CONFIG).read_text())["model_cfg"], state


def filled(tower, config) -> np.ndarray:
    """The ids of a tower's prompts as OpenCLIP's tokenizer makes them."""
    prompts, length = tower.prompts, config["text_cfg"]["context_length"]
    ids = np.zeros((len(prompts.suffixes), length), int)
    for row, suffix in zip(ids, prompts.suffixes, strict=True):
        words = [one for one in suffix if one < config["text_cfg"]["vocab_size"]]
        found = [*prompts.before, *prompts.prefix, *words]
        row[: len(found)] = found
    return ids


@pytest.mark.parametrize("name", list(TEXT))
def test_text_towers(made, tmp_path, name):
    folder = with_options(made, tmp_path / "model", "text", TEXT[name])
    config, state = read(folder)
    checkpoint = Checkpoint.open(folder)
    tower = OnnxTextTower(checkpoint, NAMES, threads=1)
    ids = filled(tower, config)
    draws = np.random.default_rng(0)
    contexts = tower.start + 0.3 * draws.normal(size=(3, *tower.start.shape)).astype(np.float32)
    wanted = np.stack([text_features(state, config, ids, one) for one in contexts])
    assert relative(tower.untuned, text_features(state, config, ids)) < 1e-5
    assert relative(tower.forward(contexts), wanted) < 1e-5
    assert relative(tower.states(contexts) @ tower.projection.T, wanted) < 1e-5
    # Each class with a context of its own.
    own = OnnxTextTower(checkpoint, NAMES, threads=1, specific=True)
    several = contexts.reshape(1, -1, contexts.shape[2])
    chosen = wanted[np.arange(3), np.arange(3)]
    assert relative(own.forward(several)[0], chosen) < 1e-5
    # Block by block, with derivatives; those beside differences.
    directions = 0.3 * draws.normal(size=contexts.shape).astype(np.float32)
    features, slopes = tower.jvp(contexts[0], directions)
    step = 1e-2
    ahead, behind = (
        np.stack([text_features(state, config, ids, contexts[0] + s * one) for one in directions])
        for s in (step, -step)
    )
    assert relative(features, wanted[0]) < 1e-5
    assert relative(slopes, (ahead - behind) / (2 * step)) < 1e-3
    with closing(stream(checkpoint, tower.prompts, 1)) as blocks:
        assert relative(blocks.run(["features"], {"context": contexts})[0], wanted) < 1e-5
    with closing(stream(checkpoint, tower.prompts, 1, tangents=True)) as blocks:
        given = {"context": contexts[:1], "directions": directions}
        assert relative(blocks.run(["derivatives"], given)[0], slopes) < 1e-5


@pytest.mark.parametrize("name", list(IMAGE))
def test_image_towers(made, tmp_path, name):
    folder = with_options(made, tmp_path / "model", "vision", IMAGE[name])
    config, state = read(folder)
    checkpoint = Checkpoint.open(folder)
    family, tower = image_family(checkpoint), OnnxImageTower(checkpoint, threads=1)
    pixels = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    wanted = image_features(state, config, pixels)
    assert relative(tower.forward(pixels) @ family.projection(checkpoint).T, wanted) < 1e-5
    tokens, summary = tower.trace(pixels)
    last = np.stack([tokens[:, 0], tokens[:, 1:].mean(axis=1)], axis=1)
    assert np.allclose(summary[:, 1:3], last, atol=1e-5)
    assert np.array_equal(tower.summarise(pixels), summary)
    layered = family.layered(checkpoint, 32, 32)
    assert relative(layered.summaries(pixels), summary) < 5e-6


def test_a_pooler_of_the_towers_own_width_is_kept_as_one_matrix(made, tmp_path):
    """As torch keeps it where features are as wide as tokens."""
    folder = with_options(made, tmp_path / "model", "vision", IMAGE["coca"])
    config, state = read(folder)
    m = config["vision_cfg"]["width"]
    generator = torch.Generator().manual_seed(5)
    tensors = {name: one for name, one in load_file(folder / WEIGHTS).items()
               if "attn_pool" not in name and name not in ("text_projection", "visual.proj")
               and "ln_post" not in name}  # fmt: skip
    pool, ones = "visual.attn_pool", {"visual.ln_post": m}
    ones |= {f"{pool}.ln_q": m, f"{pool}.ln_k": m}
    for name, width in ones.items():
        tensors[f"{name}.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
        tensors[f"{name}.bias"] = 0.1 * torch.randn(width, generator=generator)
    shapes = {"visual.proj": (m, m), "text_projection": (WIDE, m), f"{pool}.query": (5, m),
              f"{pool}.attn.in_proj_weight": (3 * m, m), f"{pool}.attn.in_proj_bias": (3 * m,),
              f"{pool}.attn.out_proj.weight": (m, m),
              f"{pool}.attn.out_proj.bias": (m,)}  # fmt: skip
    for name, shape in shapes.items():
        tensors[name] = torch.randn(shape, generator=generator) / shape[-1] ** 0.5
    save(folder, {**config, "embed_dim": m}, tensors)
    config, state = read(folder)
    checkpoint = Checkpoint.open(folder)
    pixels = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    found = OnnxImageTower(checkpoint, threads=1).forward(pixels)
    wanted = image_features(state, config, pixels)
    assert relative(found @ image_family(checkpoint).projection(checkpoint).T, wanted) < 1e-5


@pytest.mark.parametrize("fewer", ["float16", "int8"])
@pytest.mark.parametrize("name", ["coca", "both-ways-last"])
def test_block_by_block_in_fewer_bits(made, tmp_path, name, fewer):
    checkpoint = Checkpoint.open(with_options(made, tmp_path / "model", "text", TEXT[name]))
    tower = OnnxTextTower(checkpoint, NAMES, threads=1, precision=fewer)
    with closing(stream(checkpoint, tower.prompts, 1, fewer)) as blocks:
        found = blocks.run(["features"], {"context": tower.start[None]})[0]
    assert relative(found[0], tower.untuned) < 1e-5


def test_a_class_token_needs_a_place_and_a_mask(made, tmp_path):
    """The longest prompt leaves room for the token of filling that the class token reads, and a
    word whose id is that of filling is refused: OpenCLIP would not read what follows it."""
    checkpoint = Checkpoint.open(with_options(made, tmp_path / "model", "text", TEXT["coca"]))
    family = text_family(checkpoint)
    longest = " ".join(["cat"] * (32 - 1 - 2))
    assert family.layout(checkpoint, [longest], "{}", None, False).tokens == 32 - 1 - 1 + 2
    with pytest.raises(InputError, match="the text tower holds 31"):
        family.layout(checkpoint, [f"{longest} cat"], "{}", None, False)
    with pytest.raises(InputError, match="characters that the tokenizer does not know"):
        family.layout(checkpoint, ["!cat?!!?"], "{}", None, False)


def test_bert_words_whose_end_is_filling(made, tmp_path):
    """CLIPA's: [CLS] words, and zeros in place of [SEP] up to the last token, which is read."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    options = {"no_causal_mask": True, "pool_type": "last", "hf_tokenizer_name": "bert",
               "tokenizer_kwargs": {"strip_sep_token": True, "clean": "lower"}}  # fmt: skip
    folder = with_options(made, tmp_path / "model", "text", options)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "cat", "dog", "the"]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(pieces)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    core.save(str(folder / "tokenizer.json"))
    said = {"pad_token": "[PAD]", "sep_token": {"content": "[SEP]"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    config, state = read(folder)
    tower = OnnxTextTower(Checkpoint.open(folder), ["Cat", "the dog"], "a photo of {}")
    ids = filled(tower, config)
    assert ids[:, :8].tolist() == [[2, 4, 5, 6, 7, 0, 0, 0], [2, 4, 5, 6, 9, 8, 0, 0]]
    assert relative(tower.untuned, text_features(state, config, ids)) < 1e-5
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="which token of the vocabulary fills prompts up"):
        OnnxTextTower(Checkpoint.open(folder), ["Cat"])


def test_an_eos_of_id_2_is_no_highest_id(made, tmp_path):
    """XLM's: the rule that takes the highest id is written as 2 in other formats."""
    options = {"pool_type": "eos", "eos_id": 2}
    checkpoint = Checkpoint.open(with_options(made, tmp_path / "model", "text", options))
    assert checkpoint.text.family == "clip"
    assert not checkpoint.text.highest


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        ("vision_cfg", {"pool_type": "none"}, "pool_type is 'none'.*no feature of a photo"),
        ("vision_cfg", {"attentional_pool": "cascade"}, "attentional_pool is 'cascade'"),
        ("vision_cfg", {"attentional_pool": True, "pool_type": "avg"}, "beside attentional_pool"),
        ("vision_cfg", {"attentional_pool": True, "attn_pooler_heads": 7}, "attn_pooler_heads"),
        ("vision_cfg", {"attentional_pool": True}, "visual.proj' has shape"),
        ("vision_cfg", {"pool_type": "mean"}, "vision_cfg.pool_type: invalid enum value 'mean'"),
        ("vision_cfg", {"act_kwargs": {"approximate": "sin"}}, "act_kwargs.approximate"),
        ("text_cfg", {"pool_type": "none"}, "pool_type is 'none'.*no feature of a sentence"),
        ("text_cfg", {"pool_type": "first"}, "the first token sees no other"),
        ("text_cfg", {"proj_type": "none"}, "text_cfg.width 32 is not embed_dim 24"),
        ("text_cfg", {"proj_type": "mlp"}, "text_cfg.proj_type"),
        ("text_cfg", {"proj_bias": True}, "'text_projection', which no supported option"),
        ("text_cfg", {"embed_cls": True}, "no tensor 'cls_emb'|positional_embedding"),
        ("text_cfg", {"embed_cls": True, "no_causal_mask": True}, "True.*beside embed_cls"),
        ("text_cfg", {"embed_cls": True, "pad_id": 7}, "pad_id is 7.*beside embed_cls"),
        ("text_cfg", {"tokenizer_kwargs": {"clean": "lower"}}, "with CLIP's own tokenizer"),
        ("text_cfg", {"tokenizer_kwargs": {"reduction_mask": "x"}}, "tokenizer_kwargs"),
    ],
)
def test_what_no_tower_does_is_refused_by_its_name(made, tmp_path, part, options, message):
    folder = Path(shutil.copytree(made, tmp_path / "model"))
    change(folder, part, **options)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(folder)
