"""Steps and snapshots: torn, damaged, unwritable, changed."""

import os

import numpy as np
import pytest

from sharpzo.errors import ArtifactError
from sharpzo.storage import files, journal
from sharpzo.storage.journal import (
    HISTORY,
    SNAPSHOT,
    Journal,
    read_journal,
    read_snapshot,
    write_history,
)
from sharpzo.types import Step

STEPS = [Step(i, "cma", 40 * i, 0.1, 1.5, 0.5, 1.2, {"sigma": 0.4}) for i in range(5)]
STATE = {"search.mean": np.arange(3.0), "objective.forwards": 80, "search.stage": "ä"}


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """A snapshot after every event."""
    monkeypatch.setattr(journal, "SHARE", np.inf)
    monkeypatch.setattr(journal, "EVERY", 0.0)
    monkeypatch.setattr(journal, "PRICE", -1.0)


def snapshot(folder, steps=2, **made_of):
    one = Journal(folder)
    one.begin(made_of)
    for step in STEPS[:steps]:
        one.append(step)
    one.after(lambda: STATE, 7.5)
    for step in STEPS[steps:]:
        one.append(step)
    return one


def same(state):
    return set(state) == set(STATE) and all(np.array_equal(state[key], STATE[key]) for key in STATE)


def test_a_torn_last_line_is_dropped_and_any_other_is_named(tmp_path):
    write_history(tmp_path, STEPS[:3])
    path = tmp_path / HISTORY
    whole = path.read_bytes()
    assert read_journal(path) == STEPS[:3]
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert read_journal(path) == STEPS[: whole[:cut].count(b"\n")]
    lines = whole.split(b"\n")
    path.write_bytes(b"\n".join([lines[0], lines[1][:-9], lines[2], b""]))
    with pytest.raises(ArtifactError, match=r"line 2 of .*history.jsonl is damaged"):
        read_journal(path)


def test_a_line_is_in_the_file_at_once(tmp_path):
    one = Journal(tmp_path)
    for step in STEPS:
        one.append(step)
    assert read_journal(tmp_path / HISTORY) == STEPS
    one.close()


@pytest.mark.parametrize("torn", [b"", b'{"step": 5, "st', b"nonsense\n" * 3])
def test_it_goes_on_from_the_last_snapshot_whatever_came_after(tmp_path, torn):
    snapshot(tmp_path).close()
    with (tmp_path / HISTORY).open("ab") as file:
        file.write(torn)
    one = Journal(tmp_path)
    assert one.steps == STEPS[:2]
    assert (one.seconds, same(one.state)) == (7.5, True)
    one.append(STEPS[2])
    assert read_journal(tmp_path / HISTORY) == STEPS[:3]
    one.close()


def test_steps_without_a_snapshot_begin_anew(tmp_path):
    write_history(tmp_path, STEPS)
    one = Journal(tmp_path)
    assert (one.steps, one.state) == ([], None)
    assert (tmp_path / HISTORY).read_bytes() == b""
    one.close()


def test_a_step_that_the_snapshot_counts_must_be_whole(tmp_path):
    snapshot(tmp_path).close()
    whole = (tmp_path / HISTORY).read_bytes()
    (tmp_path / HISTORY).write_bytes(whole.replace(b"{", b"[", 1))
    with pytest.raises(ArtifactError, match="line 1 of"):
        Journal(tmp_path)
    (tmp_path / HISTORY).write_bytes(whole[:40])
    with pytest.raises(ArtifactError, match="has 0 whole lines, and its snapshot is of 2"):
        Journal(tmp_path)


def test_a_damaged_snapshot_is_one_sentence_at_any_byte(tmp_path):
    snapshot(tmp_path).close()
    path = tmp_path / SNAPSHOT
    whole = path.read_bytes()
    for place in range(len(whole)):
        for wrong in (
            whole[:place],
            whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :],
        ):
            path.write_bytes(wrong)
            with pytest.raises(ArtifactError, match=r"search.snapshot cannot be read"):
                read_snapshot(tmp_path)
    path.write_bytes(whole)
    assert same(read_snapshot(tmp_path)[1])


def test_what_changed_is_named(tmp_path):
    before = {"seed": 1, "setting search.rho": 0.1, "class names": ["a"] * 50, "budget": None}
    snapshot(tmp_path, **before).close()
    one = Journal(tmp_path)
    one.begin(before)
    with pytest.raises(ArtifactError, match=r"began with setting search.rho 0.1, now 0.5; b.* 3:"):
        one.begin(before | {"setting search.rho": 0.5, "budget": 3})
    one.close()


def test_a_full_disk_stops_no_search_and_the_last_snapshot_stays(tmp_path, monkeypatch, caplog):
    one = snapshot(tmp_path, steps=2)
    kept = (tmp_path / SNAPSHOT).read_bytes()
    real, room = os.write, [30]

    def write(file, blob):
        part = blob[: room[0]]
        room[0] -= len(part)
        if not part:
            raise OSError(28, "No space left on device")
        return real(file, part)

    monkeypatch.setattr(journal.os, "write", write)
    more = [Step(i, "zo", 40 * i, 0.2, 1.0) for i in range(5, 9)]
    for step in more[:2]:
        one.append(step)
        one.after(lambda: STATE, 9.0)
    assert not one.is_whole
    assert read_journal(tmp_path / HISTORY) == STEPS
    assert (tmp_path / SNAPSHOT).read_bytes() == kept
    room[0] = 10_000  # there is room again
    for step in more[2:]:
        one.append(step)
    assert one.is_whole
    assert read_journal(tmp_path / HISTORY) == one.steps == [*STEPS, *more]
    assert len(caplog.records) == 1
    one.close()


@pytest.mark.parametrize("failing", range(4))
def test_a_snapshot_that_fails_anywhere_leaves_the_one_before(tmp_path, monkeypatch, failing):
    """The n-th fsync or rename fails, for every n: the journal's, the file's, the rename and the
    folder's."""
    one = snapshot(tmp_path)
    calls = [0]

    def sometimes(real):
        def call(*arguments):
            calls[0] += 1
            if calls[0] - 1 == failing:
                raise OSError(28, "No space left on device")
            return real(*arguments)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(files.os, name, sometimes(getattr(os, name)))
    later = STATE | {"objective.forwards": 200}
    one.after(lambda: later, 9.0)
    monkeypatch.undo()
    about, state = read_snapshot(tmp_path)
    whole = about["steps"], state["objective.forwards"]
    assert whole == ((2, 80) if failing < 3 else (5, 200))
    assert not list(tmp_path.glob("*.tmp"))
    one.close()
    assert Journal(tmp_path).steps == STEPS[: whole[0]]


def test_snapshots_take_at_most_a_hundredth_of_the_time(tmp_path, monkeypatch):
    """By a clock of the test: one that takes 0.1 s comes every 10 s, a fast one each second."""
    monkeypatch.undo()
    for cost, least in ((0.1, 10.0), (0.0, 1.0)):
        clock, taken = [1.0], []
        monkeypatch.setattr(journal.time, "monotonic", lambda clock=clock: clock[0])
        one = Journal(tmp_path)

        def take(state, seconds, clock=clock, taken=taken, cost=cost):
            clock[0] += cost
            taken.append(clock[0])

        monkeypatch.setattr(one, "_take", take)
        for _ in range(10_000):
            clock[0] += 0.01
            one.after(lambda: STATE, 0.0)
            spent = cost * len(taken)
            assert spent <= 0.01 * (clock[0] - 1) or len(taken) == 1  # the first one is a surprise
        gaps = np.diff(taken[1:])
        assert least - 0.02 <= gaps.min() <= gaps.max() < least + 0.25
        one.close()


@pytest.mark.parametrize(
    "line",
    [
        "[]", "3", "null", "[" * 100_000, '{"step": 1}', '{"stage": 1}',
        '{"step": "x", "stage": "s", "forwards": 1, "seconds": 1, "loss": 1}',
        '{"step": 1, "stage": "s", "forwards": 1, "seconds": 1, "loss": null}',
        '{"step": 1, "stage": "s", "forwards": 1, "seconds": 1, "loss": 1, "notes": [1]}',
        '{"step": 1, "stage": "s", "forwards": 1, "seconds": 1, "loss": 1, "notes": {"a": {}}}',
        '{"step": 1, "stage": "s", "forwards": 1, "seconds": 1, "loss": true}',
        '{"step": -1, "stage": "s", "forwards": 1, "seconds": 1, "loss": 1}',
        '{"step": 1, "stage": "s", "forwards": 1' + "0" * 400 + ', "seconds": 1, "loss": 1}',
        "\udcff",
    ],
    ids=lambda line: ascii(line[:60]),
)  # fmt: skip
def test_a_changed_line_is_one_sentence(tmp_path, line):
    path = tmp_path / HISTORY
    path.write_bytes(line.encode(errors="surrogateescape") + b"\n")
    with pytest.raises(ArtifactError, match=r"line 1 of .* is damaged"):
        read_journal(path)
