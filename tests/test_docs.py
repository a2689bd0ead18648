"""The examples in docstrings run."""

import doctest
import importlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sharpzo.data import demo
from test_house import MODULES

NAMES = [name for name, path in MODULES.items() if ">>>" in path.read_text("utf-8")]


@pytest.fixture
def few_photos(monkeypatch):
    """Two photos of each class of each split of the demo: to encode 700 takes 12 seconds."""
    whole = demo.load_demo

    def few(seed=1):
        photos = whole(seed)
        splits = {name: getattr(photos, name) for name in ("train", "val", "test")}
        for name, split in splits.items():
            rows = [row for k in range(10) for row in np.flatnonzero(split.labels == k)[:2]]
            splits[name] = split.take(rows)
        return replace(photos, **splits)

    monkeypatch.setattr(demo, "load_demo", few)


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name, request):
    if not name.startswith("sharpzo.data."):  # which count them
        request.getfixturevalue("few_photos")
    # import_module returns the module even where a package hands on a function of its name.
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_each_cell_of_the_table_of_models_names_its_test():
    tests = Path(__file__).parent
    page = (tests.parent / "docs" / "models.md").read_text("utf-8")
    lines = [line for line in page.split("\n\n")[2].splitlines() if line.startswith("| ")]
    rows = [line.strip("| ").split(" | ") for line in lines]
    assert rows[0][0] == "family"
    assert len(rows) >= 8
    for row in rows[1:]:
        assert len(row) == len(rows[0]), row
        for cell in row[1:]:
            named = re.findall(r"`(test_\w+\.py)`", cell)
            assert named, f"{row[0]}: {cell} names no test"
            for name in named:
                (file,) = tests.rglob(name)
                assert "def test_" in file.read_text("utf-8")
