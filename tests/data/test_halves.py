from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.few_shot import draw, halves
from sharpzo.errors import InputError

from .trees import dataset, names


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
