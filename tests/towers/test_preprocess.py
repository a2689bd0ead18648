"""Preprocessing against transformers' processors on PIL."""

from __future__ import annotations

import json
import tracemalloc
import weakref

import numpy as np
import pytest
from PIL import Image

from sharpzo.errors import CheckpointError, InputError
from sharpzo.towers.preprocess import Preprocessing, stack

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


def smooth(height, width):
    """A photo-like image: noise of a ninth of the size, enlarged."""
    small = (max(height // 9, 1), max(width // 9, 1), 3)
    noise = np.random.default_rng(height).integers(0, 256, small, dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("shape", [(30, 700), (700, 30), (3, 90), (2000, 100), (100, 2000)])
@pytest.mark.parametrize("settings", [{}, {"resize": 256}, {"resize": 64, "crop": (96, 96)}])
def test_thin_photos_are_cropped_first_to_the_same_pixels(monkeypatch, shape, settings):
    preprocessing = Preprocessing(**settings, mean=(0, 0, 0), std=(1, 1, 1))
    cropped = preprocessing.apply(smooth(*shape))
    monkeypatch.setattr("sharpzo.towers.preprocess.THIN", np.inf)
    whole = preprocessing.apply(smooth(*shape))
    assert np.abs(cropped - whole).max() * 255 < 2.5  # Pillow rounds twice


def test_ordinary_photos_are_resized_whole(monkeypatch):
    wanted = [Preprocessing().apply(smooth(*shape)) for shape in ((40, 300), (300, 40), (90, 90))]
    monkeypatch.setattr("sharpzo.towers.preprocess.THIN", np.inf)
    for shape, found in zip(((40, 300), (300, 40), (90, 90)), wanted, strict=True):
        np.testing.assert_array_equal(Preprocessing().apply(smooth(*shape)), found)


@pytest.mark.parametrize("shape", [(1, 400_000), (400_000, 1), (65_000, 1)])
def test_the_thinnest_photos_take_no_memory(shape):
    tracemalloc.start()  # Pillow's own memory is not traced, but the array that becomes of it is
    try:
        pixels = Preprocessing().apply(np.zeros((*shape, 3), np.uint8))
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert pixels.shape == (3, 224, 224)


def test_no_photo_is_kept_while_the_next_is_decoded():
    seen = []

    def photos():
        for _ in range(3):
            image = Image.new("RGB", (300, 200))
            seen.append(weakref.ref(image))
            yield image
            del image
            assert seen[-1]() is None

    assert len(stack(Preprocessing(), photos())) == 3


@pytest.mark.parametrize(
    "raw",
    [
        {"do_center_crop": False},
        {"do_resize": False, "do_center_crop": False},
        {"size": {"longest_edge": 224}},
        {"do_pad": True},
        {"size": "large"},
        {"crop_size": {"height": 224.5, "width": 224}},
        {"image_mean": [0.5, 0.5]},
    ],
)
def test_what_is_not_read(raw):
    with pytest.raises(CheckpointError, match="preprocessor_config"):
        Preprocessing.parse(raw)


@pytest.mark.parametrize("photo", [np.zeros((4, 4)), np.zeros((0, 4, 3), np.uint8)])
def test_wrong_photos(photo):
    with pytest.raises(InputError, match="uint8"):
        Preprocessing().apply(photo)


@pytest.mark.parametrize("resize", [100, 112, 128, (112, 112), (90, 130)])
def test_its_own_size_changes_nothing(resize):
    made = Preprocessing(resize=resize, crop=(112, 112))
    assert made.at(112) == made
    assert made.at(224).size == (224, 224)
