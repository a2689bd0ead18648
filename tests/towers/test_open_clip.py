"""Folders of OpenCLIP: the same towers under other names, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip_models import CONFIG, from_transformers
from safetensors.torch import load_file, save_file

from sharpzo.errors import CheckpointError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.towers.tokenizer import Tokenizer
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower

WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def made(models, tmp_path_factory) -> Path:
    """A folder of OpenCLIP that holds the same model as `models` does."""
    return from_transformers(models["clip-quick"][0], tmp_path_factory.mktemp("open") / "clip")


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "model"))


def change(folder: Path, part: str | None = None, **options) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (config["model_cfg"][part] if part else config["model_cfg"]).update(options)
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize(("kind", "prefix"), [("clip-quick", ""), ("clip-gelu", "text.")])
def test_both_towers_are_those_of_transformers(models, tmp_path, kind, prefix):
    source = models[kind][0]
    other = from_transformers(source, tmp_path / "other", prefix, custom_text=bool(prefix))
    pixels = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    ours, theirs = (Checkpoint.open(one) for one in (source, other))
    for checkpoint in (ours, theirs):
        assert checkpoint.image.activation == checkpoint.text.activation
    states = [OnnxImageTower(c, threads=1).summarise(pixels) for c in (ours, theirs)]
    np.testing.assert_array_equal(*states)
    towers = [OnnxTextTower(c, ["cat", "dog"], threads=1) for c in (ours, theirs)]
    np.testing.assert_array_equal(*(tower.untuned for tower in towers))
    np.testing.assert_array_equal(*(tower.jvp(tower.start, tower.start[None])[1]
                                    for tower in towers))  # fmt: skip
    assert towers[0].logit_scale == towers[1].logit_scale


def test_the_preprocessing_is_the_configurations(folder):
    assert Preprocessing.open(Checkpoint.open(folder)).size == (32, 32)
    config = json.loads((folder / CONFIG).read_text())
    look = {"mean": [0.5] * 3, "std": [0.2] * 3, "interpolation": "bilinear",
            "resize_mode": "squash"}  # fmt: skip
    (folder / CONFIG).write_text(json.dumps({**config, "preprocess_cfg": look}))
    found = Preprocessing.open(Checkpoint.open(folder))
    assert (found.resize, found.crop, found.resample) == ((32, 32), None, 2)
    assert (found.mean, found.std) == ((0.5,) * 3, (0.2,) * 3)


def test_clips_own_words_where_no_file_has_a_tokenizer(folder):
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    tensors = load_file(folder / WEIGHTS)
    change(folder, "text_cfg", vocab_size=49408)
    save_file(tensors | {"token_embedding.weight": torch.zeros(49408, 32)}, folder / WEIGHTS)
    tokenizer = Tokenizer.open(Checkpoint.open(folder))
    assert (tokenizer.sos_id, tokenizer.eos_id) == (49406, 49407)
    # As OpenAI's own encoder has them.
    assert tokenizer.tokenize("a photo of a cat.") == [320, 1125, 539, 320, 2368, 269]
    assert tokenizer.tokenize("Hello World! I've 42 ☆") == [
        3306, 1002, 256, 328, 1200, 275, 273, 13439,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        ("vision_cfg", {"timm_model_name": "vit_base_mci_224"}, "timm_model_name is 'vit_base_mci"),
        ("text_cfg", {"ls_init_value": 1e-4}, "text_cfg.ls_init_value"),
        ("vision_cfg", {"qk_norm": True}, "vision_cfg.qk_norm"),
        ("vision_cfg", {"something_new": 3}, "vision_cfg.something_new is 3"),
        ("vision_cfg", {"head_width": 7}, "width 48 is not a multiple of head_width 7"),
        ("vision_cfg", {"width": -5}, "vision_cfg.width"),
        ("vision_cfg", {"image_size": 10**6}, "vision_cfg.image_size.*<= 1024"),
        ("vision_cfg", {"mlp_ratio": 1e300}, "vision_cfg.mlp_ratio"),
        ("vision_cfg", {"layers": 10**9}, r"vision_cfg.layers.*<= 1000"),
        ("text_cfg", {"layers": 2}, "holds? 3 blocks.*says 2 layers"),
        ("text_cfg", {"hf_model_name": "roberta-base"}, "hf_model_name is 'roberta-base'"),
        ("text_cfg", {"hf_tokenizer_name": "timm/x"}, "hf_tokenizer_name"),
        ("text_cfg", {"norm_kwargs": {"eps": 1e-6, "elementwise_affine": False}}, "norm_kwargs"),
        ("text_cfg", {"heads": 7}, "multiple of 7 heads"),
        (None, {"embed_dim": "wide"}, "model_cfg.embed_dim"),
        (None, {"vision_cfg": None}, "model_cfg.vision_cfg"),
    ],
)
def test_what_would_change_a_tower_is_refused_by_its_name(folder, part, options, message):
    change(folder, part, **options)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(folder)


def test_options_of_training_change_nothing(folder):
    change(folder, "vision_cfg", patch_dropout=0.5, output_tokens=True, timm_pool="avg")
    change(folder, "text_cfg", proj_bias=False, output_tokens=True)
    assert Checkpoint.open(folder).image.layers == 2


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("visual.transformer.resblocks.1.mlp.c_fc.weight"),
         r"holds no tensor 'visual.transformer.resblocks.1.mlp.c_fc.weight'.*\(64, 48\)"),
        (lambda t: t.update({"transformer.resblocks.0.attn.in_proj_weight": torch.zeros(95, 32)}),
         r"'transformer.resblocks.0.attn.in_proj_weight' has shape \(95, 32\).*\(96, 32\)"),
        (lambda t: t.update({"visual.transformer.resblocks.0.ls_1.gamma": torch.ones(48)}),
         r"'visual.transformer.resblocks.0.ls_1.gamma', which no supported option"),
        (lambda t: t.update({"text.ln_final.weight": torch.ones(32)}), r"blocks"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_belong_are_named(folder, edit, message):
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(folder)


def test_a_sigmoids_bias_and_a_decoder_are_left_out(folder):
    tensors = load_file(folder / WEIGHTS)
    extra = {"logit_bias": torch.ones(()), "text_decoder.resblocks.0.x": torch.ones(3),
             "attn_mask": torch.ones(3, 3)}  # fmt: skip
    save_file(tensors | extra, folder / WEIGHTS)
    assert Checkpoint.open(folder).weights.keys() == Checkpoint.open(folder).weights.keys()
    assert not any("decoder" in name for name in Checkpoint.open(folder).weights)


@pytest.mark.parametrize(
    ("name", "quick", "trained"),
    [
        ("vit_base_patch32_clip_224.openai", False, "quick_gelu"),
        ("ViT-B-16-laion2B", True, "gelu"),
        ("DFN2B-CLIP-ViT-B-16", True, None),
        ("mine", False, None),
    ],
)
def test_a_known_name_that_disagrees_with_the_activation_is_said(folder, name, quick, trained):
    change(folder, quick_gelu=quick)
    hub = folder.parent / f"models--owner--{name}" / "snapshots"
    hub.mkdir(parents=True)
    for place in (folder.rename(folder.parent / name), hub / ("a" * 40)):
        if place.parent == hub:
            shutil.copytree(folder.parent / name, place)
        warnings = Checkpoint.open(place).warnings
        assert bool(warnings) == (trained is not None)
        if trained is not None:
            assert f"were trained with {trained}," in warnings[0]


def test_a_folder_of_both_formats_is_read_as_its_configuration_says(models, folder):
    source = models["clip-quick"][0]
    (folder / "config.json").write_text('{"architecture": "vit_base_patch16_clip_224"}')  # timm's
    assert Checkpoint.open(folder).config == CONFIG
    for name in ("config.json", "model.safetensors"):
        shutil.copy(source / name, folder / name)
    assert Checkpoint.open(folder).config == "config.json"
    (folder / "config.json").unlink()
    (folder / WEIGHTS).unlink()
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds none of open_clip_model"):
        Checkpoint.open(folder)
