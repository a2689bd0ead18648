from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.photo import as_photo
from sharpzo.errors import InputError

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
