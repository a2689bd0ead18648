"""The examples in docstrings run."""

import doctest
import importlib
from dataclasses import replace

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
