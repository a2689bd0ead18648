"""Full disks, interrupts, and changed run folders: one sentence, nothing lost."""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from command import FAST, answer, call, demo_folder, sentence_of
from sharpzo.cli.progress import Display
from sharpzo.storage import artifact
from sharpzo.storage.journal import Journal

SEARCH = ("--method", "cma-es", "--budget-forwards", "120")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return demo_folder(tmp_path_factory.mktemp("photos"), train=4) / "train"


@pytest.fixture(scope="module")
def fitted(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert call("fit", photos, "--out", out, *SEARCH) == 0
    return out


@pytest.fixture
def run(fitted, tmp_path):
    return Path(shutil.copytree(fitted, tmp_path / "run"))


def change(run, **changes):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, **changes}))


def arrays_of(run, **arrays):
    blob = save({**load_file(run / "arrays.safetensors"), **arrays})
    (run / "arrays.safetensors").write_bytes(blob)
    change(run, arrays_sha256=hashlib.sha256(blob).hexdigest())


def test_a_changed_record_ends_in_a_sentence(run, photos, capsys):
    whole = (run / "run.json").read_text()
    changes = (
        {"method": None}, {"method": "none"}, {"preset": 3}, {"class_names": "abc"},
        {"class_names": ["a", "b"]}, {"class_names": [["a"], "b", "c"]}, {"template": None},
        {"template": "no place"}, {"seed": "1"}, {"model": []}, {"model": None}, {"model": {}},
        {"model": {"id": None, "sha256": 5}}, {"data": 3}, {"settings": []}, {"validation": []},
    )  # fmt: skip
    for one in changes:
        (run / "run.json").write_text(whole)
        change(run, **one)
        sentence_of(capsys, 2, "predict", run, photos)
    for text in ("null", "[]", "{", "[" * 100_000, "\xff"):
        (run / "run.json").write_text(text, encoding="latin-1")
        for command in (("predict", run), ("evaluate", run), ("report", run, "--data")):
            sentence_of(capsys, 2, *command, photos)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("kind", ["nan", "wide", "flat", "few", "empty"])
def test_changed_arrays_end_in_a_sentence(run, photos, capsys, kind):
    array = load_file(run / "arrays.safetensors")["weight"]
    changed = {
        "nan": np.full_like(array, np.nan),
        "wide": np.concatenate([array, array], axis=1),
        "flat": array.reshape(-1),
        "few": array[:1],
        "empty": array[:0],
    }[kind]
    arrays_of(run, weight=changed)
    sentence_of(capsys, 2, "predict", run, photos)
    sentence_of(capsys, 2, "evaluate", run, photos)


def test_a_changed_journal_ends_in_a_sentence(run, photos, capsys):
    with (run / "history.jsonl").open("a") as file:
        file.write('{"step": []}\n')
    said = sentence_of(capsys, 2, "report", run)
    assert "history.jsonl is not the file that run.json was written with" in said


@pytest.mark.parametrize("method", [FAST, SEARCH])
@pytest.mark.parametrize("failing", ["arrays.safetensors", "run.json"])
def test_a_full_disk_ends_in_a_sentence_and_blocks_nothing(
    photos, tmp_path, capsys, monkeypatch, method, failing
):
    """Wherever the named file is written, the disk is full."""
    out = tmp_path / "run"
    fsync = os.fsync

    def full(descriptor):
        if failing in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    if not os.path.exists("/proc/self/fd"):
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", full)
    sentence = sentence_of(capsys, 2, "fit", photos, "--out", out, *method)
    assert sentence.startswith(
        f"sharpzo: {out} cannot be written (No space left on device), nor any other folder; "
    )
    left = {path.name for path in out.iterdir()} if out.exists() else set()
    assert left >= {"history.jsonl", "started.json"} if method == SEARCH else left == set()
    monkeypatch.undo()
    if method == SEARCH:
        assert call("fit", "--resume", out) == 0
    else:
        assert call("fit", photos, "--out", out, *method) == 0


def test_a_run_whose_folder_is_full_is_written_beside(photos, tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    write = artifact.write

    def full(folder, *rest):
        if folder == out:
            raise OSError(28, "No space left on device")
        write(folder, *rest)

    monkeypatch.setattr(artifact, "write", full)
    printed = answer(capsys, 2, "fit", photos, "--out", out, *FAST)
    (other,) = tmp_path.glob("run-*")
    assert f"the run is in {other} instead" in printed.err
    assert f"sharpzo predict {other}" in printed.out.replace("\n", " ")
    monkeypatch.undo()
    assert call("predict", other, photos) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a Unix device")
def test_a_run_is_whole_when_its_table_cannot_be_printed(photos, tmp_path, capsys, monkeypatch):
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        monkeypatch.setattr("sharpzo.cli._give_up_stdout", lambda: None)
        assert call("fit", photos, "--out", tmp_path / "run", *FAST) == 2
        assert "the output cannot be written: No space" in capsys.readouterr().err
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    monkeypatch.undo()
    assert call("predict", tmp_path / "run", photos) == 0


def test_an_interrupt_while_the_commands_are_loaded(capsys, monkeypatch):
    class Interrupted:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "sharpzo.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "sharpzo.cli.app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted, *sys.meta_path])
    assert sentence_of(capsys, 130, "methods") == "sharpzo: stopped"


@pytest.mark.parametrize("place", ["a search", "photos", "the record"])
def test_an_interrupt_says_what_there_is(photos, tmp_path, capsys, monkeypatch, place):
    out = tmp_path / "run"

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    if place == "a search":
        append = Journal.append

        def twice(journal, step):
            append(journal, step)
            if step.step:
                stop()

        monkeypatch.setattr(Journal, "append", twice)
    elif place == "photos":
        monkeypatch.setattr(Display, "__enter__", stop)
    else:
        monkeypatch.setattr(artifact, "write", stop)
    sentence = sentence_of(capsys, 130, "fit", photos, "--out", out, *SEARCH)
    if place == "photos":
        assert {path.name for path in out.iterdir()} == {"history.jsonl", "started.json"}
    assert sentence.startswith("sharpzo: stopped: ")
    assert sentence.endswith(f" go on with:  sharpzo fit --resume {out}")
    monkeypatch.undo()
    assert call("fit", photos, "--out", out, *FAST) == 0


@pytest.mark.parametrize("place", ["sharpzo.storage.claim._finish", "sharpzo.cli.fit._show"])
def test_an_interrupt_after_the_run_is_written_says_so(
    photos, tmp_path, capsys, monkeypatch, place
):
    out, real, stopped = tmp_path / "run", resolve_name(place), []

    def stop(*arguments):
        if not stopped:
            stopped.append(place)
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(place, stop)
    sentence = sentence_of(capsys, 130, "fit", photos, "--out", out, *FAST)
    assert sentence == f"sharpzo: stopped: the run was written before, and is in {out}"
    assert {path.name for path in out.iterdir()} == {
        "arrays.safetensors", "history.jsonl", "run.json",
    }  # fmt: skip


def test_places_where_no_run_can_be(photos, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 300), "/proc/run"):
        sentence_of(capsys, 2, "fit", photos, "--out", out, *FAST)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_report_that_cannot_be_written(run, tmp_path, capsys):
    for out in (tmp_path, tmp_path / "none" / "r.html", tmp_path / ("x" * 300)):
        sentence_of(capsys, 2, "report", run, "--out", out)
