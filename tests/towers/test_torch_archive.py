"""Files of PyTorch's weights: TorchScript and state dicts, read without running what is in them."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip_models import CONFIG, from_transformers, save_resnet
from safetensors.torch import load_file

from sharpzo.errors import CheckpointError
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.torch_archive import read_archive
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower

WEIGHTS = "open_clip_model.safetensors"


class Tree(torch.nn.Module):
    """Modules in modules with the tensors of a state dict, as parameters and buffers."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name in dict.fromkeys(name.split(".")[0] for name in state):
            inside = {k.partition(".")[2]: v for k, v in state.items() if k.split(".")[0] == name}
            if "" in inside:
                kind = inside[""].is_floating_point()
                own = torch.nn.Parameter(inside[""]) if kind else None
                setattr(self, name, own) if kind else self.register_buffer(name, inside[""])
            else:
                setattr(self, name, Tree(inside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def save_script(state: dict[str, torch.Tensor], file: Path) -> Path:
    """Write a file as OpenAI does: TorchScript in half precision, with sizes as buffers."""
    sizes = {"input_resolution": torch.tensor(64), "context_length": torch.tensor(77),
             "vocab_size": torch.tensor(9)}  # fmt: skip
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    torch.jit.save(torch.jit.script(Tree(half | sizes)), str(file))
    return file


@pytest.fixture(scope="module", params=["vit", "resnet"])
def made(request, tmp_path_factory):
    """A folder of OpenCLIP whose model has the head widths of OpenAI's."""
    from random_models import save_clip

    root = tmp_path_factory.mktemp("archive")
    text = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
            "num_attention_heads": 1, "max_position_embeddings": 32}  # fmt: skip
    vision = {**text, "image_size": 32, "patch_size": 8, "num_attention_heads": 1}
    del vision["max_position_embeddings"]
    save_clip(root / "clip", text, vision, eos=2)
    folder = from_transformers(root / "clip", root / "vit")
    return save_resnet(folder, root / "resnet") if request.param == "resnet" else folder


@pytest.mark.filterwarnings("ignore")
def test_openais_file_is_the_same_model(made, tmp_path):
    file = save_script(load_file(made / WEIGHTS), tmp_path / "model.pt")
    assert resolve(str(file)) == file
    ours, theirs = Checkpoint.open(made), Checkpoint.open(file)
    assert theirs.image.width == ours.image.width
    assert (theirs.text.activation, theirs.image.image_size) == (
        "quick_gelu", ours.image.image_size
    )  # fmt: skip
    for name in ours.weights:
        halved = ours.weights[name].astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(theirs.weights[name], halved, err_msg=name)
    side = ours.image.image_size
    pixels = np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32)
    assert np.isfinite(OnnxImageTower(theirs, threads=1).summarise(pixels)).all()
    if theirs.text.vocabulary == 49408:
        assert OnnxTextTower(theirs, ["cat"]).untuned.shape == (1, 24)


@pytest.mark.parametrize("nested", [False, True])
def test_a_state_dict_beside_open_clips_configuration(made, tmp_path, nested):
    folder = Path(shutil.copytree(made, tmp_path / "model"))
    state = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    given = {f"module.{k}": v for k, v in state.items()} if nested else state
    given = {"epoch": 3, "name": "x", "state_dict": OrderedDict(given)} if nested else given
    torch.save(given, folder / "open_clip_pytorch_model.bin")
    ours, theirs = Checkpoint.open(made), Checkpoint.open(folder)
    for name in ours.weights:
        np.testing.assert_array_equal(theirs.weights[name], ours.weights[name])


def test_a_transposed_matrix_is_turned(tmp_path):
    matrix = torch.arange(6.0).reshape(2, 3)
    torch.save({"a": matrix.T, "b": matrix[1], "c": torch.tensor(2.0)}, tmp_path / "x.pt")
    weights = read_archive(tmp_path / "x.pt")
    assert weights["a"].tolist() == matrix.T.tolist()
    assert weights["b"].tolist() == [3, 4, 5]
    assert weights["c"].shape == ()


class Runs:
    """What a hostile pickle would run."""

    def __init__(self, call, *arguments) -> None:
        self.made = call, arguments

    def __reduce__(self):
        return self.made


def write(file: Path, content: bytes, *, compress: bool = False, more: int = 0) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
        archive.writestr("x/data.pkl", content, kind)
        archive.writestr("x/constants.pkl", b"")
        archive.writestr("x/data/0", bytes(more), kind)
    return file


def tensor(shape: tuple, strides: tuple, offset: int = 0, key: str = "0") -> bytes:
    """A pickle of {"a": a tensor}, written as PyTorch does."""

    class Storage:
        pass

    import io

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            known = isinstance(value, Storage)
            return ("storage", torch.FloatStorage, key, "cpu", 4) if known else None

    stream = io.BytesIO()
    call = Runs(torch._utils._rebuild_tensor_v2, Storage(), offset, shape, strides, False, {})
    Pickler(stream, 2).dump({"a": call})
    return stream.getvalue()


def test_a_pickle_runs_nothing(tmp_path):
    marker = tmp_path / "ran"
    for call in (Runs(os.system, f"touch {marker}"), Runs(eval, f"open({str(marker)!r}, 'w')")):
        file = write(tmp_path / "x.pt", pickle.dumps({"a": call}, 2))
        with pytest.raises(CheckpointError, match=r"its pickle calls '.*which no file of weights"):
            read_archive(file)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "how", "message"),
    [
        (tensor((2, 2), (2, 1)), {"more": 16}, None),
        (tensor((2, 2), (2, 1)), {"more": 12}, "does not lie in its record"),
        (tensor((2**40, 2**40), (2**40, 1)), {"more": 16}, "does not lie in its record"),
        (tensor((-2, -2), (-2, 1)), {"more": 16}, "does not lie in its record"),
        (tensor((2, 2), (0, 0)), {"more": 16}, "does not lie in its record"),
        (tensor((2, 2), (2, 1), offset=-1), {"more": 16}, "does not lie in its record"),
        (tensor((2, 2), (2, 1), key="../../etc/passwd"), {"more": 16}, "are missing"),
        (tensor((2, 2), (2, 1)), {"more": 1 << 24, "compress": True}, "compressed"),
        (b"\x80\x02" + b"(" * 10**5 + b".", {}, "holds no tensors"),
        (b"\x80\x02}q\x00.", {}, "holds no tensors"),
        # A dict in itself, twice: the ways through it are 2 to the power of its depth.
        (b"\x80\x02}q\x00(K\x00h\x00K\x01h\x00u.", {}, "too many"),
        (b"nonsense", {}, "cannot be followed"),
        (b"", {}, "cannot be followed"),
        (b"\x80\x02}}0.", {}, "the opcode POP"),
    ],
)
def test_a_hostile_file_is_refused(tmp_path, content, how, message):
    file = write(tmp_path / "x.pt", content, **how)
    if message is None:
        read_archive(file)
        return
    with pytest.raises(CheckpointError, match=message):
        read_archive(file)


def test_what_is_no_file_of_openai_is_refused(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"PK no zip")
    with pytest.raises(CheckpointError, match="not a zip"):
        Checkpoint.open(tmp_path / "x.pt")
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=rf"without a configuration.*{CONFIG}"):
        Checkpoint.open(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        Checkpoint.open(write(tmp_path / "y.pt", b"\x80\x02}q\x00."))
