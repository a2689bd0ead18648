"""What every version has written is read by this one."""

from pathlib import Path

import numpy as np
import pytest

import sharpzo
from sharpzo.bench.results import Results
from sharpzo.fitting.trained import Trained
from sharpzo.methods import find
from sharpzo.storage import artifact
from sharpzo.storage.journal import HISTORY, read_journal

RELEASED = Path(__file__).parent / "released"
RUNS = sorted(file.parent for file in RELEASED.rglob("run.json"))
BENCHES = sorted(file.parent for file in RELEASED.rglob("bench.json"))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "/".join(run.parts[-2:]))
def test_a_run_is_read(run):
    found = artifact.read(run)
    head = find(found.record["method"]).load(found.arrays)
    assert all(np.isfinite(array).all() for array in head.arrays().values())
    assert len(found.record["class_names"]) == 3
    steps = read_journal(run / HISTORY)
    assert bool(steps) == (found.record["method"] == "cma-es")


def test_a_pickle_of_an_earlier_version_is_read_by_its_arrays():
    """Its head is of a class that had other fields."""
    found = artifact.read(RELEASED / "0.1.0" / "ladder-tokens")
    head = find("ladder+tokens").load(found.arrays)
    del vars(head.reading)["field"]
    trained = Trained.__new__(Trained)
    trained.__setstate__({"method": "ladder+tokens", "arrays": found.arrays, "head": head})
    assert trained.head.reading.field == "tokens"


@pytest.mark.parametrize("folder", BENCHES, ids=lambda folder: folder.parts[-2])
def test_a_bench_is_read(folder):
    results = Results(folder)
    assert results.about().title == "Demo"
    for file in (folder / "cells").iterdir():
        assert results.read(file.stem).class_names == ["cat", "dog", "owl"]


def test_this_version_has_its_own():
    """A release adds a folder: CONTRIBUTING.md."""
    assert {one.parent.name for one in RUNS} >= {sharpzo.__version__.partition(".dev")[0]}
