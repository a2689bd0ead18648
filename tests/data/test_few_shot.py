from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.few_shot import draw, halves
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


# --- base and new classes -------------------------------------------------------------------------


def coop_halves(pairs: list[tuple[str, int]], labels: set[int]) -> list[list[tuple[str, int]]]:
    """The protocol from its description: sorted labels, the first ceil(n / 2), counted from 0."""
    ordered = sorted(labels)
    middle = -(-len(ordered) // 2)
    return [
        [(name, half.index(label)) for name, label in pairs if label in half]
        for half in (ordered[:middle], ordered[middle:])
    ]


def pairs(split: LabelledPhotos | None) -> list[tuple[str, int]]:
    return [] if split is None else list(zip(names(split), split.labels.tolist(), strict=True))


@given(st.integers(2, 9), st.data())
def test_halves(classes: int, data: st.DataObject):
    labels = st.lists(st.integers(0, classes - 1), max_size=40)
    whole = dataset(data.draw(labels), data.draw(labels), classes=classes)
    before = [pairs(split) for split in (whole.train, whole.val, whole.test)]
    both = halves(whole)
    assert both[0].class_names + both[1].class_names == whole.class_names
    assert len(both[0].class_names) - len(both[1].class_names) == classes % 2
    for split, wanted in zip(("train", "val", "test"), before, strict=True):
        for half, expected in zip(both, coop_halves(wanted, set(range(classes))), strict=True):
            assert pairs(getattr(half, split)) == expected
    assert [pairs(split) for split in (whole.train, whole.val, whole.test)] == before


def test_the_draw_over_all_classes_comes_first():
    whole = dataset([0, 1, 2, 3, 4] * 20, [0, 1, 2, 3, 4] * 6, classes=5)
    few = draw(whole, 4, 1)
    base, new = halves(few)
    assert names(base.train) + names(new.train) == names(few.train)
    assert base.train.counts().tolist() == [4, 4, 4]
    assert new.train.counts().tolist() == [4, 4]
    # Drawn afterwards, the new classes would get other photos.
    assert names(draw(halves(whole)[1], 4, 1).train) != names(new.train)


def test_missing_splits_stay_missing():
    whole = replace(dataset([0, 1]), test=None)
    assert all((half.val, half.test) == (None, None) for half in halves(whole))


def test_one_class_has_no_halves():
    with pytest.raises(InputError, match="a test has 1 class; halves need two"):
        halves(dataset([0], classes=1))
