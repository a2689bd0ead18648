"""Photos before the last block, kept in a temporary file: for a descent under a memory limit."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from sharpzo.methods.last_block import CHUNK, Seen

_BYTES = 12 << 20  # of tokens in float32 that are in memory at a time


class SeenFile:
    """``many`` photos of ``shape`` (T, S), tokens in half precision; as `Seen` where a descent
    reads it, a few photos at a time.

    Read, not mapped: pages of a map would count as memory of the process. The file has no name
    where the system allows that (Linux), so it is gone when the process is, however that ends. It
    lies in the folder of `tempfile`, or in ``/var/tmp``, which is on a disk where ``/tmp`` may be
    in memory; raises OSError with the folder's name where that has no room.
    """

    def __init__(self, many: int, shape: tuple[int, int]) -> None:
        self.first = np.empty((many, shape[1]), np.float32)
        self.at_once = at_once(shape)
        self._shape, self._row = shape, 2 * shape[0] * shape[1]
        self._folder = _folder()
        self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115

    def __len__(self) -> int:
        return len(self.first)

    def put(self, place: int, seen: Seen) -> None:
        """Keep photos from this place on."""
        self.first[place : place + len(seen)] = seen.first
        content = np.ascontiguousarray(seen.normal, np.float16).data.cast("B")
        self._file.seek(place * self._row)
        while len(content):
            try:
                content = content[self._file.write(content) :]
            except OSError as error:  # a write does not know its file's name
                raise OSError(error.errno, error.strerror, str(self._folder)) from error

    def take(self, rows: slice) -> Seen:
        """Photos of a stretch."""
        normal = np.empty((len(self.first[rows]), *self._shape), np.float16)
        place = normal.data.cast("B")
        self._file.seek(rows.start * self._row)
        while len(place):
            got = self._file.readinto(place)
            if not got:
                raise OSError(None, "the temporary file is cut short", str(self._folder))
            place = place[got:]
        return Seen(normal, self.first[rows])

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


def at_once(shape: tuple[int, int]) -> int:
    """Photos of tokens (T, S) that a descent reads at a time."""
    return max(1, min(CHUNK, _BYTES // (4 * shape[0] * shape[1])))


def _folder() -> Path:
    named = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    disk = Path("/var/tmp")
    return disk if not named and os.access(disk, os.W_OK) else Path(tempfile.gettempdir())


def bytes_of(shape: tuple[int, int], heads: int) -> int:
    """Bytes of a chunk while it passes the last block: as read, widened, and a few rows of each
    photo for each head."""
    tokens, width = shape
    return at_once(shape) * (6 * tokens * width + 4 * heads * (3 * tokens + 8 * width))
