"""The first command of a stranger: several methods on the photos inside the package."""

import json
import shutil
from dataclasses import replace

import pytest

from command import answer, document, refused
from sharpzo import PromptClassifier, memory
from sharpzo.budget import Budget
from sharpzo.cli import demo_run as module
from sharpzo.cli.options import DEFAULT
from sharpzo.cli.progress import Display
from sharpzo.data import demo
from sharpzo.data.demo import load_demo
from sharpzo.types import Step

METHODS = ["zero-shot", "sharpzo", "fgn-csc", DEFAULT]
SMALL = ("--budget-forwards", "120", "--threads", "1")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fewer(monkeypatch):
    """The demo with an eighth of its training photos and a twentieth of its test photos."""

    def load(seed):
        whole = load_demo(seed)
        return replace(whole, train=whole.train.take(range(0, 160, 8)),
                       val=whole.val.take(range(0, 40, 2)),
                       test=whole.test.take(range(0, 500, 20)))  # fmt: skip

    monkeypatch.setattr(demo, "load_demo", load)


@pytest.mark.slow
def test_the_whole_demo_is_better_tuned_than_not(elsewhere, capsys):
    rows = document(capsys, "demo", *SMALL, "--method", DEFAULT)["methods"]
    assert rows[1]["test"] > rows[0]["test"] + 0.1


def test_one_document_compares_the_methods_and_the_best_is_kept(
    elsewhere, fewer, capsys, cache, monkeypatch
):
    begun = []
    monkeypatch.setattr(memory, "watch_anew", lambda: begun.append(1) or True)
    monkeypatch.setattr(memory, "peak", lambda: 10**6 * len(begun))
    (elsewhere / "sharpzo-demo-1").mkdir()
    report = document(capsys, "demo", *SMALL)
    rows = {row["method"]: row for row in report["methods"]}
    assert list(rows) == METHODS
    for name, row in rows.items():
        assert row["seconds"] > 0
        assert (row["forwards"] > 20) == (name in ("sharpzo", "fgn-csc"))
        assert row["forwards"] <= 120
        assert 0 < row["test"] < 1
    # Each peak is of its own fit.
    assert [row["peak_memory_mb"] for row in rows.values()] == [1, 2, 3, 4]
    best = max(METHODS[1:], key=lambda name: (rows[name]["validation"], -rows[name]["forwards"]))
    assert report["method"] == best
    assert report["test_accuracy"] == rows[best]["test"]
    assert report["zero_shot_accuracy"] == rows["zero-shot"]["test"]
    assert report["run"] == "sharpzo-demo-2"
    record = json.loads((elsewhere / "sharpzo-demo-2" / "run.json").read_text())
    assert (record["method"], record["methods"]) == (best, report["methods"])
    again = PromptClassifier.load("sharpzo-demo-2", cache=cache).evaluate(demo.load_demo(1).test)
    assert again.accuracy == rows[best]["test"]


def test_people_see_each_search_live_one_table_and_what_to_do_next(
    elsewhere, fewer, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    printed = answer(capsys, 0, "demo", *SMALL, "--out", "my demo")
    live = printed.err.splitlines()
    for name in ("sharpzo", "fgn-csc"):
        line = next(line for line in live if line.startswith(f"{name}: "))
        assert all(word in line for word in (" of 120 forwards, ", "loss ", "validation "))
    lines = printed.out.splitlines()
    assert all(len(line) <= 80 for line in lines if "│" in line)
    for name in METHODS:
        assert sum(f"│ {name} " in line for line in lines) == 1
    assert lines[-5].endswith("; its run is in 'my demo'. Use it:")
    assert lines[-4:] == [
        "  sharpzo predict 'my demo' PHOTO.jpg",
        "Your own photos, in one folder per class:",
        "  sharpzo fit PHOTOS --out my-run",
        "  sharpzo predict my-run NEW-PHOTO.jpg",
    ]


@pytest.mark.parametrize("name", ["cma-es", "zero-shot"])
def test_method_narrows_it(elsewhere, fewer, capsys, name):
    report = document(capsys, "demo", *SMALL, "--method", name)
    assert [row["method"] for row in report["methods"]] == list(dict.fromkeys(["zero-shot", name]))
    assert report["method"] == name
    refused(capsys, "demo", "--method", "magic", "--out", "never")
    assert not (elsewhere / "never").exists()


def test_all_searches_together_take_less_than_90_seconds():
    searches = [name for name in module.SHOWN if name != DEFAULT]
    assert module.SECONDS * len(searches) < 90


def test_what_a_search_says_where_there_is_no_terminal(capsys, monkeypatch):
    """The first step of each stage, then a line now and then; the nearer of two ends counts."""
    monkeypatch.setattr("sharpzo.cli.progress.QUIET_SECONDS", -1)
    steps = (
        Step(1, "one", 100, 60.0, 2.0, 0.25),  # with all that came before it
        Step(2, "one", 200, 61.0, 1.5, 0.25),
        Step(3, "two", 500, 95.0, 1.0, None),
    )
    for budget, left in (
        (Budget(1000, 100.0), (", 0:00:40 left", ", 0:00:08 left", ", 0:00:05 left")),
        (Budget(1000), ("", ", 0:00:08 left", "")),
        (Budget(seconds=3700.0), (", 1:00:40 left", ", 1:00:39 left", ", 1:00:05 left")),
    ):
        with Display() as display:
            show = display.search("sharpzo", budget)
            for step in steps:
                show(step)
        of = [f"{step.forwards} of {budget.forwards or step.forwards:,} forwards" for step in steps]
        assert capsys.readouterr().err.splitlines() == [
            f"sharpzo: {of[0]}, one, loss 2.000, validation 25.0 %{left[0]}",
            f"sharpzo: {of[1]}, one, loss 1.500, validation 25.0 %{left[1]}",
            f"sharpzo: {of[2]}, two, loss 1.000, validation n/a{left[2]}",
        ]
    monkeypatch.setattr("sharpzo.cli.progress.QUIET_SECONDS", 1000)
    with Display() as display:
        show = display.search("sharpzo", Budget(1000))
        for step in steps:
            show(step)
    assert [line.split(", ")[1] for line in capsys.readouterr().err.splitlines()] == ["one", "two"]


def test_the_next_command_is_written_as_this_one_was(monkeypatch):
    for called, name in (
        (".venv/bin/sharpzo", ".venv/bin/sharpzo"),
        (shutil.which("sharpzo") or "sharpzo", "sharpzo"),
        ("pytest", "sharpzo"),
    ):
        monkeypatch.setattr("sys.argv", [called, "demo"])
        assert module._own_name() == name
