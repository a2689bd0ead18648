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

from sharpzo.classifier import PromptClassifier
from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.photo import Photo
from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.checkpoint import EMBEDDED, Checkpoint, resolve
from sharpzo.towers.config import TextConfig, convert, parse_image, parse_text, read_json
from sharpzo.towers.features import encode
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.towers.tokenizer import Tokenizer
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.towers.weights import Weights


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


def _tensor(begin: int, end: int, shape: tuple[int, ...] = (2,), dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "header",
    [
        b"{nope",
        b"[" * 100_000,
        {"a": {"b": 1}},
        {"a": _tensor(-(10**18), 0)},
        {"a": _tensor(2**32, 2**32, (0,))},
        {"a": _tensor(8, 0)},
        {"a": _tensor(0, 8, (2**32, 2**32))},
        {"a": _tensor(0, 8), "b": _tensor(0, 8)},  # overlap
        {"a": _tensor(8, 16)},  # a gap
        {"a": _tensor(0, 8, (2,), "F33")},
        {"a": _tensor(0, 8, (-2,))},
        {"a": _tensor(0, 4000, (1000,))},
    ],
    ids=lambda header: str(header)[:60],
)
def test_a_damaged_or_hostile_header_is_refused(tmp_path, header):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(16))
    with pytest.raises(CheckpointError, match="cut short or damaged"):
        Weights.open(tmp_path)


def test_weights_that_are_cut_short_or_no_weights(folder):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    for damage in (data[:-10], data + b"more", pointer, b"", (2**60).to_bytes(8, "little")):
        path.write_bytes(damage)
        with pytest.raises(CheckpointError, match=r"cut short or damaged .*LFS"):
            Checkpoint.open(folder)


@pytest.mark.parametrize("tower", ["text", "vision"])
def test_layers_that_the_configuration_leaves_out_are_refused(folder, tower):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config[f"{tower}_config"]["num_hidden_layers"] -= 1
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"config.json gives {tower}_model \d layers"):
        Checkpoint.open(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logit_scale", float("nan")), ("logit_scale", 1e30), ("logit_scale", -1e30),
        ("text_model.encoder.layers.0.mlp.fc1.weight", float("nan")),
        ("text_projection.weight", float("inf")),
        ("vision_model.encoder.layer.0.mlp.fc1.weight", float("nan")),
        ("vision_model.embeddings.position_embeddings", float("-inf")),
    ],
)  # fmt: skip
def test_a_weight_that_is_not_finite_never_gives_an_answer(folder, tmp_path, name, value):
    tensors = load_file(folder / "model.safetensors")
    tensors[name].view(-1)[0] = value
    save_file(tensors, folder / "model.safetensors")
    checkpoint = Checkpoint.open(folder)
    pixels = np.full((70, 70, 3), 99, np.uint8)
    photos = LabelledPhotos((Photo("grey", pixels=pixels),), np.zeros(1, np.int64), ("cat",))

    def answer() -> None:
        _ = OnnxTextTower(checkpoint, ["cat"]).untuned
        encode(checkpoint, {"train": photos}, cache=tmp_path)

    with pytest.raises(CheckpointError, match=r"logit_scale|not finite"):
        answer()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("preprocessor_config.json", {"size": {"shortest_edge": 20_000}}, "<= 1024"),
        ("preprocessor_config.json", {"crop_size": {"height": 10**6, "width": 9}}, "<= 1024"),
        ("preprocessor_config.json", {"image_std": [0.1, 0, 0.1]}, "image_std.*> 0"),
        ("preprocessor_config.json", {"image_std": [0.1, 0.1]}, "length 3"),
        ("preprocessor_config.json", {"image_mean": ["0", 0, 0]}, "image_mean"),
        ("preprocessor_config.json", {"rescale_factor": "1/255"}, "rescale_factor"),
        ("preprocessor_config.json", {"resample": 99}, "resample"),
        ("config.json", b'{"a": NaN}', "not readable JSON"),
        ("config.json", b"[" * 100_000, "nested too deeply"),
        ("config.json", b'"\xff"', "not readable JSON"),
        (
            "tokenizer.json",
            b'{"model": {"type": "BPE", "vocab": 5}}',
            "tokenizer.json is not readable",
        ),
    ],
)
def test_a_hostile_document_is_refused_in_a_sentence(folder, file, change, message):
    path = folder / file
    if not isinstance(change, bytes):
        change = json.dumps(json.loads(path.read_text()) | change).encode()
    path.write_bytes(change)

    def read() -> None:
        checkpoint = Checkpoint.open(folder)
        Preprocessing.open(checkpoint)
        Tokenizer.open(checkpoint)

    with pytest.raises(CheckpointError, match=message):
        read()


def test_what_is_no_file_is_not_opened(tmp_path):
    (tmp_path / "config.json").mkdir()  # a pipe would block
    with pytest.raises(CheckpointError, match="is no file"):
        read_json(tmp_path / "config.json")


def test_a_panic_of_the_tokenizer_library_is_one_sentence(folder, monkeypatch):
    import tokenizers

    class PanicException(BaseException):
        pass

    def panic(path: str) -> None:
        raise PanicException("index out of bounds")

    (folder / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(tokenizers, "Tokenizer", type("Tokenizer", (), {"from_file": panic}))
    with pytest.raises(CheckpointError, match="index out of bounds"):
        Tokenizer.open(Checkpoint.open(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "altclip"}, "'altclip' is not supported"),
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
    asked = []

    def deliver(name, revision, allow_patterns, local_files_only):
        asked.append((name, revision, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", deliver)
    assert resolve("openai/clip@refs-1") == folder
    (name, revision, sides), (again, commit, weights) = asked
    assert (name, revision) == ("openai/clip", "refs-1")
    assert "config.json" in sides
    assert (again, commit) == ("openai/clip", folder.name)  # what the first answer stands for
    assert "model.safetensors" in weights
    assert not any(p.endswith((".safetensors", ".bin")) for p in sides)
    assert not any(p.endswith(".bin") for p in weights)


def test_a_run_names_its_models_revision_and_never_downloads_by_itself(
    folder, tmp_path, monkeypatch
):
    from huggingface_hub import constants

    commit, hub = "a" * 40, tmp_path / "hub" / "models--me--tiny"
    shutil.copytree(folder, hub / "snapshots" / commit)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    photos = [np.full((9, 9, 3), grey, np.uint8) for grey in (0, 50, 200, 250)]
    PromptClassifier("gda", model="me/tiny").fit(photos, ["cat", "cat", "dog", "dog"]).save(
        tmp_path / "run"
    )
    assert json.loads((tmp_path / "run" / "run.json").read_text())["model"]["id"] == (
        f"me/tiny@{commit}"
    )
    (hub / "refs" / "main").write_text("b" * 40)  # the hub has a later one
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert PromptClassifier.load(tmp_path / "run").predict(photos[:1]) == ["cat"]
    shutil.rmtree(hub)
    with pytest.raises(CheckpointError, match=r"'me/tiny' is not on this machine; name it"):
        PromptClassifier.load(tmp_path / "run")


def test_towers_never_import_torch(models):
    code = f"""
import sys
import sharpzo.towers.open
assert not {{"onnx", "onnxruntime", "tokenizers", "PIL"}} & set(sys.modules)
import numpy as np
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower
checkpoint = Checkpoint.open({str(models["dual"][0])!r})
tower = OnnxTextTower(checkpoint, ["cat", "dog"])
tower.forward(tower.start[None])
OnnxImageTower(checkpoint).states([np.zeros((9, 9, 3), np.uint8)])
assert not {{"torch", "transformers", "huggingface_hub"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_text_of_a_configuration_that_is_no_utf8_is_refused():
    with pytest.raises(CheckpointError, match=r"config.json holds text that is not UTF-8"):
        convert({"hidden_size": "\ud800"}, TextConfig, "config.json")
