"""Graphs of image towers on disk: written once for a checkpoint, and mapped by the runtime.

Building a graph takes longer than reading it, and its weights are then in memory twice. A graph is
a folder under the hash of what it was made of, for any engine and machine; it is complete once its
stamp says what the files were when they were written. What is otherwise is written anew: a damaged
weight would be a wrong answer without a word, so all of them are read before each use.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from sharpzo import __version__
from sharpzo.errors import EngineError
from sharpzo.memory import trim

if TYPE_CHECKING:
    from sharpzo.towers.graph import Graph

_WRITERS = (
    "image.py", "siglip_image.py", "resnet.py", "bottlenecks.py", "blocks.py", "patches.py",
    "pooling.py", "graph.py", "integers.py",
)  # fmt: skip
MODEL, STAMP = "model.onnx", "stamp.json"
_CHUNK = 1 << 18  # bytes, a multiple of _PAGE
_PAGE = 4096
T = TypeVar("T")


class GraphStore:
    """Graphs in ``folder``, which is made when it is needed; None: in temporary folders.

    Beyond ``limit`` bytes those go that were not used for longest.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, limit: int = 10**9) -> None:
        self.folder = None if folder is None else Path(folder)
        self.limit = limit

    def open(self, made_of: str, build: Callable[[], Graph], start: Callable[[Path], T]) -> T:
        """Return what ``start`` makes of the file of a graph, which ``build`` makes if need be.

        Raises what these two raise.
        """
        with suppress(OSError, EngineError):  # written anew
            if (kept := self._kept(made_of)) is not None:
                return start(kept / MODEL)
        trim()  # for the weights of the graph; later for those of the runtime
        graph = build()
        if self.folder is not None and graph.bytes <= self.limit:
            with suppress(OSError, EngineError):  # a cache that cannot be written to
                place = self._write(made_of, graph)
                del graph
                trim()
                return start(place / MODEL)
            graph = build()
        with TemporaryDirectory(prefix="sharpzo-", ignore_cleanup_errors=True) as folder:
            path = graph.save(folder)
            del graph
            trim()
            return start(path)

    def bytes(self) -> int:
        """Return the size of all graphs, of those that were never finished too."""
        return sum(map(_size, self._all()))

    def clear(self) -> None:
        """Remove all graphs; OSError where that is not allowed."""
        for one in self._all():
            _remove(one)

    def _place(self, made_of: str) -> Path:
        assert self.folder is not None
        key = hashlib.sha256(f"{__version__} {_code()} {made_of}".encode()).hexdigest()
        return self.folder / f"graph-{key[:32]}"

    def _kept(self, made_of: str) -> Path | None:
        """The folder of a graph that is as it was written."""
        if self.folder is None:
            return None
        place = self._place(made_of)
        try:
            if (place / STAMP).read_bytes() != _stamp(place):
                return None
        except OSError:
            return None
        with suppress(OSError):
            os.utime(place / STAMP)  # used now
        return place

    def _write(self, made_of: str, graph: Graph) -> Path:
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        place, fresh = self._place(made_of), Path(mkdtemp(prefix=".graph-", dir=self.folder))
        try:
            graph.save(fresh)
            for file in fresh.iterdir():  # or a power cut leaves zeros under a valid stamp
                with file.open("rb+") as stream:
                    os.fsync(stream.fileno())
            (fresh / STAMP).write_bytes(_stamp(fresh))
            with suppress(FileNotFoundError):
                _remove(place)
            os.rename(fresh, place)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        others = sorted((one for one in self._all() if one != place), key=_used)
        while others and sum(map(_size, [*others, place])) > self.limit:
            with suppress(OSError):
                _remove(others.pop(0))
        return place

    def _all(self) -> list[Path]:
        """All graphs, and what a process that was killed left of one."""
        if self.folder is None:
            return []
        return [*self.folder.glob("graph-*"), *self.folder.glob(".graph-*")]


@cache
def _code() -> str:
    """The hash of what writes graphs: another code may write others, with the same version."""
    total = hashlib.sha256()
    for name in _WRITERS:
        total.update((Path(__file__).parent / name).read_bytes())
    return total.hexdigest()


def _stamp(folder: Path) -> bytes:
    """What changes when a file does: its size and its checksum, by name."""
    files = sorted(file for file in folder.iterdir() if file.name != STAMP)
    sums = {file.name: [file.stat().st_size, _checksum(file)] for file in files}
    return json.dumps(sums).encode()


def _checksum(file: Path) -> int:
    """The CRC-32 of sums of 64-bit words: of each page, and of each place in a page over all pages.

    A word that changes moves two sums, and only changes of four words or more can leave all of
    them as they were. At the speed of memory: a CRC-32 of every byte takes three times as long.
    """
    total, places = 0, np.zeros(_PAGE // 8, np.uint64)
    part = bytearray(_CHUNK)
    pages = np.frombuffer(part, "<u8").reshape(-1, _PAGE // 8)
    with file.open("rb") as stream:
        while many := stream.readinto(part):
            part[many:] = bytes(_CHUNK - many)
            total = zlib.crc32(pages.sum(axis=1).tobytes(), total)
            places += pages.sum(axis=0)
    return zlib.crc32(places.tobytes(), total)


def _remove(place: Path) -> None:
    """Remove a graph, or whatever stands in its place; what a link leads to stays."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink()


def _size(folder: Path) -> int:
    with suppress(OSError):
        return sum(file.stat().st_size for file in folder.iterdir())
    return 0


def _used(folder: Path) -> float:
    for file in (folder / STAMP, folder):  # one that is being written has no stamp
        with suppress(OSError):
            return file.stat().st_mtime
    return 0.0
