"""What `doctor` measures, of a model of every family."""

import pytest
from open_clip_models import from_transformers, save_resnet
from pair_models import save_pair
from siglip_models import save_siglip

from sharpzo.towers import measure


@pytest.fixture(params=["clip", "dual", "resnet", "siglip", "pair"])
def model(request, models, tmp_path):
    """A folder, and whether NumPy has its image tower."""
    if request.param in ("clip", "dual"):
        return models["clip-quick" if request.param == "clip" else "dual"][0], True
    if request.param == "resnet":
        clip = from_transformers(models["clip-quick"][0], tmp_path / "clip")
        return save_resnet(clip, tmp_path / "resnet"), True
    if request.param == "siglip":
        save_siglip(tmp_path / "siglip")
        return tmp_path / "siglip", True
    return save_pair(tmp_path / "pair"), False


def test_costs_and_differences_of_every_family(model, monkeypatch):
    monkeypatch.setattr(measure, "_SECONDS", 0.01)
    monkeypatch.setattr(measure, "NAMES", ("cat", "dog"))  # what each small tokenizer knows
    folder, compared = model
    found = measure.measure(str(folder), 1, ["onnxruntime"])
    assert found["forward"]["onnxruntime"] > 0
    assert found["photo"] > 0
    assert (found["image_apart"] is not None) == compared
    assert (found["image_apart"] or 0) < 1e-4
    assert set(found["photo_in"]) <= {"int8"}  # bfloat16 is another engine's
    assert all(cost > 0 for cost in found["photo_in"].values())
