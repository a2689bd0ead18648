"""Disks that are full, read-only or over a quota, and no folder for temporary files: of benches,
exports and graphs. Runs: tests/storage/test_claim.py; features: tests/towers/test_feature_store.py;
photos of a zip: tests/data/test_archive.py; no home: tests/cli/test_resume.py."""

import csv
import errno
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest

from sharpzo.bench import driver, results
from sharpzo.bench.cell import FORMAT, expand
from sharpzo.bench.recipe import read_recipe
from sharpzo.bench.results import About, Results
from sharpzo.errors import EngineError
from sharpzo.export.bundle import new_folder
from sharpzo.towers.graph_store import GraphStore

FULL = [errno.ENOSPC, errno.EDQUOT, errno.EROFS]


@pytest.fixture
def cells(tmp_path):
    text = 'data_sets = ["demo"]\nshots = [1]\nseeds = [1, 2]\nmethods = ["zero-shot"]\n'
    (tmp_path / "recipe.toml").write_text(text)
    return expand(read_recipe(tmp_path / "recipe.toml"))


class Engine:
    """Has an answer for every cell at once."""

    def run(self, cells, cache, listen=None):
        tested = {"accuracy": 0.75, "ece": 0.1, "per_class": {}}
        point = {"budget": None, "forwards": 1, "seconds": 0.5, "image_passes": None,
                 "validation_accuracy": 0.5}  # fmt: skip
        for cell in cells:
            yield cell, {
                "format": FORMAT, "key": cell.key, "cell": asdict(cell), "sharpzo": "0.1.0",
                "settings": {}, "model_sha256": "0" * 64, "class_names": ["a", "b"],
                "photos": {"training": 2}, "points": [point], "peak_memory_mb": None,
                "tests": {"": {"n": 4, "zero_shot_accuracy": 0.5, "points": [tested]}},
                "stopped": "x", "notes": {}, "tuning": "", "curve": [],
            }  # fmt: skip


def bench(cells, folder):
    outcome = driver.run_bench(About("T", None, cells), Results(folder), Engine(), folder / "cache")
    with (folder / "table.csv").open() as file:
        return outcome, list(csv.DictReader(file))


@pytest.mark.parametrize("number", FULL)
def test_a_bench_on_a_full_disk_keeps_its_cells_and_goes_on(cells, tmp_path, monkeypatch, number):
    _, straight = bench(cells, tmp_path / "straight")
    write, out = results.write_atomically, tmp_path / "out"

    def full(path, blob):
        if path.name == f"{cells[1].key}.json":
            raise OSError(number, "no room", str(path))
        write(path, blob)

    with monkeypatch.context() as disk:
        disk.setattr(results, "write_atomically", full)
        with pytest.raises(OSError, match="no room"):
            bench(cells, out)
    assert [file.name for file in (out / "cells").iterdir()] == [f"{cells[0].key}.json"]
    assert not list(out.rglob("*.tmp"))
    outcome, rows = bench(cells, out)
    assert outcome.computed == 1  # the other one was kept
    assert rows == straight


def test_a_bench_that_cannot_write_says_so_before_the_work(cells, tmp_path, monkeypatch):
    def full(folder):
        raise OSError(errno.ENOSPC, "no room", str(folder))

    monkeypatch.setattr(driver, "check_room", full)
    monkeypatch.setattr(Engine, "run", lambda *given: pytest.fail("the work began"))
    with pytest.raises(OSError, match="no room"):
        bench(cells, tmp_path / "out")


@pytest.mark.parametrize("number", FULL)
def test_an_export_that_fails_leaves_nothing(tmp_path, number):
    def export():
        with new_folder(tmp_path / "export") as folder:
            (folder / "model.onnx").write_bytes(b"half")
            raise OSError(number, "no room")

    with pytest.raises(OSError, match="no room"):
        export()
    assert not list(tmp_path.iterdir())


class Graph:
    """Writes two bytes, if there is room."""

    bytes = 2

    def save(self, folder):
        path = Path(folder) / "model.onnx"
        path.write_bytes(b"ab")
        return path


@pytest.mark.parametrize("number", FULL)
def test_a_graph_that_cannot_be_kept_is_used_all_the_same(tmp_path, monkeypatch, number):
    def full(*given, **options):
        raise OSError(number, "no room")

    monkeypatch.setattr("sharpzo.towers.graph_store.mkdtemp", full)
    store = GraphStore(tmp_path / "cache")
    assert store.open("a", Graph, Path.read_bytes) == b"ab"
    assert not list(tmp_path.rglob("graph-*"))


def test_no_folder_for_temporary_files_is_an_error_of_the_system(monkeypatch, tmp_path):
    """The command line makes a sentence of it, as of any OSError."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OSError, match="gone"):
        GraphStore(None).open("a", Graph, Path.read_bytes)


def test_a_graph_that_the_engine_refuses_is_built_once_more_and_then_refused(tmp_path):
    def refuse(path):
        raise EngineError("no")

    with pytest.raises(EngineError):
        GraphStore(tmp_path).open("a", Graph, refuse)
