import json
import os
import threading

import numpy as np
import pytest

from sharpzo.errors import ArtifactError
from sharpzo.storage import artifact, files
from sharpzo.storage.record import as_record

ARRAYS = {"weight": np.eye(2, dtype=np.float32)}
RECORD = {
    "sharpzo_version": "0", "created": "2026-01-01T00:00:00Z", "method": "x", "preset": None,
    "template": "a photo of a {}.", "seed": 1, "class_names": ["a", "b"], "settings": {},
    "model": {"id": None, "sha256": "0" * 64}, "preprocessing": {},
    "data": {"source": "x", "shots": None, "training_photos": 2, "validation_photos": 0,
             "notes": [], "skipped": []},
    "validation": {"accuracy": 0.5}, "test": {"accuracy": None}, "forwards": 1, "steps": 0,
    "seconds": 0.1, "peak_memory_mb": 90.5, "stopped": "x", "notes": {"penalty": 1.0},
    "methods": [{"method": "x", "forwards": 1, "seconds": 0.1, "validation": 0.5, "test": None,
                 "shifted": None}],
}  # fmt: skip


def made(folder):
    folder.mkdir()
    return folder


@pytest.fixture
def run(tmp_path):
    folder = made(tmp_path / "run")
    artifact.write(folder, ARRAYS, RECORD)
    return folder


def test_what_is_written_is_read(run):
    found = artifact.read(run)
    assert np.array_equal(found.arrays["weight"], np.eye(2))
    assert found.record["method"] == "x"
    assert sorted(p.name for p in run.iterdir()) == ["arrays.safetensors", "run.json"]


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"weights": {9: 1, 10: 2}}},  # of a plugin's method
        {"notes": {"loss": float("inf"), "shift": np.float64(0.1), "small": 5e-324}},
        {"warnings": ("caf\udce9.jpg", "\ud83d\ude00")},
    ],
)
def test_a_hash_is_of_what_is_read(tmp_path, changes):
    folder = made(tmp_path / "run")
    artifact.write(folder, ARRAYS, {**RECORD, **changes})
    assert artifact.read(folder).record.keys() >= RECORD.keys()


def test_a_run_of_the_first_format_is_read(run):
    (run / "arrays.safetensors").rename(run / "prompt.safetensors")
    record = json.loads((run / "run.json").read_text())
    del record["record_sha256"]  # which came later
    (run / "run.json").write_text(json.dumps(record | {"format": 1}))
    assert np.array_equal(artifact.read(run).arrays["weight"], np.eye(2))
    assert artifact.read(run).bytes == (run / "prompt.safetensors").stat().st_size


def test_views_of_other_arrays_are_read_as_they_were_seen(tmp_path):
    whole = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    views = {"column": whole[:, :, 1], "turned": whole[0].T}
    folder = made(tmp_path / "run")
    artifact.write(folder, views, RECORD)
    for name, array in artifact.read(folder).arrays.items():
        assert np.array_equal(array, views[name]), name


def test_line_ends_of_a_version_control_change_nothing(tmp_path):
    folder = made(tmp_path / "run")
    steps = folder / "history.jsonl"
    steps.write_bytes(b'{"step": 1}\n{"step": 2}\n')
    artifact.write(folder, ARRAYS, RECORD)
    for file in (steps, folder / "run.json"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert artifact.read(folder).record["method"] == "x"
    steps.write_bytes(steps.read_bytes().replace(b"2", b"3"))
    with pytest.raises(ArtifactError, match=r"history.jsonl is not the file"):
        artifact.read(folder)


def test_steps_that_cannot_be_read_are_one_sentence(run, monkeypatch):
    (run / "history.jsonl").write_bytes(b"")
    monkeypatch.setattr(artifact, "_digest_history", _unreadable)
    with pytest.raises(ArtifactError, match=r"cannot read .*history.jsonl: Permission denied"):
        artifact.read(run)


def _unreadable(folder):
    raise PermissionError(13, "Permission denied", str(folder))


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


def test_one_damaged_byte_of_a_record_changes_nothing_in_silence(run):
    path = run / "run.json"
    data, whole = path.read_bytes(), artifact.read(run).record
    del whole["record_sha256"]  # its own name may be what is damaged
    refused, places = 0, range(0, len(data), 3)
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 7
        path.write_bytes(damaged)
        try:
            found = artifact.read(run).record
        except ArtifactError:
            refused += 1
        else:
            assert {name: found.get(name) for name in whole} == whole, place
    assert refused > 0.8 * len(places)


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

    monkeypatch.setattr(files.os, "fsync", sometimes(files.os.fsync))
    monkeypatch.setattr(files.os, "replace", sometimes(files.os.replace))
    folder = made(tmp_path / "run")
    with pytest.raises(OSError, match="No space"):
        artifact.write(folder, ARRAYS, RECORD)
    monkeypatch.undo()
    if failing < 5:  # the sixth call is the fsync after the record's rename: the run is complete
        with pytest.raises(ArtifactError, match="not a finished run"):
            artifact.read(folder)
    else:
        assert artifact.read(folder).record["method"] == "x"


# --- changed records -----------------------------------------------------------------------------

WRONG = (None, True, float("nan"), 1e400, "text", [], [[]], [None], {}, {"a": {"b": []}}, 7, -1.5)
OR_NONE = {
    "preset": "text",
    "peak_memory_mb": 90.5,
    "id": "text",
    "shots": 7,
    "accuracy": 0.5,
    "penalty": 1.0,
}
KINDS = {str: (str,), int: (int,), float: (int, float), list: (), dict: (dict,)}


def places(record, above=()):
    for name, value in record.items():
        yield (*above, name), OR_NONE.get(name, value)
        if isinstance(value, dict):
            yield from places(value, (*above, name))


@pytest.mark.parametrize(("place", "sample"), list(places(RECORD)))
def test_a_field_of_another_kind_is_refused(tmp_path, place, sample):
    folder = made(tmp_path / "run")
    artifact.write(folder, ARRAYS, RECORD)
    text = (folder / "run.json").read_text()
    for wrong in WRONG:
        record = json.loads(text)
        holder = record
        for name in place[:-1]:
            holder = holder[name]
        holder[place[-1]] = wrong
        (folder / "run.json").write_text(json.dumps(record))
        fits = isinstance(wrong, KINDS[type(sample)]) and wrong is not True
        if fits or (wrong is None and place[-1] in OR_NONE) or place[-1] == "penalty":
            continue
        if place[-1] in ("methods", "skipped", "notes") and wrong == []:
            continue
        with pytest.raises(ArtifactError, match=place[-1]):
            artifact.read(folder)


@pytest.mark.parametrize("name", ["method", "template", "class_names", "model", "data"])
def test_a_record_without_what_every_version_wrote_is_incomplete(tmp_path, name):
    folder = made(tmp_path / "run")
    artifact.write(folder, ARRAYS, {key: value for key, value in RECORD.items() if key != name})
    with pytest.raises(ArtifactError, match=rf"incomplete record \({name}\)"):
        artifact.read(folder)


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "3", '"x"', "[" * 100_000, '{"a":' * 100_000, '{"format": true}', "\x00",
        '{"format": NaN}', '{"format": [2]}', '{"format": {"a": 2}}', "{}",
    ],
    ids=lambda text: text[:16],
)  # fmt: skip
def test_a_record_that_is_none(run, text):
    (run / "run.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"is not a run's record|has format"):
        artifact.read(run)


@pytest.mark.parametrize(
    "names",
    [[], ["a", "a"], ["a", ""], ["a", " "], ["a", 1], ["a", None], ["a", ["b"]], "ab", {"a": 1}],
    ids=repr,
)
def test_changed_class_names_are_refused(tmp_path, names):
    folder = made(tmp_path / "run")
    artifact.write(folder, ARRAYS, {**RECORD, "class_names": names})
    with pytest.raises(ArtifactError, match="'class_names' that no run writes"):
        artifact.read(folder)


def test_arrays_of_an_unknown_kind(run):
    import hashlib

    header = b'{"weight":{"dtype":"F7","shape":[1],"data_offsets":[0,4]}}'
    blob = len(header).to_bytes(8, "little") + header + b"\0\0\0\0"
    (run / "arrays.safetensors").write_bytes(blob)
    _edit(run, arrays_sha256=hashlib.sha256(blob).hexdigest())
    with pytest.raises(ArtifactError, match="is damaged"):
        artifact.read(run)


def test_a_name_that_is_no_utf8_is_kept(tmp_path):
    folder = made(tmp_path / "run")
    artifact.write(
        folder, ARRAYS, {**RECORD, "data": {**RECORD["data"], "source": "folder caf\udce9 ü"}}
    )
    assert artifact.read(folder).record["data"]["source"] == "folder caf\udce9 ü"
    assert "ü" in (folder / "run.json").read_text(encoding="utf-8")


def test_text_that_is_no_utf8_in_a_record_is_refused():
    with pytest.raises(ArtifactError, match="that no run writes"):
        as_record({"seed": "\ud800"})


def weight(folder):
    return artifact.read(folder).arrays["weight"][0, 0]


def rewrite(folder, value):
    artifact.rewrite(folder, {"weight": np.full((2, 2), value, np.float32)}, RECORD)


def stopped(monkeypatch, folder, value, last):
    """Write a run again, but for putting the ``last`` file where it belongs."""
    replace = os.replace

    def stop(source, target):
        if target.name == last:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            rewrite(folder, value)


def test_a_run_survives_two_stops_while_it_is_written_again(run, monkeypatch):
    for value, last in ((2, artifact.ARRAYS), (3, artifact.RECORD), (4, artifact.NEXT)):
        stopped(monkeypatch, run, value, last)
        assert weight(run) == 2
    rewrite(run, 5)
    assert weight(run) == 5
    assert not (run / artifact.NEXT).exists()


def test_what_a_stop_left_takes_its_place_or_goes(run, monkeypatch):
    artifact.settle(run)
    for value, last, found in ((2, artifact.ARRAYS, 2), (3, artifact.RECORD, 2)):
        stopped(monkeypatch, run, value, last)
        assert (run / artifact.NEXT).exists()
        artifact.settle(run)
        assert not (run / artifact.NEXT).exists()
        assert weight(run) == found
    (run / artifact.NEXT).write_bytes(b"x")
    (run / artifact.RECORD).write_bytes(b"{}")
    artifact.settle(run)
    assert (run / artifact.NEXT).exists()  # of what is no run nothing is removed


def test_a_run_is_read_while_it_is_written_again(run):
    rewrite(run, 0)
    ended = threading.Event()

    def write():
        for value in range(1, 60):
            rewrite(run, value)
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = [weight(run)]
    while not ended.is_set():
        seen.append(weight(run))
    thread.join()
    assert seen == sorted(seen)
    assert weight(run) == 59
