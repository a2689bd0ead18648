"""Files that survive crashes and other processes: written whole or not at all, one writer each."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from sharpzo.errors import ArtifactError

LOCK = "lock"
ROOM = 1 << 20  # bytes that are written for a trial before the work begins
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


def write_atomically(path: Path, blob: bytes) -> None:
    """Write a file whole or not at all, through crashes and beside other processes.

    The temporary file beside it has a random name and must not exist: planted links are not
    followed.
    """
    temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # a write does not know its file's name
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    if os.name == "posix":  # the rename itself must survive a power cut, too
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def check_room(folder: Path) -> None:
    """Raise OSError unless a megabyte can be written into the folder: better now than at the end
    of the work. Quotas and read-only file systems are found, too."""
    trial = folder / f"room.{os.urandom(8).hex()}.tmp"
    try:
        with trial.open("xb") as file:
            file.write(bytes(ROOM))
            file.flush()
            os.fsync(file.fileno())
    finally:
        with suppress(OSError):
            trial.unlink(missing_ok=True)


class Hold:
    """Makes this process the only one that writes a ``folder``, until `release`.

    The lock is the operating system's: it ends with the process, in whatever way that ends, and
    then belongs to whoever asks next. ``what`` names the folder in the ArtifactError that says who
    holds it. A file system without locks lets everyone in. ``lock`` is the file in the folder that
    is locked.
    """

    def __init__(self, folder: Path, what: str, lock: str = LOCK) -> None:
        from filelock import FileLock, Timeout  # a quarter of a second

        self._file = folder / lock
        self._lock = FileLock(self._file, timeout=0, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise ArtifactError(f"{what} is being written by {self._holder()}") from None
        except OSError as error:
            if not os.access(folder, os.W_OK) or self._file.is_symlink():
                raise OSError(error.errno, error.strerror, str(self._file)) from None
            return
        try:
            self._say_who()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others write the folder; nothing of the lock stays in it."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)  # while it is held
        self._lock.release()
        with suppress(OSError):  # where an open file cannot be removed
            if os.name == "nt":
                self._file.unlink(missing_ok=True)

    def _say_who(self) -> None:
        import socket  # no command that only reads does

        mine = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%H:%M:%S')}"
        with suppress(PermissionError):  # Windows locks the content, too
            file = os.open(self._file, os.O_WRONLY | os.O_TRUNC | _NO_FOLLOW)
            try:
                os.write(file, mine.encode())
            finally:
                os.close(file)

    def _holder(self) -> str:
        try:
            file = os.open(self._file, os.O_RDONLY | _NO_FOLLOW)
            with os.fdopen(file, "rb") as opened:
                said = opened.read(200).decode("ascii", "replace")
        except OSError:
            said = ""
        return said or "another process"
