"""The one protocol between processes: messages, bytes, errors and ends of either side."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sharpzo.errors import InputError
from sharpzo.process import Child, ProcessDied, stop_signals

CHILD = """
import os, signal, sys, time
import numpy as np
from sharpzo.errors import InputError
from sharpzo.process import serve

def work(parent):
    print("printed")
    os.write(1, b"written\\n")
    while True:
        task = parent.receive()
        if "double" in task:
            numbers = np.empty(task["double"], np.float32)
            parent.fill(numbers.data)
            parent.send({"count": len(numbers)}, (2 * numbers).data)
        elif "refuse" in task:
            raise InputError("that is no task")
        elif "exit" in task:
            print("why it exits", file=sys.stderr)
            sys.exit(3)
        elif "half" in task:
            parent._sink.write(b'{"count"')
            return
        elif "sleep" in task:
            parent.end_with_parent()
            parent.send({"pid": os.getpid()})
            time.sleep(600)

if __name__ == "__main__":
    serve(work)
"""


@pytest.fixture
def child(tmp_path):
    (tmp_path / "a_child.py").write_text(CHILD)
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    with Child("a_child", {"PYTHONPATH": paths}) as made:
        yield made
    assert not made.running


def test_messages_and_bytes_go_both_ways_whatever_is_printed(child):
    for many in (3, 200_000):  # more than a pipe holds
        numbers = np.arange(many, dtype=np.float32)
        child.send({"double": many}, numbers.data)
        assert child.receive() == {"count": many}
        found = np.empty_like(numbers)
        child.fill(found.data)
        assert (found == 2 * numbers).all()


def test_its_errors_keep_kind_and_sentence(child):
    child.send({"refuse": 1})
    with pytest.raises(InputError, match="that is no task"):
        child.receive()


@pytest.mark.parametrize(
    ("task", "why"), [("exit", r"exit code 3; why it exits"), ("half", "exit code 0")]
)
def test_a_death_is_told(child, task, why):
    child.send({task: 1})
    with pytest.raises(ProcessDied, match=why) as death:
        child.receive()
    assert pickle.loads(pickle.dumps(death.value)).why == death.value.why  # Ray hands it on
    assert not child.running


def test_a_killed_process_is_told(child):
    child.send({"sleep": 1})
    child.receive()
    child.kill()
    with pytest.raises(ProcessDied, match="killed by signal 9"):
        child.receive()


def test_it_ends_with_its_parent(tmp_path):
    (tmp_path / "a_child.py").write_text(CHILD)
    code = (
        "import os\nfrom sharpzo.process import Child\nchild = Child('a_child')\n"
        "child.send({'sleep': 1})\nprint(child.receive()['pid'], flush=True)\nos._exit(0)"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.stdout.strip().isdigit()
    pid = int(done.stdout)
    for _ in range(200):
        if not _alive(pid):
            return
        subprocess.run(["sleep", "0.05"])
    os.kill(pid, 9)
    raise AssertionError("it went on")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return not sys.platform.startswith("linux")
    return stat.rpartition(")")[2].split()[0] != "Z"  # a zombie has ended


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_terminal_that_closes_ends_work_unless_that_is_ignored():
    taken = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals(lambda number, frame: taken.append(number)):
            os.kill(os.getpid(), signal.SIGHUP)
        assert taken == []
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with stop_signals(lambda number, frame: taken.append(number)):
            assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL  # or it ends us
            os.kill(os.getpid(), signal.SIGHUP)
        assert taken == [signal.SIGHUP]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
