import json

import numpy as np
import pytest

from sharpzo import artifact
from sharpzo.errors import ArtifactError
from sharpzo.journal import Journal, read_journal
from sharpzo.types import Step

ARRAYS = {"weight": np.eye(2, dtype=np.float32)}


@pytest.fixture
def run(tmp_path):
    folder = artifact.claim(tmp_path / "run")
    artifact.write(folder, ARRAYS, {"method": "x"})
    return folder


def test_what_is_written_is_read(run):
    found = artifact.read(run)
    assert np.array_equal(found.arrays["weight"], np.eye(2))
    assert found.record["method"] == "x"
    assert sorted(p.name for p in run.iterdir()) == ["arrays.safetensors", "run.json"]


def test_a_run_of_the_first_format_is_read(run):
    (run / "arrays.safetensors").rename(run / "prompt.safetensors")
    _edit(run, format=1)
    assert np.array_equal(artifact.read(run).arrays["weight"], np.eye(2))
    assert artifact.read(run).bytes == (run / "prompt.safetensors").stat().st_size


def test_views_of_other_arrays_are_read_as_they_were_seen(tmp_path):
    whole = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    views = {"column": whole[:, :, 1], "turned": whole[0].T}
    folder = artifact.claim(tmp_path / "run")
    artifact.write(folder, views, {"method": "x"})
    for name, array in artifact.read(folder).arrays.items():
        assert np.array_equal(array, views[name]), name


def test_an_existing_folder_or_file_is_left_alone(run, tmp_path):
    before = {p: p.read_bytes() for p in run.iterdir()}
    with pytest.raises(ArtifactError, match="exists already"):
        artifact.claim(run)
    assert {p: p.read_bytes() for p in run.iterdir()} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArtifactError, match="exists already"):
        artifact.claim(tmp_path / "file")
    assert artifact.claim(tmp_path / "deep" / "er").is_dir()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "run.json").unlink(), "not a finished run"),
        (lambda f: (f / "run.json").write_text("{"), "not a run's record"),
        (lambda f: (f / "run.json").write_text("[]"), "not a run's record"),
        (lambda f: (f / "arrays.safetensors").unlink(), "cannot read"),
        (lambda f: (f / "arrays.safetensors").write_bytes(b"\0" * 64), "is not the file"),
        (lambda f: _edit(f, format=99), "format 99"),
    ],
)
def test_damage_is_one_sentence(run, damage, sentence):
    damage(run)
    with pytest.raises(ArtifactError, match=sentence):
        artifact.read(run)


def _edit(folder, **changes):
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, **changes}))


@pytest.mark.parametrize("failing", range(6))
def test_a_write_that_fails_anywhere_leaves_no_half_run(tmp_path, monkeypatch, failing):
    """The n-th fsync or rename raises, for every n: the folder is never taken for a run."""
    calls = {"n": 0}

    def sometimes(real):
        def call(*args, **kwargs):
            calls["n"] += 1
            if calls["n"] - 1 == failing:
                raise OSError(28, "No space left on device")
            return real(*args, **kwargs)

        return call

    monkeypatch.setattr(artifact.os, "fsync", sometimes(artifact.os.fsync))
    monkeypatch.setattr(artifact.os, "replace", sometimes(artifact.os.replace))
    folder = artifact.claim(tmp_path / "run")
    with pytest.raises(OSError, match="No space"):
        artifact.write(folder, ARRAYS, {"method": "x"})
    monkeypatch.undo()
    if failing < 5:  # the sixth call is the fsync after the record's rename: the run is complete
        with pytest.raises(ArtifactError, match="not a finished run"):
            artifact.read(folder)
    else:
        assert artifact.read(folder).record["method"] == "x"


def test_release_removes_an_empty_claim_and_keeps_history(tmp_path):
    empty = artifact.claim(tmp_path / "empty")
    (empty / artifact.HISTORY).touch()
    artifact.release(empty)
    assert not empty.exists()
    worked = artifact.claim(tmp_path / "worked")
    (worked / artifact.HISTORY).write_text("{}\n")
    artifact.release(worked)
    assert worked.exists()


def test_the_journal_drops_a_torn_last_line_only(tmp_path):
    path = tmp_path / "history.jsonl"
    steps = [Step(i, "cma", 40 * i, 0.1, 1.5, 0.5, 1.2, {"sigma": 0.4}) for i in range(3)]
    with Journal(path) as journal:
        for step in steps:
            journal.append(step)
    assert read_journal(path) == steps
    whole = path.read_text()
    path.write_text(whole[:-9])
    assert read_journal(path) == steps[:2]
    path.write_text("nonsense\n" + whole)
    with pytest.raises(ArtifactError, match="line 1"):
        read_journal(path)
