"""A bench from recipe to tables: resumed, interrupted, killed, with a plugin, dying workers."""

import csv
import json
import os
import signal
import time

import numpy as np
import pytest
from bench_engines import Here, finished, log_of, start, table, wait_for

from command import answer, document
from sharpzo.bench import driver
from sharpzo.bench.cell import expand
from sharpzo.bench.driver import missing, run_bench
from sharpzo.bench.engines import LocalEngine
from sharpzo.bench.recipe import read_recipe
from sharpzo.bench.results import About, Results
from sharpzo.bench.table import MEASURED
from sharpzo.errors import ArtifactError
from sharpzo.methods import METHODS
from sharpzo.towers.feature_store import FeatureStore

PLUGIN = """
import os, signal
from pathlib import Path
from sharpzo.linear import LinearHead
from sharpzo.methods import Fit, Method, register
from sharpzo.methods.zero_shot import ZeroShotSettings
from sharpzo.types import Reason
import numpy as np

FAULT = {fault!r}
MARK = Path({mark!r})

def fit(settings, task):
    print("a plugin may print")
    if FAULT == "raises":
        raise ZeroDivisionError("division by zero")
    if FAULT == "dies" or (FAULT == "dies once" and not MARK.exists()):
        MARK.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    means = np.stack([
        task.train.vectors[task.train.labels == k].mean(axis=0)
        for k in range(len(task.train.class_names))
    ])
    notes = dict(spread=float("nan"), scale=30.0)
    return Fit(LinearHead.of_text(means, 30.0), Reason.CLOSED_FORM, forwards=0, notes=notes)

register(Method("class-means", "a test's own", ZeroShotSettings(), fit))
"""


@pytest.fixture
def plugin(tmp_path):
    """Write a plugin whose method is sound, raises, dies, or dies once; forget it afterwards."""

    def write(fault: str = ""):
        path = tmp_path / f"mine{len(list(tmp_path.glob('mine*')))}.py"
        path.write_text(PLUGIN.format(fault=fault, mark=str(tmp_path / "mark")))
        METHODS.pop("class-means", None)
        return json.dumps([path.name])

    yield write
    METHODS.pop("class-means", None)


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """Folders that plots were drawn into; test_summary.py and test_page.py draw them."""
    folders = []
    monkeypatch.setattr(driver, "plot", lambda rows, folder: folders.append(folder))
    return folders


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Run a recipe; all recipes here read the same photos, which are encoded once."""
    features = tmp_path_factory.mktemp("features")

    def run(path, out, engine):
        recipe = read_recipe(path)
        about = About(recipe.title, recipe.baseline, expand(recipe))
        return run_bench(about, Results(out), engine, features)

    return run


def test_a_bench_has_a_row_a_cell_and_point_and_all_its_files(bench, drawn, recipe, tmp_path):
    out = tmp_path / "out"
    outcome = bench(recipe(seeds="[1]"), out, Here())
    assert outcome.failed == []
    found = [(row["method"], row["budget"], row["wanted"]) for row in table(out)]
    assert found == [
        ("zero-shot", "", "True"), ("projection", "", "True"),
        ("search", "20", "False"), ("search", "30", "True"), ("search", "60", "True"),
    ]  # fmt: skip
    for row in outcome.rows:
        assert row.test_photos == 12
        assert 0 <= row.ece <= 1
        assert (row.forwards <= row.budget) if row.budget else row.forwards == 1
        assert row.peak_memory_mb > 50
    by = {(row.method, row.budget): row for row in outcome.rows}
    zero_shot, projection, search = (
        by["zero-shot", None],
        by["projection", None],
        by["search", 60],
    )
    assert zero_shot.test_accuracy == zero_shot.zero_shot_accuracy == search.zero_shot_accuracy
    # What was seen of the methods, not what they say of themselves.
    assert zero_shot.tuning == "fixed settings"
    assert projection.tuning == search.tuning == "validation, 2 photos per class"
    result = Results(out).read(search.key)
    counts = [test.per_class.values() for test in result.tests[""].points]
    assert np.mean(list(counts[-1])) == pytest.approx(search.test_accuracy)
    # Milestones never lose: validation chooses among more and more points.
    accuracies = [row.validation_accuracy for row in outcome.rows[2:]]
    assert accuracies == sorted(accuracies)
    with (out / "curves.csv").open() as file:
        curve = list(csv.DictReader(file))
    assert {row["method"] for row in curve} == {"search"}
    assert len(curve) == len(result.curve) > 3
    assert {"bench.json", "summary.md", "table.csv", "curves.csv", "cells"} <= {
        path.name for path in out.iterdir()
    }
    assert drawn == [out]


def test_a_published_preset_reports_its_last_point(bench, recipe, tmp_path):
    methods = '[{ method = "cma-es", label = "last", settings = { choose = false } }]'
    outcome = bench(
        recipe(seeds="[1]", methods=methods, baseline="", budgets="[20]"), tmp_path / "out", Here()
    )
    assert [row.tuning for row in outcome.rows] == ["last iterate"]


def test_a_rerun_does_what_is_missing_and_nothing_else(bench, recipe, tmp_path):
    out, path = tmp_path / "out", recipe(methods='["zero-shot", "projection"]')
    first = Here()
    bench(path, out, first)
    assert len(first.ran) == 4
    undisturbed = table(out, measured=True)
    nothing = Here()
    bench(path, out, nothing)
    assert nothing.ran == []
    assert table(out, measured=True) == undisturbed
    lost = undisturbed[2]
    (out / "cells" / f"{lost['key']}.json").unlink()
    again = Here()
    bench(path, out, again)
    assert again.ran == ["zero-shot on few, 2 shots, seed 2"]
    assert table(out) == [{k: v for k, v in r.items() if k not in MEASURED} for r in undisturbed]
    # A method more is a cell more; labels and titles are not content.
    more = Here()
    label = '{ method = "zero-shot", label = "as it is" }'
    bench(recipe(methods=f'["zero-shot", "linear-probe", {label}]'), out, more)
    assert [name.split()[0] for name in more.ran] == ["linear-probe", "linear-probe"]
    assert [row["method"] for row in table(out)][:3] == ["zero-shot", "linear-probe", "as it is"]


def test_an_interrupt_leaves_tables_of_what_is_done(bench, recipe, tmp_path):
    out, path = tmp_path / "out", recipe(methods='["zero-shot", "projection"]')
    with pytest.raises(KeyboardInterrupt):
        bench(path, out, Here(stop_after=1))
    assert [row["method"] for row in table(out)] == ["zero-shot"]
    cells = expand(read_recipe(path))
    assert len(missing(cells, Results(out))) == 3
    assert not list(out.rglob("*.tmp"))


def test_a_damaged_result_is_one_sentence(bench, recipe, tmp_path):
    out, path = tmp_path / "out", recipe(methods='["zero-shot"]', seeds="[1]")
    (cell,) = expand(read_recipe(path))
    Results(out).make()
    Results(out).write(cell.key, {"format": 1, "key": "another"})
    with pytest.raises(ArtifactError, match="is damaged; remove it"):
        bench(path, out, Here())


def test_a_changed_result_is_one_sentence(bench, recipe, tmp_path):
    out, path = tmp_path / "out", recipe(methods='["zero-shot"]', seeds="[1]")
    bench(path, out, Here())
    (file,) = (out / "cells").iterdir()
    text = file.read_text()
    for there, other in (
        ('"accuracy"', '"acuracy"'),
        ('"notes": {', '"notes": 1, "more": {'),
        ('"ece": 0.', '"ece": "a", "more": 0.'),
        ('"zero_shot_accuracy": 0.', '"zero_shot_accuracy": NaN, "more": 0.'),
        ('"tests": {', '"tests": null, "more": {'),
        ('"n": 1', '"n": 3'),
    ):
        assert there in text
        file.write_text(text.replace(there, other))
        with pytest.raises(ArtifactError, match="is damaged; remove it"):
            bench(path, out, Here())


def test_what_a_plugin_does_is_part_of_its_cells_name(recipe, plugin):
    def keys(fault):
        path = recipe(methods='["zero-shot", "class-means"]', plugins=plugin(fault), seeds="[1]")
        return [cell.key for cell in expand(read_recipe(path))]

    sound, other = keys(""), keys("raises")
    assert sound[0] == other[0]
    assert sound[1] != other[1]


def test_a_cell_that_fails_stops_no_other_and_ends_with_one_sentence(
    recipe, plugin, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("sharpzo.bench.engines.LocalEngine", lambda workers: Here())
    path = recipe(methods='["class-means", "zero-shot"]', plugins=plugin("raises"), seeds="[1]")
    said = answer(capsys, 2, "bench", path, "--out", tmp_path / "out", "--json")
    found = json.loads(said.out.splitlines()[-1])
    assert [row["method"] for row in found["rows"]] == ["zero-shot"]
    assert found["failed"][0]["error"] == "ZeroDivisionError: division by zero"
    assert "1 of 2 cells failed, the first: class-means on few" in said.err


def test_two_workers_a_plugin_and_a_process_that_dies_once(recipe, plugin, tmp_path, capsys):
    path = recipe(methods='["class-means", "zero-shot"]', plugins=plugin("dies once"), seeds="[1]")
    out = tmp_path / "out"
    done = document(capsys, "bench", path, "--out", out, "--workers", 2)
    assert (tmp_path / "mark").exists()
    assert done["computed"] == 2
    assert {row["method"] for row in done["rows"]} == {"class-means", "zero-shot"}
    assert "class-means" in (out / "summary.md").read_text()
    assert {row["notes"] for row in done["rows"]} == {"{}", '{"scale": 30.0, "spread": null}'}
    # Encoding came before the fits, in a process of its own.
    assert FeatureStore(out / "features").usage().photos == 3 * (2 + 2 + 4)
    plan = document(capsys, "bench", path, "--out", out, "--dry-run")
    assert (plan["missing"], [cell["done"] for cell in plan["cells"]]) == (0, [True, True])


@pytest.mark.slow
def test_a_process_that_dies_twice_is_reported(bench, recipe, plugin, tmp_path):
    path = recipe(methods='["class-means"]', plugins=plugin("dies"), seeds="[1]", baseline="")
    outcome = bench(path, tmp_path / "out", LocalEngine())
    ((cell, error),) = outcome.failed
    assert cell.label == "class-means"
    assert error.startswith("its process died 2 times (killed by signal 9")


@pytest.mark.slow
def test_killed_and_restarted_it_makes_the_table_of_an_undisturbed_one(recipe, tmp_path):
    path = recipe()
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(path, whole).wait() == 0
    process = start(path, broken)
    wait_for(3, broken, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = finished(broken)
    assert 3 <= len(kept) < 6
    time.sleep(5)
    assert finished(broken) == kept  # no orphan went on
    assert start(path, broken, "--workers", "2").wait() == 0
    assert set(kept) < set(finished(broken))
    assert table(broken) == table(whole)
    assert len(table(whole)) == 10


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_says_how_to_go_on(recipe, tmp_path):
    out = tmp_path / "out"
    process = start(recipe(), out)
    wait_for(1, out, process)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait() == 130
    said = log_of(out).read_text()
    assert "cells are in" in said
    assert "goes on from there" in said
    assert len(table(out)) >= 1
