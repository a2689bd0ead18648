from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from sharpzo.data.coop_layout import read_coop
from sharpzo.data.few_shot import draw
from sharpzo.errors import InputError

from .trees import coop_tree, names


def split_rows(sizes: dict[str, list[int]], seed: int = 0) -> dict[str, list[list]]:
    """Rows of a split file in shuffled order, so that first appearance is not sorted."""
    rng = random.Random(seed)
    rows: dict[str, list[list]] = {}
    for split, counts in sizes.items():
        rows[split] = [
            [f"c{label}/{split}_{i}.png", label, f"name_{label}"]
            for label, count in enumerate(counts)
            for i in range(count)
        ]
        rng.shuffle(rows[split])
    return rows


def coop_draw(rows: dict[str, list[list]], shots: int, seed: int) -> dict[str, list[str]]:
    """CoOp's trainer, straight from its description: global generator, lists, dictionaries."""
    state = random.getstate()
    random.seed(seed)
    out: dict[str, list[str]] = {}
    for split, k in (("train", shots), ("val", min(shots, 4))):
        tracker: dict[int, list[str]] = {}
        for relative, label, _ in rows[split]:
            tracker.setdefault(label, []).append(relative)
        out[split] = []
        for items in tracker.values():
            out[split].extend(random.sample(items, k) if len(items) >= k else items)
    random.setstate(state)
    return out


SIZES = {"train": [30, 3, 16, 8, 1], "val": [9, 2, 4, 5, 1], "test": [3, 3, 2, 1, 4]}


def test_reading(tmp_path: Path):
    rows = split_rows(SIZES)
    coop_tree(tmp_path, rows)
    for root in (tmp_path, tmp_path / "eurosat"):
        out = read_coop(root, "eurosat")
        assert out.class_names == tuple(f"name {i}" for i in range(5))
        assert out.template == "a centered satellite photo of {}."
        assert out.test is not None
        assert out.test.counts().tolist() == SIZES["test"]
        assert out.train.labels.tolist() == [row[1] for row in rows["train"]]
        assert next(out.train.decoded()).shape == (6, 8, 3)


@pytest.mark.parametrize("seed", [1, 2, 3, 17])
@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16, 40])
def test_draws_are_those_of_coop(tmp_path: Path, shots: int, seed: int):
    rows = split_rows(SIZES)
    coop_tree(tmp_path, rows, images=False)
    images = tmp_path / "eurosat" / "2750"
    few = draw(read_coop(tmp_path, "eurosat"), shots, seed)
    wanted = coop_draw(rows, shots, seed)
    assert names(few.train) == [str(images / p) for p in wanted["train"]]
    assert names(few.val) == [str(images / p) for p in wanted["val"]]


def test_a_class_may_be_spelled_with_and_without_underscores(tmp_path: Path):
    rows = {"train": [["a.png", 0, "sea_lake"]], "val": [], "test": [["b.png", 0, "sea lake"]]}
    assert read_coop(coop_tree(tmp_path, rows), "eurosat").class_names == ("sea lake",)


def test_missing_photos_are_reported_when_decoded(tmp_path: Path):
    coop_tree(tmp_path, split_rows(SIZES), images=False)
    with pytest.raises(InputError, match=r"_\d+\.png does not exist; .*unpack the data set"):
        next(read_coop(tmp_path, "eurosat").train.decoded())


def test_unknown_and_missing(tmp_path: Path):
    with pytest.raises(InputError, match="'venus' is unknown; the known ones: imagenet, caltech1"):
        read_coop(tmp_path, "venus")
    with pytest.raises(InputError, match=r"holds split_zhou_EuroSAT\.json; give the folder"):
        read_coop(tmp_path, "eurosat")
    coop_tree(tmp_path, split_rows(SIZES), images=False)
    (tmp_path / "eurosat" / "2750").rmdir()
    with pytest.raises(InputError, match="2750 does not exist; unpack"):
        read_coop(tmp_path, "eurosat")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"train": [], "val": []}',
        '{"train": [["a.png", "0", "a"]], "val": [], "test": []}',
        '{"train": [["a.png", 0]], "val": [], "test": []}',
        '{"train": [["../a.png", 0, "a"]], "val": [], "test": []}',
        '{"train": [["/etc/a.png", 0, "a"]], "val": [], "test": []}',
        '{"train": [], "val": [], "test": []}',
        '{"train": [["a.png", 1, "a"]], "val": [], "test": []}',
        '{"train": [["a.png", 0, "a"], ["b.png", 0, "b"]], "val": [], "test": []}',
        "[" * 100_000,
    ],
)
def test_damaged_split_files(tmp_path: Path, content: str):
    coop_tree(tmp_path, split_rows(SIZES), images=False)
    file = tmp_path / "eurosat" / "split_zhou_EuroSAT.json"
    file.write_text(content)
    with pytest.raises(InputError, match=r"EuroSAT\.json cannot .*fetch CoOp's original again"):
        read_coop(tmp_path, "eurosat")


DATASETS = Path(os.environ.get("SHARPZO_DATA", Path(__file__).parents[2] / "datasets"))
REAL = {  # split file, image folder, sizes as published
    "eurosat": ("eurosat/split_zhou_EuroSAT.json", "eurosat/2750", (10, 13500, 5400, 8100)),
    "caltech101": (
        "caltech-101/split_zhou_Caltech101.json",
        "caltech-101/101_ObjectCategories",
        (100, 4128, 1649, 2465),
    ),
}


@pytest.mark.parametrize("name", sorted(REAL))
def test_published_draws(name: str):
    split, base, sizes = REAL[name]
    if not (DATASETS / split).is_file():
        pytest.skip(f"{DATASETS} (or SHARPZO_DATA) has no {split}")
    full = read_coop(DATASETS, name)
    assert full.val is not None
    assert full.test is not None
    found = (len(full.class_names), len(full.train), len(full.val), len(full.test))
    assert found == sizes
    rows = json.loads((DATASETS / split).read_text())
    images = DATASETS / base
    files = {str(file) for file in images.rglob("*.jpg")}
    assert set(names(full.test)) <= files
    for seed in (1, 2, 3):
        for shots in (1, 2, 4, 8, 16):
            few = draw(full, shots, seed)
            wanted = coop_draw(rows, shots, seed)
            for part, photos in (("train", few.train), ("val", few.val)):
                assert names(photos) == [str(images / p) for p in wanted[part]]
                assert set(names(photos)) <= files
            assert few.notes == ()
