"""Preprocessing against transformers' processors on PIL."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.preprocess import Preprocessing

SETTINGS = {
    "clip": {},
    "old integers": {"size": 224, "crop_size": 224, "resample": 3},
    "dinov2": {
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
    "embedded": {"size": {"shortest_edge": 112}, "crop_size": {"height": 112, "width": 112}},
    "square": {"size": {"height": 96, "width": 80}, "do_center_crop": False, "resample": 2},
    "no resize": {"do_resize": False, "crop_size": {"height": 91, "width": 64}},
    "raw": {"do_normalize": False, "do_rescale": False, "crop_size": 100, "size": 100},
}
SIZES = [(64, 64), (28, 28), (300, 201), (199, 333), (224, 225), (1, 7)]


@pytest.mark.parametrize("processor", ["CLIPImageProcessorPil", "BitImageProcessorPil"])
@pytest.mark.parametrize("name", list(SETTINGS))
def test_equals_transformers(name, processor):
    import transformers

    raw = SETTINGS[name]
    theirs = getattr(transformers, processor)(**raw)
    ours = Preprocessing.parse(json.loads(theirs.to_json_string()))
    assert ours == Preprocessing.parse(raw) or name == "old integers"
    generator = np.random.default_rng(0)
    for height, width in SIZES:
        photo = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        out = theirs(photo, return_tensors="np", input_data_format="channels_last")
        wanted = np.asarray(out["pixel_values"][0])
        found = ours.apply(photo)
        assert found.shape == wanted.shape == (3, *ours.size)
        assert found.dtype == np.float32
        assert np.abs(found - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_modes(mode):
    import transformers

    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).convert(mode)
    wanted = transformers.CLIPImageProcessorPil()(photo, return_tensors="np")["pixel_values"][0]
    assert np.abs(Preprocessing().apply(photo) - wanted).max() <= 1e-5


@pytest.mark.parametrize(
    "raw",
    [
        {"do_center_crop": False},
        {"do_resize": False, "do_center_crop": False},
        {"size": {"longest_edge": 224}},
        {"do_pad": True},
    ],
)
def test_what_is_not_read(raw):
    with pytest.raises(CheckpointError, match="preprocessor_config"):
        Preprocessing.parse(raw)


@pytest.mark.parametrize("photo", [np.zeros((4, 4)), np.zeros((0, 4, 3), np.uint8)])
def test_wrong_photos(photo):
    with pytest.raises(InputError, match="uint8"):
        Preprocessing().apply(photo)
