"""Run folders while they are written: who may, what is left, and where a run goes that cannot."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from test_artifact import ARRAYS, RECORD

from sharpzo.errors import ArtifactError
from sharpzo.storage import artifact, claim, files, journal
from sharpzo.storage.claim import Claim, take_up
from sharpzo.storage.journal import Journal, read_journal
from sharpzo.types import Step
from sharpzo.wording import quoted

JOB = b'{"data": "/photos"}'


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """A snapshot after every event."""
    monkeypatch.setattr(journal, "EVERY", 0.0)
    monkeypatch.setattr(journal, "PRICE", -1.0)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def work(folder, job, forwards=80, then=lambda claimed: None):
    """A search of one step and a snapshot."""
    with claim.claim(folder, job) as claimed:
        claimed.journal.append(Step(1, "cma", forwards, 0.1, 1.5))
        claimed.journal.after(lambda: {"objective.forwards": forwards, "a": np.ones(3)}, 1.0)
        then(claimed)


def begun(folder, job=JOB, forwards=80, stop=KeyboardInterrupt):
    """A fit that is stopped after a snapshot."""

    def end(claimed):
        (folder / "arrays.safetensors").write_bytes(b"half")
        raise stop

    with pytest.raises(stop) as stopped:
        work(folder, job, forwards, end)
    assert stop is not KeyboardInterrupt or str(stopped.value) == (
        f"{forwards:,} forwards are kept; go on with:  sharpzo fit --resume {quoted(folder)}"
    )
    return folder


def test_a_finished_run_has_its_three_files(tmp_path):
    with claim.claim(tmp_path / "run", JOB) as claimed:
        assert names(tmp_path / "run") == ["history.jsonl", "lock", "started.json"]
        assert claimed.write(ARRAYS, RECORD) == tmp_path / "run"
    assert names(tmp_path / "run") == ["arrays.safetensors", "history.jsonl", "run.json"]


def test_an_existing_folder_or_file_is_left_alone(tmp_path):
    with claim.claim(tmp_path / "run") as claimed:
        claimed.write(ARRAYS, RECORD)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name in ("run", "file", "folder", "dangling"):
        with pytest.raises(ArtifactError, match="exists already"), claim.claim(tmp_path / name):
            pass
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_an_interrupt_keeps_all_and_says_how_to_go_on(tmp_path):
    folder = begun(tmp_path / "my run")
    assert names(folder) == ["history.jsonl", "search.snapshot", "started.json"]
    with take_up(folder) as claimed:
        assert claimed.journal.state["objective.forwards"] == 80
        claimed.write(ARRAYS, RECORD)
    assert names(folder) == ["arrays.safetensors", "history.jsonl", "run.json"]


def test_a_failure_before_the_first_step_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), claim.claim(tmp_path / "run", JOB):
        raise ZeroDivisionError
    assert not (tmp_path / "run").exists()
    begun(tmp_path / "run", stop=ZeroDivisionError)
    assert names(tmp_path / "run") == ["history.jsonl", "search.snapshot", "started.json"]


def test_a_stopped_search_moves_aside_and_can_still_go_on(tmp_path):
    folder = begun(tmp_path / "run")
    aside = folder / "stopped"
    with claim.claim(folder, JOB) as claimed:
        assert claimed.note.startswith(f"{folder} has a fit with the same settings")
        assert f"after 80 forwards (it is kept); go on with:  sharpzo fit --resume {aside}" in (
            claimed.note
        )
        assert claimed.journal.state is None
        claimed.write(ARRAYS, RECORD)
    with take_up(aside) as claimed:
        assert claimed.journal.steps == [Step(1, "cma", 80, 0.1, 1.5)]
        raised = claimed.write(ARRAYS, RECORD)
    assert raised == aside


def test_of_two_stopped_searches_the_further_one_stays(tmp_path):
    folder = begun(tmp_path / "run", forwards=80)
    for forwards, job, kept in ((50, b"{}", 80), (50, JOB, 80), (120, JOB, 120), (7, JOB, 120)):
        begun(folder, job, forwards)
        assert not artifact.is_finished(folder)
        with claim.claim(folder, JOB) as claimed:
            assert ("the same" if job == JOB else "other") in claimed.note
            state = Journal(folder / "stopped").state
            assert state["objective.forwards"] == max(kept, forwards)
    begun(folder)
    with take_up(folder / "stopped") as claimed:
        claimed.write(ARRAYS, RECORD)
    with pytest.raises(ArtifactError, match="exists already"), claim.claim(folder, JOB):
        pass


def test_what_earlier_versions_left_does_not_block(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "history.jsonl").write_text('{"step": 1}\n' * 2)
    (folder / "arrays.safetensors").write_bytes(b"half")
    (folder / "arrays.safetensors.123.tmp").write_bytes(b"half")
    with claim.claim(folder) as claimed:
        assert claimed.note == ""
        assert names(folder) == ["history-stopped.jsonl", "history.jsonl", "lock"]
        claimed.write(ARRAYS, RECORD)
    assert (folder / "history-stopped.jsonl").read_text().count("\n") == 2


def test_a_folder_that_is_being_written_is_left_alone(tmp_path):
    folder = tmp_path / "run"
    with claim.claim(folder, JOB) as claimed:
        for other in (lambda: claim.claim(folder), lambda: take_up(folder)):
            with pytest.raises(ArtifactError, match="is being written by process"), other():
                pass
        claimed.journal.append(Step(1, "cma", 40, 0.1, 1.5))
        claimed.write(ARRAYS, RECORD)
    assert len(read_journal(folder / "history.jsonl")) == 1


@pytest.mark.parametrize("what", ["finished", "foreign", "missing", "damaged"])
def test_only_a_stopped_fit_is_taken_up(tmp_path, what):
    folder = tmp_path / "run"
    if what == "finished":
        with claim.claim(folder, JOB) as claimed:
            claimed.write(ARRAYS, RECORD)
    elif what == "foreign":
        folder.mkdir()
    elif what == "damaged":
        begun(folder)
        (folder / "search.snapshot").write_bytes(b"?")
    expected = {"finished": "is finished", "damaged": "cannot be read"}.get(what, "has no fit")
    before = names(folder) if folder.exists() else None
    with pytest.raises(ArtifactError, match=expected), take_up(folder):
        pass
    assert (names(folder) if folder.exists() else None) == before


@pytest.mark.parametrize("out", ["x" * 300, "file/run", "a\0b"])
def test_folders_that_cannot_be_made(tmp_path, out):
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(ArtifactError, match=r"cannot make|give a path"),
        claim.claim(str(tmp_path / out)),
    ):
        pass


# --- where a run goes that cannot be written -----------------------------------------------------


@pytest.fixture
def full(tmp_path, monkeypatch):
    """No file below these folders can be written once there are some."""
    places = []
    real = os.replace

    def replace(source, target):
        if any(Path(target).is_relative_to(place) for place in places):
            raise OSError(28, "No space left on device")
        return real(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    monkeypatch.setattr(claim.tempfile, "gettempdir", lambda: str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "disk").mkdir()
    return places


def test_a_run_is_written_elsewhere(tmp_path, full):
    with claim.claim(tmp_path / "disk" / "run", JOB) as claimed:
        claimed.journal.append(Step(1, "cma", 40, 0.1, 1.5))
        full.append(tmp_path / "disk")
        other = claimed.write(ARRAYS, RECORD)
    assert other.parent == tmp_path / "elsewhere"
    assert artifact.read(other).record["method"] == "x"
    assert len(read_journal(other / "history.jsonl")) == 1
    assert claimed.elsewhere == (
        f"{tmp_path}/disk/run cannot be written (No space left on device); the run is in {other} "
        "instead"
    )
    with pytest.raises(ArtifactError, match="instead"):
        claimed.check()


def test_a_run_that_fits_nowhere_can_be_written_later(tmp_path, full, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "disk"))
    folder = tmp_path / "disk" / "run"

    def end(claimed):
        full.append(tmp_path)
        claimed.write(ARRAYS, RECORD)

    with pytest.raises(ArtifactError, match=r"nor any other folder; 40 forwards are kept; go on"):
        work(folder, JOB, 40, end)
    full.clear()
    assert not list((tmp_path / "elsewhere").iterdir())
    with take_up(folder) as claimed:
        assert claimed.journal.state["objective.forwards"] == 40
        assert claimed.write(ARRAYS, RECORD) == folder


def test_a_place_where_no_folder_can_be_is_not_said_to_exist(tmp_path, monkeypatch):
    """As in /proc, whose folders take none."""

    def refused(*_, **__):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "mkdir", refused)
    with (
        pytest.raises(ArtifactError, match=r"cannot make the run folder .*No such file"),
        claim.claim(tmp_path / "run"),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with (
        pytest.raises(ArtifactError, match=r"cannot make the run folder .*No space left"),
        claim.claim(tmp_path / "run", JOB),
    ):
        raise AssertionError
    assert not (tmp_path / "run").exists()


def test_the_claim_itself_needs_no_home(tmp_path, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    claimed = Claim(tmp_path, Journal(tmp_path))
    assert claimed.write(ARRAYS, RECORD) == tmp_path
    assert json.loads((tmp_path / "run.json").read_text())["method"] == "x"
