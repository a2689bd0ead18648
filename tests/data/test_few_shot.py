from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpzo.data.few_shot import draw
from sharpzo.errors import InputError

from .trees import dataset, names

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=120)
SHOTS = st.none() | st.integers(1, 20)


def held_out(n: int, shots: int | None) -> int:
    """The rule in words: up to 4 (and K) from what K leaves, else n // 5 but 1, of one none."""
    k = n if shots is None else shots
    if n == 1:
        return 0
    enough = min(k, 4)
    return enough if n - k >= enough else min(enough, max(n - k, n // 5, 1))


@given(LABELS, SHOTS, st.integers(0, 9))
def test_carved_splits(labels: list[int], shots: int | None, seed: int):
    full = dataset(labels, classes=5)
    few = draw(full, shots, seed)
    drawn, held = names(few.train), names(few.val)
    assert len({*drawn, *held}) == len(drawn) + len(held)
    assert {*drawn, *held} <= set(names(full.train))
    counts = full.train.counts()
    val = np.zeros(5, int) if few.val is None else few.val.counts()
    for n, k, h in zip(counts, few.train.counts(), val, strict=True):
        assert h == (held_out(n, shots) if n else 0)
        assert k == min(n - h, n if shots is None else shots)
        assert k >= 1 or n == 0
    label = dict(zip(names(full.train), full.train.labels, strict=True))
    for split in (few.train, few.val):
        assert split is None or [label[n] for n in names(split)] == split.labels.tolist()
    assert few.test is full.test


@given(LABELS, LABELS, st.integers(1, 20), st.integers(0, 9))
def test_given_splits(train: list[int], val: list[int], shots: int, seed: int):
    full = dataset(train, val, classes=5)
    few = draw(full, shots, seed)
    assert few.val is not None
    assert few.train.counts().tolist() == np.minimum(full.train.counts(), shots).tolist()
    wanted = np.minimum(np.bincount(val, minlength=5), min(shots, 4))
    assert few.val.counts().tolist() == wanted.tolist()
    assert len(set(names(few.train))) == len(few.train)
    assert set(names(few.train)) <= set(names(full.train))
    assert set(names(few.val)) <= set(names(full.val))
    assert few.test is full.test


@pytest.mark.parametrize("val", [None, [0, 1] * 9])
def test_equal_seeds_equal_draws_and_global_state_untouched(val: list[int] | None):
    full = dataset([0, 1] * 40, val, classes=2)
    random.seed(5)
    before = random.getstate()
    one, same, other = draw(full, 8, 1), draw(full, 8, 1), draw(full, 8, 2)
    assert random.getstate() == before
    assert names(one.train) == names(same.train) != names(other.train)
    assert names(one.val) == names(same.val) != names(other.val)
    assert names(draw(full, np.int64(8), np.int64(1)).train) == names(one.train)  # type: ignore[arg-type]


def test_all_shots_keep_the_given_splits():
    full = dataset([0, 1] * 40, [0, 1] * 9, classes=2)
    few = draw(full, None, 1)
    assert few.train is full.train
    assert few.val is full.val
    assert few.notes == ()


def test_order_of_labels_is_that_of_first_appearance():
    few = draw(dataset([2, 0, 1] * 10, classes=3), 3, 1)
    assert few.train.labels.tolist() == [2, 2, 2, 0, 0, 0, 1, 1, 1]


def test_notes_tell_what_fell_short():
    few = draw(dataset([0] * 30 + [1] * 5 + [2], classes=3), 16, 1)
    assert few.train.counts().tolist() == [16, 4, 1]
    assert few.val is not None
    assert few.val.counts().tolist() == [4, 1, 0]
    assert few.notes == (
        "2 of 3 classes have fewer than 16 training photos; the fewest: 1 of 'class 2'",
        "5 training photos were set aside for validation",
        "1 of 3 classes have no validation photo, 'class 2' first",
    )


def test_one_photo_a_class_leaves_no_validation():
    few = draw(dataset([0, 1, 2], classes=3), 1, 1)
    assert few.val is None
    assert few.notes[-1].startswith("no class has a photo to spare")


def test_wrong_arguments():
    full = dataset([0, 1], classes=2)
    with pytest.raises(InputError, match="shots is 0; give 1 or more"):
        draw(full, 0, 1)
    with pytest.raises(InputError, match=r"shots is 2\.5; give an integer"):
        draw(full, 2.5, 1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="seed is 'a'; give an integer"):
        draw(full, 1, "a")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n", "shots", "train", "val"),
    [
        (100, 16, 16, 4), (20, 16, 16, 4), (18, 16, 15, 3), (17, 16, 14, 3), (16, 16, 13, 3),
        (9, 16, 8, 1), (8, 4, 4, 4), (5, 4, 4, 1), (2, 1, 1, 1), (2, 16, 1, 1), (1, 16, 1, 0),
        (19, None, 16, 3), (500, None, 496, 4),
    ],
)  # fmt: skip
def test_what_a_class_of_n_photos_gives(n: int, shots: int | None, train: int, val: int):
    few = draw(dataset([0] * n + [1] * 9, classes=2), shots, 1)
    assert few.val is not None
    assert (few.train.counts()[0], few.val.counts()[0]) == (train, val)
