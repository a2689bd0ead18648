"""A fit that was stopped goes on, from the command line and in Python, with the same result."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from command import answer, call, demo_folder, document, refused
from sharpzo import Budget, PromptClassifier
from sharpzo.data.demo import load_demo
from sharpzo.storage.journal import Journal, read_journal

SEARCH = ("--method", "sharpzo", "--set", "validate_every=20", "--set",
          "search.switch.generation=4", "--budget-forwards", "260", "--threads", "1")  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return demo_folder(tmp_path_factory.mktemp("photos"), train=4, val=2, test=2)


@pytest.fixture(scope="module")
def straight(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert call("fit", photos, "--out", out, *SEARCH) == 0
    return out


@pytest.fixture
def stopped(monkeypatch):
    """Signals arrive after some events of each search."""

    def after(events, number=signal.SIGINT):
        seen = [0]
        real = Journal.after

        def count(journal, *arguments):
            seen[0] += 1
            if seen[0] == events:
                os.kill(os.getpid(), number)
            real(journal, *arguments)

        monkeypatch.setattr(Journal, "after", count)

    before = signal.getsignal(signal.SIGINT)  # a shell's background processes ignore it
    yield after
    assert signal.getsignal(signal.SIGINT) == before


def stop(capsys, *arguments):
    """The last line of a fit that is stopped."""
    return answer(capsys, 130, *arguments).err.splitlines()[-1]


def steps(run):
    return [replace(step, seconds=0.0) for step in read_journal(run / "history.jsonl")]


def same(run, other):
    """Whether two runs are the same but for times and places."""
    measured = ("created", "seconds", "peak_memory_mb", "methods", "record_sha256",
                "history_sha256")  # fmt: skip
    one, two = (
        {
            k: v
            for k, v in json.loads((folder / "run.json").read_text()).items()
            if k not in measured
        }
        for folder in (run, other)
    )
    arrays = [(folder / "arrays.safetensors").read_bytes() for folder in (run, other)]
    return steps(run) == steps(other) and arrays[0] == arrays[1] and one == two


@pytest.mark.parametrize(
    ("events", "number"),  # the second stage begins after the fourth event
    [(1, signal.SIGTERM), (3, signal.SIGINT), (17, signal.SIGTERM)],
)
def test_a_stopped_fit_goes_on(photos, straight, tmp_path, capsys, stopped, events, number):
    out = tmp_path / "run"
    stopped(events, number)
    sentence = stop(capsys, "fit", photos, "--out", out, *SEARCH)
    assert sentence.startswith("sharpzo: stopped: ")
    assert sentence.endswith(f" forwards are kept; go on with:  sharpzo fit --resume {out}")
    assert not (out / "run.json").exists()
    found = document(capsys, "fit", "--resume", out)
    assert found["run"] == str(out)
    assert same(out, straight)
    assert {path.name for path in out.iterdir()} == {path.name for path in straight.iterdir()}


def test_the_same_fit_anew_says_that_it_can_go_on(photos, straight, tmp_path, capsys, stopped):
    out = tmp_path / "run"
    stopped(3)
    stop(capsys, "fit", photos, "--out", out, *SEARCH)
    said = answer(capsys, 0, "fit", photos, "--out", out, *SEARCH).err
    assert f"{out} has a fit with the same settings that was stopped after " in said
    assert f"go on with:  sharpzo fit --resume {out / 'stopped'}" in said
    assert call("fit", "--resume", out / "stopped") == 0
    assert same(out, straight)
    assert same(out / "stopped", straight)


def test_other_options_are_refused(photos, tmp_path, capsys, stopped):
    out = tmp_path / "run"
    stopped(3)
    stop(capsys, "fit", photos, "--out", out, *SEARCH)
    for options, word in {
        ("--seed", "2"): "seed 1, not 2",
        ("--method", "fgn"): "method 'sharpzo', not 'fgn'",
        ("--set", "validate_every=30"): "settings {",
        ("--shots", "3"): "shots None, not 3",
        ("--out", "x"): "contradict",
    }.items():
        assert word in refused(capsys, "fit", "--resume", out, *options)
    assert call("fit", "--resume", out, "--method", "sharpzo") == 0


def test_changed_photos_are_named_and_moved_ones_are_found(photos, straight, tmp_path, capsys,
                                                           stopped):  # fmt: skip
    own, out = tmp_path / "photos", tmp_path / "run"
    shutil.copytree(photos, own)
    stopped(3)
    stop(capsys, "fit", own, "--out", out, *SEARCH)
    photo = next((own / "train" / "dress").iterdir())
    kept = photo.read_bytes()
    shutil.copy(next((own / "train" / "bag").iterdir()), photo)
    assert "began with training photos " in refused(capsys, "fit", "--resume", out)
    photo.write_bytes(kept)
    own.rename(tmp_path / "moved")
    refused(capsys, "fit", "--resume", out)
    assert call("fit", "--resume", out, tmp_path / "moved") == 0
    assert steps(out) == steps(straight)


def test_what_cannot_go_on(photos, straight, tmp_path, capsys):
    assert "is finished" in refused(capsys, "fit", "--resume", straight)
    assert "has no fit that was stopped" in refused(capsys, "fit", "--resume", tmp_path)
    assert "no DATA or no --out" in refused(capsys, "fit", photos)
    (tmp_path / "started.json").write_text('{"data": 3}')
    assert "started.json is damaged" in refused(capsys, "fit", "--resume", tmp_path)


def test_a_killed_process_goes_on_and_a_second_one_is_told(photos, straight, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = [sys.executable, "-m", "sharpzo", "fit", photos, "--out", out, *SEARCH]
    slow = ("--set", "search.zo.refresh=1000000", "--budget-forwards", "100000000")
    with subprocess.Popen([*arguments, *slow], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (out / "search.snapshot").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        for again in (("fit", photos, "--out", out), ("fit", "--resume", out)):
            assert f"is being written by process {process.pid} on " in refused(capsys, *again)
        process.kill()
    with pytest.raises(KeyboardInterrupt):  # it goes on for ever
        PromptClassifier.resume(out, listen=_stop_at(read_journal(out / "history.jsonl")[-1].step))
    assert call("fit", photos, "--out", out, *SEARCH) == 0
    assert same(out, straight)


def _stop_at(after):
    def listen(step):
        assert step.step > 0
        if step.step > after:
            raise KeyboardInterrupt

    return listen


# --- in Python ------------------------------------------------------------------------------------


def classifier():
    return PromptClassifier(
        "sharpzo", settings={"validate_every": 20, "search.switch.generation": np.int64(4)},
        budget=Budget(forwards=200), threads=1,
    )  # fmt: skip


def some(split, count):
    rows = [row for k in range(3) for row in np.flatnonzero(split.labels == k)[:count]]
    return [split.photos[row].decode() for row in rows], split.labels[rows].tolist()


@pytest.mark.filterwarnings("ignore:the untuned model")
def test_photos_in_memory(tmp_path, monkeypatch):
    given, labels = some(load_demo(1).train, 3)
    whole = classifier().fit(given, labels, run=tmp_path / "whole")
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "after", _interrupt_after(Journal.after, 5))
        with pytest.raises(KeyboardInterrupt):
            classifier().fit(given, labels, run=out)
    with pytest.raises(ValueError, match="began with photos in memory"):
        PromptClassifier.resume(out)
    found = PromptClassifier.resume(out, given, labels)
    assert found.classes_.tolist() == whole.classes_.tolist() == [0, 1, 2]
    assert same(out, tmp_path / "whole")
    assert np.array_equal(PromptClassifier.load(out).predict_proba(given),
                          whole.predict_proba(given))  # fmt: skip
    assert [step.step for step in found.history_] == [step.step for step in whole.history_]


def _interrupt_after(real, events):
    seen = [0]

    def count(journal, *arguments):
        seen[0] += 1
        journal.stop = seen[0] == events
        real(journal, *arguments)

    return count


def test_a_fit_of_the_command_line_goes_on_in_python(photos, straight, tmp_path, capsys, stopped):
    out = tmp_path / "run"
    stopped(9)
    stop(capsys, "fit", photos, "--out", out, *SEARCH)
    found = PromptClassifier.resume(out)
    assert steps(out) == steps(straight)
    assert (out / "arrays.safetensors").read_bytes() == (
        straight / "arrays.safetensors"
    ).read_bytes()
    assert found.get_params()["method"] == "sharpzo"
    assert found.fit_.forwards == json.loads((straight / "run.json").read_text())["forwards"]


# --- folders of strangers -------------------------------------------------------------------------


def test_no_code_runs_that_a_document_names(photos, tmp_path, capsys, stopped):
    mark, plugin = tmp_path / "mark", tmp_path / "plugin.py"
    plugin.write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    out = tmp_path / "run"
    stopped(3)
    stop(capsys, "fit", photos, "--out", out, *SEARCH)
    begun = json.loads((out / "started.json").read_text())
    del begun["record_sha256"]  # whoever writes such a file can leave it out
    (out / "started.json").write_text(json.dumps(begun | {"plugin": [str(plugin)]}))
    sentence = refused(capsys, "fit", "--resume", out)
    assert f"was begun with a plugin, which is code; go on with --plugin {plugin}" in sentence
    assert not mark.exists()
    assert call("fit", "--resume", out, "--plugin", plugin) == 0
    assert mark.exists()


@pytest.mark.parametrize("name", ["started.json", "history.jsonl", "search.snapshot"])
def test_a_pipe_in_place_of_a_file_does_not_hang(photos, tmp_path, capsys, stopped, name):
    out = tmp_path / "run"
    stopped(3)
    stop(capsys, "fit", photos, "--out", out, *SEARCH)
    (out / name).unlink()
    os.mkfifo(out / name)
    if name == "search.snapshot":  # none: the search begins anew
        assert call("fit", "--resume", out) == 0
    else:
        refused(capsys, "fit", "--resume", out)


def test_a_user_without_a_home(photos, tmp_path, capsys, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert call("fit", photos, "--out", tmp_path / "run", "--method", "projection") == 0
    assert "--cache" in refused(capsys, "cache")


def test_a_folder_is_named_as_people_write_it(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(photos.parent)
    out = tmp_path / "run"
    said = answer(capsys, 0, "fit", photos.name, "--out", out, "--method", "zero-shot").err
    assert said.startswith(f"folder {photos.name}: ")
    record = json.loads((out / "run.json").read_text())
    assert record["data"]["source"] == f"folder {photos.name}"
