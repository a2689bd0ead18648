"""A person's own CLIP checkpoint instead of the embedded model, from fit to predict."""

import numpy as np
import pytest
from PIL import Image

from command import document

pytest.importorskip("transformers")


@pytest.fixture
def checkpoint(tmp_path):
    from towers.random_models import TEXT, VISION, save_clip

    vision = {**VISION, "intermediate_size": 64, "image_size": 32, "patch_size": 16}
    save_clip(tmp_path / "clip", TEXT, vision)
    return tmp_path / "clip"


@pytest.fixture
def photos(tmp_path):
    draws = np.random.default_rng(0)
    for name, shade in (("dark cat", 60), ("bright dog", 190)):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(8):
            pixels = np.clip(shade + 40 * draws.normal(size=(40, 50, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("method", ["projection", "sharpzo"])
def test_fit_and_predict_with_a_clip_checkpoint(checkpoint, photos, tmp_path, capsys, method):
    out = tmp_path / "run"
    options = ("--model", checkpoint, "--method", method, "--budget-forwards", 200)
    report = document(capsys, "fit", photos, "--out", out, *options)
    assert report["validation_accuracy"] >= report["zero_shot_accuracy"]
    # The run remembers its model.
    (row,) = document(capsys, "predict", out, photos / "dark cat" / "0.png")
    assert row["label"] in ("dark cat", "bright dog")
