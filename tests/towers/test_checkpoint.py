"""Reading model folders: formats, defaults, and every way in which a folder can be wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.checkpoint import EMBEDDED, Checkpoint, Weights, resolve
from sharpzo.towers.config import TextConfig, convert, parse_image, parse_text
from sharpzo.towers.tower import OnnxTextTower


@pytest.fixture
def folder(models, tmp_path) -> Path:
    """A private copy of a small checkpoint."""
    return Path(shutil.copytree(models["dual"][0], tmp_path / "model"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes(tmp_path, dtype):
    tensors = {"a": torch.randn(3, 5).to(dtype), "b": torch.tensor(2.0).to(dtype)}
    save_file(tensors, tmp_path / "model.safetensors")
    weights = Weights.open(tmp_path)
    for name, tensor in tensors.items():
        assert weights[name].dtype == np.float32
        assert np.array_equal(weights[name], tensor.float().numpy())
    assert np.array_equal(weights.rows("a", np.array([2, 0])), tensors["a"][[2, 0]].float())
    if dtype == torch.float32:  # a view of the map, not a copy
        assert np.shares_memory(weights["a"], weights["a"])


def test_shards_equal_one_file(models, tmp_path):
    folder, model = models["dual"]
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    whole, sharded = Checkpoint.open(folder), Checkpoint.open(tmp_path)
    assert set(whole.weights) == set(sharded.weights)
    assert whole.digest(["text_model."]) == sharded.digest(["text_model."])
    assert whole.fingerprint != sharded.fingerprint
    min(tmp_path.glob("model-*.safetensors")).unlink()
    with pytest.raises(CheckpointError, match="not a file in that folder"):
        Checkpoint.open(tmp_path)


def test_doubled_prefix_of_older_dual_encoders(folder):
    tensors = load_file(folder / "model.safetensors")
    old = {f"text_model.{k}" if k.startswith("text_model.") else k: v for k, v in tensors.items()}
    wanted = OnnxTextTower(Checkpoint.open(folder), ["cat", "dog"])
    save_file(old, folder / "model.safetensors")
    found = OnnxTextTower(Checkpoint.open(folder), ["cat", "dog"])
    assert np.array_equal(wanted.forward(wanted.start[None]), found.forward(found.start[None]))


def test_fingerprint_changes_with_any_file(folder):
    seen = {Checkpoint.open(folder).fingerprint}
    for name in ("config.json", "vocab.json", "preprocessor_config.json"):
        path = folder / name
        path.write_text(path.read_text() + " ")
        seen.add(Checkpoint.open(folder).fingerprint)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    seen.add(Checkpoint.open(folder).fingerprint)
    assert len(seen) == 5


def test_missing_files(tmp_path, folder):
    with pytest.raises(CheckpointError, match=r"config.json is missing"):
        Checkpoint.open(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"neither model.safetensors nor"):
        Checkpoint.open(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds list"):
        Checkpoint.open(folder)


def test_missing_tensor_and_wrong_shape(folder):
    tensors = load_file(folder / "model.safetensors")
    name = "text_model.encoder.layers.1.mlp.fc1.weight"
    cut = {k: v for k, v in tensors.items() if k != name}
    save_file(cut, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"{name}.*\(64, 32\)"):
        OnnxTextTower(Checkpoint.open(folder), ["cat"])
    save_file({**tensors, name: torch.zeros(64, 31)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"{name}.*\(64, 31\).*\(64, 32\)"):
        OnnxTextTower(Checkpoint.open(folder), ["cat"])


def test_damaged_weights(folder):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    for damage, message in (
        (data[:-10], "cut short"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
        (b"", "not a safetensors file"),
        ((5).to_bytes(8, "little") + b"{nope" + data, "damaged header"),
        ((13).to_bytes(8, "little") + b'{"a":{"b":1}}' + data, "tensor 'a': object missing"),
    ):
        path.write_bytes(damage)
        with pytest.raises(CheckpointError, match=message):
            Checkpoint.open(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "siglip"}, "'siglip' is not supported"),
        ({"text_config": {"model_type": "bert"}}, "'bert' is not supported: only the causal"),
        ({"vision_config": {"model_type": "vit"}}, "'vit' is not supported"),
        ({"text_config": {"model_type": "clip_text_model", "hidden_act": "relu"}}, "'relu'"),
        ({"text_config": {"model_type": "clip_text_model", "num_attention_heads": 7}}, "multiple"),
        ({"text_config": {"model_type": "clip_text_model", "eos_token_id": [1, 2]}}, "eos_token"),
        ({"vision_config": {"model_type": "dinov2", "use_swiglu_ffn": True}}, "SwiGLU"),
        (
            {"vision_config": {"model_type": "dinov2", "patch_size": [14, 16]}},
            "patch_size is .14, 16.; one",
        ),
        ({"text_config": {}}, "no model_type"),
    ],
)  # fmt: skip
def test_unsupported_architectures(folder, change, message):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(folder)


def test_defaults_are_those_of_transformers():
    import transformers

    config = transformers.CLIPConfig().to_dict()
    assert parse_text({"model_type": "clip"}) == parse_text(config)
    assert parse_image({"model_type": "clip"}) == parse_image(config)
    dinov2 = transformers.Dinov2Config().to_dict()
    kind = {"model_type": "vision-text-dual-encoder"}
    assert parse_image({**kind, "vision_config": {"model_type": "dinov2"}}) == parse_image(
        {**kind, "vision_config": dinov2}
    )
    old = {"model_type": "clip", "text_config": {"hidden_size": 8}, "text_config_dict": {}}
    assert parse_text(old).width == 512  # as transformers: the old name wins as a whole


def test_resolve(folder, tmp_path, monkeypatch):
    assert resolve(folder) == folder
    assert resolve(str(folder)) == folder
    if (EMBEDDED / "config.json").is_file():
        assert resolve() == EMBEDDED
    with pytest.raises(InputError, match="neither a folder nor a hub id"):
        resolve(tmp_path / "nowhere" / "at all")
    import huggingface_hub

    def refuse(*args, **kwargs):
        raise OSError("no route to host\nlong story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(CheckpointError, match=r"'openai/clip' could not.*no route to host\).*pass"):
        resolve("openai/clip")
    asked = {}

    def deliver(name, allow_patterns):
        asked.update(name=name, patterns=allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", deliver)
    assert resolve("openai/clip") == folder
    assert "model.safetensors" in asked["patterns"]
    assert not any(p.endswith(".bin") for p in asked["patterns"])


def test_towers_never_import_torch(models):
    code = f"""
import sys
import sharpzo.towers
assert not {{"onnx", "onnxruntime", "tokenizers", "PIL"}} & set(sys.modules)
import numpy as np
from sharpzo.towers import Checkpoint, OnnxImageTower, OnnxTextTower
checkpoint = Checkpoint.open({str(models["dual"][0])!r})
tower = OnnxTextTower(checkpoint, ["cat", "dog"])
tower.forward(tower.start[None])
OnnxImageTower(checkpoint).encode([np.zeros((9, 9, 3), np.uint8)])
assert not {{"torch", "transformers", "huggingface_hub"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_text_of_a_configuration_that_is_no_utf8_is_refused():
    with pytest.raises(CheckpointError, match=r"config.json holds text that is not UTF-8"):
        convert({"hidden_size": "\ud800"}, TextConfig, "config.json")
