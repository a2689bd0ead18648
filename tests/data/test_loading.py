from __future__ import annotations

from pathlib import Path

import pytest

from sharpzo.data.demo import load_demo
from sharpzo.data.few_shot import draw
from sharpzo.data.folder import read_folder
from sharpzo.data.loading import load
from sharpzo.errors import InputError

from .test_coop_layout import SIZES, split_rows
from .trees import coop_tree, names, tree


def test_folder(tmp_path: Path):
    tree(tmp_path, a=12, b=9)
    out = load(tmp_path, shots=4, seed=2)
    assert out.val is not None
    assert (len(out.train), len(out.val)) == (8, 8)
    assert names(out.train) == names(draw(read_folder(tmp_path), 4, 2).train)
    assert load(tmp_path).train.counts().tolist() == [10, 8]


def test_coop(tmp_path: Path):
    coop_tree(tmp_path, split_rows(SIZES), images=False)
    assert load(tmp_path, "eurosat", shots=2).train.counts().tolist() == [2, 2, 2, 2, 1]
    for root in (tmp_path, tmp_path / "eurosat"):
        with pytest.raises(InputError, match="has CoOp's layout; add --dataset eurosat"):
            load(root)


def test_demo():
    demos = [load_demo(seed) for seed in (1, 2, 3)]
    for demo in demos:
        assert demo.val is not None
        assert demo.test is not None
        assert demo.train.counts().tolist() == [16] * 10
        assert demo.val.counts().tolist() == [4] * 10
        assert demo.test.counts().tolist() == [50] * 10
        assert not {*names(demo.train)} & {*names(demo.val)}
        assert not {*names(demo.train), *names(demo.val)} & {*names(demo.test)}
        assert names(demo.test) == names(demos[0].test)
        pixels = next(demo.train.decoded())
        assert (pixels.shape, pixels.dtype) == ((28, 28, 3), "uint8")
        assert demo.class_names[9] == "ankle boot"
    assert names(demos[0].train) != names(demos[1].train)
    assert draw(demos[0], 4, 1).train.counts().tolist() == [4] * 10
    with pytest.raises(InputError, match="no draw of seed 4; give 1, 2 or 3"):
        load_demo(4)


def test_demo_assets_are_small_and_licensed():
    from importlib.resources import files

    folder = Path(str(files("sharpzo"))) / "assets" / "demo"
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 2_000_000
    assert "Permission is hereby granted" in (folder / "README.md").read_text()
    assert len(list((folder / "examples").glob("*.png"))) == 10


def test_examples_of_the_docstrings():
    import doctest
    from importlib import import_module

    for name in (
        "photo",
        "dataset",
        "folder",
        "arguments",
        "few_shot",
        "entries",
        "layouts",
        "loading",
        "demo",
    ):
        assert doctest.testmod(import_module(f"sharpzo.data.{name}")).failed == 0
