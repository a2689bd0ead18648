"""Photos that arrive together are answered together, each by its own document."""

import queue
import threading

import pytest

from sharpzo.web.batches import MOST, Batches


class Gate:
    """Answers once it is opened, and keeps what it was asked."""

    def __init__(self):
        self.open, self.begun, self.asked = threading.Event(), threading.Event(), []

    def __call__(self, run, photos):
        self.asked.append((run, list(photos)))
        self.begun.set()
        assert self.open.wait(20)
        if b"bad" in photos:
            raise ValueError("of this batch")
        return [{"run": run, "photo": photo} for photo in photos]


@pytest.fixture
def gate():
    return Gate()


def begun(batches, gate):
    """The future of a first photo, which is being answered."""
    first = batches.submit("a", b"first")
    assert gate.begun.wait(20)
    return first


def test_what_waits_is_answered_together_by_run(gate):
    batches = Batches(gate, 200)
    first = begun(batches, gate)
    later = [batches.submit("ab"[k % 2], b"%d" % k) for k in range(6)]
    gate.open.set()
    assert first.result(20) == {"run": "a", "photo": b"first"}
    for k, future in enumerate(later):
        assert future.result(20) == {"run": "ab"[k % 2], "photo": b"%d" % k}
    assert gate.asked[1:] == [("a", [b"0", b"2", b"4"]), ("b", [b"1", b"3", b"5"])]
    batches.close()


def test_a_batch_has_a_most_and_so_has_the_queue(gate):
    batches = Batches(gate, 2 * MOST + 1)
    begun(batches, gate)
    many = [batches.submit("a", b"x") for _ in range(2 * MOST + 1)]
    assert batches.waiting == len(many)
    with pytest.raises(queue.Full):
        batches.submit("a", b"x")
    gate.open.set()
    assert all(future.result(20) for future in many)
    assert [len(photos) for _, photos in gate.asked] == [1, MOST, MOST, 1]
    batches.close()


def test_who_went_away_is_left_out_and_a_failure_stays_in_its_batch(gate):
    batches = Batches(gate, 10)
    begun(batches, gate)
    gone, bad, other = (batches.submit("a", b"gone"), batches.submit("a", b"bad"),
                        batches.submit("b", b"good"))  # fmt: skip
    gone.cancel()
    gate.open.set()
    assert other.result(20)["photo"] == b"good"
    with pytest.raises(ValueError, match="of this batch"):
        bad.result(20)
    assert gate.asked[1:] == [("a", [b"bad"]), ("b", [b"good"])]
    assert batches.submit("a", b"next").result(20)["photo"] == b"next"
    batches.close()


def test_the_end_waits_for_what_was_begun(gate):
    batches = Batches(gate, 10)
    futures = [begun(batches, gate), *(batches.submit("a", b"x") for _ in range(5))]
    gate.open.set()
    batches.close()
    assert all(future.done() for future in futures)


def test_a_photo_without_a_document_does_not_end_the_thread():
    batches = Batches(lambda run, photos: [{}] * (run != "short"), 10)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        batches.submit("short", b"x").result(20)
    assert batches.submit("other", b"x").result(20) == {}
    batches.close()
