from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.photo import _crop, as_photo
from sharpzo.errors import InputError
from sharpzo.rng import generator

from .trees import dataset, names

PHOTOS = tuple(as_photo(np.full((2, 2), i, np.uint8), f"photo {i}") for i in range(3))


def test_take_keeps_pairs_together():
    split = LabelledPhotos(PHOTOS, np.array([0, 1, 0]), ("a", "b"))
    part = split.take([2, 1])
    assert names(part) == ["photo 2", "photo 1"]
    assert part.labels.tolist() == [0, 1]
    assert part.labels.dtype == np.int64
    assert len(split.take([])) == 0


def test_labels_belong_to_the_split_alone():
    labels = np.array([0, 1, 0])
    split = LabelledPhotos(PHOTOS, labels, ("a", "b"))
    labels[0] = 1
    assert split.labels.tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="read-only"):
        split.labels[0] = 1


def test_digest_follows_photos_and_order():
    split = LabelledPhotos(PHOTOS, np.array([0, 1, 0]), ("a", "b"))
    assert split.digest() == LabelledPhotos(PHOTOS, np.array([1, 1, 1]), ("x", "y")).digest()
    assert split.digest() != split.take([1, 0, 2]).digest()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1]), r"3 photos and labels of shape \(2,\)"),
        (np.array([0, 1, 2]), "labels run from 0 to 2, but there are 2"),
        (np.array([-1, 1, 0]), "labels run from -1"),
        (np.array([0.0, 1.0, 0.5]), "labels are float64; give integers"),
    ],
)
def test_wrong_labels(labels: np.ndarray, message: str):
    with pytest.raises(InputError, match=message):
        LabelledPhotos(PHOTOS, labels, ("a", "b"))


def test_splits_share_their_class_names():
    with pytest.raises(InputError, match="different class names"):
        replace(dataset([0, 1]), test=LabelledPhotos((), np.array([]), ("a",)))


def test_views_are_random_crops_that_can_be_made_again():
    ramp = np.arange(60 * 80, dtype=np.float64).reshape(60, 80) / (60 * 80)
    split = LabelledPhotos(
        (as_photo(ramp, "a"), as_photo(1 - ramp, "b")), np.array([0, 1]), ("a", "b")
    )
    views = split.views(3, side=20, seed=2, scale=(0.25, 0.25))
    assert (names(views), views.labels.tolist()) == (["a", "b"] * 3, [0, 1] * 3)
    pixels = [view.tolist() for view in views.decoded()]
    assert pixels == [view.tolist() for view in split.views(3, 20, 2, (0.25, 0.25)).decoded()]
    assert len({str(view) for view in pixels}) == 6
    assert len({photo.digest() for photo in views.photos}) == 6
    assert views.digest() != split.views(3, 20, 3, (0.25, 0.25)).digest()
    assert np.shape(pixels) == (6, 20, 20, 3)
    for seed in range(9):
        top, left, height, width = _crop(60, 80, (0.25, 0.25), generator(seed, "crop"))
        assert abs(height * width - 0.25 * 60 * 80) < 80
        assert 0.7 < width / height < 1.4
        assert 0 <= top <= 60 - height
        assert 0 <= left <= 80 - width
    with pytest.raises(InputError, match="views is 0; give 1 or more"):
        split.views(0, 20)
