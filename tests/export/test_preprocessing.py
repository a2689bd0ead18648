"""The nodes from a photo to pixels against Pillow's way to them."""

import numpy as np
import pytest
from PIL import Image

from sharpzo.data.photo import FIXED_VIEWS, FixedView, as_photo
from sharpzo.errors import InputError
from sharpzo.export.preprocessing import write_pixels, write_view
from sharpzo.towers.graph import Builder
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.towers.runtime import Session

UINT8 = 2
# Pixels are 0 to 255 here, so that a level is 1.
LEVELS = {"rescale": None, "normalize": False}


def session(write, shape):
    build = Builder()
    write(build)
    return Session(build.finish({"photo": ("H", "W", 3)}, {"out": shape}, "test", UINT8), 1)


def pixels_of(preprocessing):
    def write(build):
        build.op("Identity", write_pixels(build, "photo", preprocessing), name="out")

    return session(write, (1, 3, *preprocessing.size))


def noise(height, width, seed=0):
    """Noise, and a smooth part that shows a shift."""
    rng = np.random.default_rng(seed)
    rough = Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).resize((width, height))
    return np.clip(np.asarray(rough) + rng.integers(-20, 21, (height, width, 3)), 0, 255).astype(
        np.uint8
    )


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(resize=32, crop=(32, 32), **LEVELS),
        Preprocessing(resize=40, crop=(32, 24), **LEVELS),
        Preprocessing(resize=(24, 32), crop=None, **LEVELS),
        Preprocessing(resize=24, crop=(32, 31), **LEVELS),  # zeros around it
        Preprocessing(resize=None, crop=(33, 40), **LEVELS),
        Preprocessing(resize=32, crop=(32, 32), resample=2, **LEVELS),
    ],
)
def test_pixels_are_those_of_pillow_but_for_the_rounding_of_a_few(preprocessing):
    ours = pixels_of(preprocessing)
    for row, (height, width) in enumerate(
        [(1, 1), (7, 9), (28, 28), (33, 32), (31, 97), (240, 61), (200, 301), (32, 255)]
    ):
        photo = noise(height, width, row)
        [found] = ours.run(["out"], {"photo": photo})
        away = np.abs(found[0] - preprocessing.apply(photo))
        # Simple ratios of sides make exact halves, which are rounded either way; and Pillow
        # resizes along columns first where that is less work.
        rows_first = height < 2 * width and isinstance(preprocessing.resize, int | None)
        assert away.max() <= (1 if rows_first else 3), (height, width)
        assert (away > 0).mean() < (0.08 if rows_first else 0.3), (height, width)


def test_normalised_pixels_are_those_of_the_checkpoint():
    preprocessing = Preprocessing(resize=None, crop=(20, 20))
    photo = noise(20, 20)
    [found] = pixels_of(preprocessing).run(["out"], {"photo": photo})
    np.testing.assert_allclose(found[0], preprocessing.apply(photo), atol=1e-6)


def test_a_thin_photo_takes_no_gigabytes_and_shifts_by_less_than_a_pixel():
    preprocessing = Preprocessing(resize=32, crop=(32, 32), **LEVELS)
    ours = pixels_of(preprocessing)
    for height, width in ((1, 60_000), (3_001, 2), (17, 400), (400, 17)):
        photo = np.zeros((height, width, 3), np.uint8)
        photo[:] = np.linspace(0, 255, max(height, width)).reshape(
            (-1, 1, 1) if height > width else (1, -1, 1)
        )
        [found] = ours.run(["out"], {"photo": photo})
        assert np.abs(found[0] - preprocessing.apply(photo)).max() <= 2, (height, width)


def test_a_filter_that_onnx_lacks_is_refused():
    with pytest.raises(InputError, match="filter 1 of Pillow"):
        pixels_of(Preprocessing(resample=1))


@pytest.mark.parametrize("view", FIXED_VIEWS)
def test_views_are_cut_as_from_a_photo(view):
    ours = session(
        lambda build: build.op("Cast", write_view(build, "photo", view), to=1, name="out"),
        ("h", "w", 3),
    )
    for height, width in ((1, 1), (5, 8), (33, 21), (64, 63)):
        photo = noise(height, width)
        given = as_photo(photo)
        wanted = FixedView(given.name, pixels=given.pixels, view=view).image()
        np.testing.assert_array_equal(ours.run(["out"], {"photo": photo})[0], wanted)
