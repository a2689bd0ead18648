"""Files written whole or not at all, and folders with one writer."""

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from sharpzo.errors import ArtifactError
from sharpzo.storage import files
from sharpzo.storage.files import Hold, check_room, write_atomically

HOLDER = """
import sys, time
from pathlib import Path
from sharpzo.storage.files import Hold
hold = Hold(Path(sys.argv[1]), "the run")
print("held", flush=True)
time.sleep(60)
"""


def test_no_link_is_followed(tmp_path, monkeypatch):
    """A link with the name of the temporary file, or of the file itself, leads nowhere."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "out").symlink_to(mine)
    write_atomically(tmp_path / "out", b"ours")
    assert not (tmp_path / "out").is_symlink()
    assert mine.read_text() == "mine"
    monkeypatch.setattr(files.os, "urandom", lambda n: b"guessed!")
    (tmp_path / f"out.{b'guessed!'.hex()}.tmp").symlink_to(mine)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "out", b"ours again")
    assert mine.read_text() == "mine"
    assert (tmp_path / "out").read_bytes() == b"ours"


def test_files_have_the_rights_that_the_user_gives_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def _write_often(path, letter):
    for _ in range(200):
        write_atomically(path, letter * 100_000)


def test_many_writers_leave_one_whole_file(tmp_path):
    context = multiprocessing.get_context("fork")
    path = tmp_path / "file"
    writers = [context.Process(target=_write_often, args=(path, bytes([97 + n]))) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert len(set(path.read_bytes())) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_second_is_told_who_holds_a_folder_and_a_dead_holder_is_forgotten(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE) as one:
        assert one.stdout.readline() == b"held\n"
        with pytest.raises(ArtifactError, match=rf"the run is being written by process {one.pid} "):
            Hold(tmp_path, "the run")
        one.send_signal(signal.SIGKILL)
        one.wait()
    hold = Hold(tmp_path, "the run")
    assert f"process {os.getpid()} " in (tmp_path / files.LOCK).read_text()
    hold.release()
    assert not list(tmp_path.iterdir())


def _hold_often(folder, inside, ends):
    """Whoever is inside makes a file that must not be there."""
    while time.monotonic() < ends:
        try:
            hold = Hold(folder, "it")
        except ArtifactError:
            continue
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
        os.unlink(inside)
        hold.release()


def test_two_are_never_inside(tmp_path):
    """Ten processes take and leave a folder for a second; leaving removes the lock."""
    (folder := tmp_path / "folder").mkdir()
    context = multiprocessing.get_context("fork")
    arguments = folder, tmp_path / "inside", time.monotonic() + 1
    others = [context.Process(target=_hold_often, args=arguments) for _ in range(10)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0] * 10


def test_a_lock_that_is_a_link_is_not_written_through(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (folder := tmp_path / "folder").mkdir()
    (folder / files.LOCK).symlink_to(mine)
    with pytest.raises(OSError, match="lock"):
        Hold(folder, "it")
    assert mine.read_text() == "mine"


def test_room_is_tried_and_given_back(tmp_path, monkeypatch):
    check_room(tmp_path)
    assert not list(tmp_path.iterdir())

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        check_room(tmp_path)
    assert not list(tmp_path.iterdir())
