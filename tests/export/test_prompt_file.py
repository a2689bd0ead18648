"""The prompt alone, and that CoOp's way of loading takes it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import safe_open

from command import sentence_of
from sharpzo.errors import InputError
from sharpzo.export.prompt_file import prompt_of, write_prompt
from sharpzo.methods import find

CONTEXT = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


def trained(method):
    return SimpleNamespace(
        method=find(method), arrays={"context": CONTEXT}, class_names=("a", "b"),
        template="a photo of a {}.", record={}, towers=SimpleNamespace(model=None),
    )  # fmt: skip


@pytest.mark.parametrize(("method", "shape"), [("sharpzo", (6, 5)), ("fgn-csc", (2, 3, 5))])
def test_coop_loads_what_was_tuned(method, shape, tmp_path):
    torch = pytest.importorskip("torch")
    assert write_prompt(trained(method), tmp_path / "out")
    # As `load_model` of CoOp and `load_checkpoint` of Dassl do it; strict=False hides other keys.
    file = tmp_path / "out" / "prompt_learner" / "model-best.pth.tar"
    checkpoint = torch.load(file, map_location="cpu")
    learner = torch.nn.Module()
    learner.ctx = torch.nn.Parameter(torch.zeros(shape))
    learner.register_buffer("token_prefix", torch.zeros(2, 1, 5))
    result = learner.load_state_dict(checkpoint["state_dict"], strict=False)
    assert result.unexpected_keys == []
    assert checkpoint["epoch"] == 1
    np.testing.assert_array_equal(learner.ctx.detach().numpy().reshape(6, 5), CONTEXT)


def test_safetensors_hold_the_context_and_what_it_belongs_to(tmp_path, monkeypatch):
    monkeypatch.setattr("sharpzo.export.prompt_file.find_spec", lambda name: None)
    assert not write_prompt(trained("sharpzo"), tmp_path / "out")
    [file] = (tmp_path / "out").iterdir()
    with safe_open(file, framework="numpy") as found:
        np.testing.assert_array_equal(found.get_tensor("ctx"), CONTEXT)
        about = found.metadata()
    assert json.loads(about["class_names"]) == ["a", "b"]
    assert (about["template"], about["model"]) == ("a photo of a {}.", "embedded")


def test_a_method_without_a_prompt_is_refused(run, tmp_path, capsys):
    with pytest.raises(InputError, match="gda, tunes no prompt"):
        prompt_of(SimpleNamespace(method=find("gda"), arrays={}))
    said = sentence_of(capsys, 2, "export", run, tmp_path / "out", "--prompt-only")
    assert "ladder+tokens, tunes no prompt" in said
    said = sentence_of(
        capsys, 2, "export", run, tmp_path / "out", "--prompt-only", "--precision", "int8"
    )
    assert "--precision does nothing with --prompt-only" in said
    assert not (tmp_path / "out").exists()
