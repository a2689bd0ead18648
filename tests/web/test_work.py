"""Work in the background: how it ends, and how far a search is by its journal."""

import json

import pytest

from sharpzo.errors import InputError
from sharpzo.fitting.job import Job
from sharpzo.web.work import Desk, Follower, Work


def ended(work):
    work.stop()
    work._thread.join(30)
    assert not work.running
    return work


def test_how_it_ends_is_a_sentence():
    def fails(error):
        def do(work):
            raise error

        work = Work("tune", do)
        work._thread.join(30)
        return work.error

    assert fails(InputError("a sentence")) == "a sentence"
    assert fails(OSError(28, "No space left on device", "x")) == (
        "cannot read or write x: No space left on device"
    )
    assert "memory" in fails(MemoryError())


def test_one_thing_at_a_time_and_a_check_gives_way():
    desk = Desk()

    def waits(work):
        while True:
            work.tell(stage="waiting")

    desk.begin("check", waits)
    check = desk.work
    desk.begin("tune", waits)
    assert check.stopped
    for kind in ("check", "tune"):
        with pytest.raises(InputError, match="tuning is running; wait for it, or stop it"):
            desk.begin(kind, waits)
    assert ended(desk.work).stopped


def test_a_command_gives_its_document_or_its_sentence(tmp_path):
    found = []

    def do(work):
        found.append(work.command(["methods"], tmp_path))
        work.command(["predict", str(tmp_path / "no-run"), "a.png"], tmp_path)

    work = Work("tune", do)
    work._thread.join(60)
    assert len(found[0]) > 20
    assert work.error.startswith("there is no run folder")


def test_a_journal_is_followed(tmp_path):
    run = tmp_path / "7"
    run.mkdir()
    follow = Follower(run, Job(method="zo-sgd"))
    assert follow.look() == {"method": "zo-sgd", "run": 7}

    def lines(first, last, loss=1.0):
        made = [
            {"step": n, "stage": "zo", "forwards": 2 * n, "seconds": n, "loss": loss}
            for n in range(first, last)
        ]
        return "".join(json.dumps(one) + "\n" for one in made)

    (run / "history.jsonl").write_text(lines(0, 3) + '{"step": 3, "sta')
    found = follow.look()
    assert [found[name] for name in ("stage", "done", "loss")] == ["zo", 4, 1.0]
    assert found["total"] > 0
    (run / "history.jsonl").write_text(lines(0, 1000, float("inf")))  # not what was begun
    follow.look()
    found = follow.look()
    assert found["done"] == 1998
    assert 100 < len(found["curve"]) <= 200
    assert json.dumps(found, allow_nan=False)
    (run / "history.jsonl").write_text(lines(0, 2))  # from the snapshot on
    found = follow.look()
    assert (found["done"], len(found["curve"])) == (2, 2)
