"""The cache of encoded photos: one file that several processes can use at a time.

One row per photo and way of encoding it, in SQLite: its locks keep processes apart and its journal
survives a crash. A failure of the store never stops a run: it is a warning, once, and photos are
encoded again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from sharpzo.memory import parse_size
from sharpzo.types import Array

FILE = "features-1.sqlite"  # a number for each form of the table
LIMIT = "1GB"
VARIABLE = "SHARPZO_CACHE_SIZE"  # of the environment: another limit

_TABLE = """
CREATE TABLE IF NOT EXISTS states (
    photo BLOB, way BLOB, used INTEGER, crc32 INTEGER, state BLOB, PRIMARY KEY (photo, way)
)"""
_HASHES = hashlib.sha256(b"hashes of files").digest()  # the way of rows that are of no photo
_NUMBERS = 8  # float32 numbers of a sha256
_BESIDE = 150  # bytes of a row beside its state, the index included
_FULL = 0.9  # of the limit stays when the oldest rows go, so that they do not go at every write
_HOUR = 3600  # seconds: a read within it is no news
_PATIENCE = 20  # seconds that another process may take for a write
_log = logging.getLogger("sharpzo")
_warned: set[Path] = set()
T = TypeVar("T")


@dataclass(frozen=True)
class Usage:
    """What a store holds: ``photos`` (each once, however often encoded), bytes, and the limit."""

    photos: int
    bytes: int
    limit: int


class FeatureStore:
    """Rows by photo and way in ``folder``, which is made when it is needed.

    ``limit`` is a number of bytes (None: that of the environment, or 1 GB); beyond it the rows go
    that were not used for longest. Raises `InputError` for a limit that is no size.
    """

    def __init__(self, folder: str | os.PathLike[str], limit: int | None = None) -> None:
        self.folder = Path(folder)
        self.limit = limit or parse_size(os.environ.get(VARIABLE) or LIMIT)

    @property
    def file(self) -> Path:
        """The one file that all is in."""
        return self.folder / FILE

    def read(self, way: str, photos: Iterable[str], width: int) -> dict[str, Array]:
        """Return the states, float32 (width,), that there are; photos and ways are hex digests."""
        return self._reading(lambda store: _select(store, way, photos, width), {})

    def known(self, photos: Iterable[str]) -> set[str]:
        """Return those of the photos that have been encoded in any way: they can be decoded."""
        query = "SELECT 1 FROM states WHERE photo = ? LIMIT 1"

        def ask(store: sqlite3.Connection) -> set[str]:
            return {one for one in photos if store.execute(query, (bytes.fromhex(one),)).fetchone()}

        return self._reading(ask, set())

    def write(self, way: str, states: Mapping[str, Array]) -> None:
        """Store states of photos, and evict those that were unused for longest."""
        if not states:
            return
        blobs = {bytes.fromhex(one): np.float32(row).tobytes() for one, row in states.items()}
        with self._tolerant("no features are kept"):
            self._insert(bytes.fromhex(way), blobs)

    def recall(self, made_of: str) -> str | None:
        """Return the hex digest that was kept of this; None if there is none."""
        made = hashlib.sha256(made_of.encode()).hexdigest()
        found = self.read(_HASHES.hex(), [made], _NUMBERS)
        return found[made].tobytes().hex() if found else None

    def remember(self, made_of: str, digest: str) -> None:
        """Keep the hex digest (sha256) of what took long to hash, where that is possible."""
        made = hashlib.sha256(made_of.encode()).digest()
        with suppress(sqlite3.Error, OSError):  # it is computed again
            self._insert(_HASHES, {made: bytes.fromhex(digest)})

    def _insert(self, way: bytes, blobs: Mapping[bytes, bytes]) -> None:
        now = int(time.time())
        rows = [(one, way, now, _crc32(one, way, blob), blob) for one, blob in blobs.items()]
        self.folder.mkdir(parents=True, exist_ok=True)
        with closing(self._connect("rwc")) as store, store:
            store.execute(_TABLE)
            store.executemany("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?, ?)", rows)
            _evict(store, self.limit)

    def usage(self) -> Usage:
        """Return what there is, and the limit."""
        count = "SELECT count(DISTINCT photo) FROM states WHERE way != ?"

        def ask(store: sqlite3.Connection) -> int:
            return int(store.execute(count, (_HASHES,)).fetchone()[0])

        photos = self._reading(ask, 0)
        size = self.file.stat().st_size if os.path.isfile(self.file) else 0
        return Usage(photos, size, self.limit)

    def clear(self) -> None:
        """Remove all that is kept; OSError where that is not allowed."""
        for end in ("", "-journal"):
            self.file.with_name(FILE + end).unlink(missing_ok=True)

    def _reading(self, ask: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        if not os.path.isfile(self.file):
            return nothing
        with self._tolerant("photos are encoded again"), closing(self._connect("rw")) as store:
            if store.execute("SELECT 1 FROM sqlite_master WHERE name = 'states'").fetchone():
                return ask(store)
        return nothing

    def _connect(self, mode: str) -> sqlite3.Connection:
        store = sqlite3.connect(f"{self.file.absolute().as_uri()}?mode={mode}", _PATIENCE, uri=True)
        store.execute("PRAGMA page_size = 16384")  # states of 1.5 to 4 kB, several on a page
        store.execute("PRAGMA synchronous = NORMAL")
        return store

    @contextmanager
    def _tolerant(self, then: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            self._warn(str(error), then)
        # Not a database, or no longer one; damage is also told in bytes that are no text.
        except (sqlite3.DatabaseError, UnicodeError, MemoryError) as error:
            self._warn(f"{error}: it is made anew", then)
            self.clear()
        except OSError as error:
            self._warn(error.strerror or str(error), then)

    def _warn(self, why: str, then: str) -> None:
        if self.folder not in _warned:
            _warned.add(self.folder)
            _log.warning(f"the cache {self.folder} cannot be used ({why}); {then}")


def _crc32(photo: bytes, way: bytes, state: bytes) -> int:
    """Of a row and what it is found by: a damaged index may lead to another photo's."""
    return zlib.crc32(photo + way + state)


def _select(
    store: sqlite3.Connection, way: str, photos: Iterable[str], width: int
) -> dict[str, Array]:
    now, key = int(time.time()), bytes.fromhex(way)
    query = "SELECT used, crc32, state FROM states WHERE photo = ? AND way = ?"
    found: dict[str, Array] = {}
    stale: list[tuple[int, bytes, bytes]] = []
    for photo in photos:
        digest = bytes.fromhex(photo)
        used, crc32, state = store.execute(query, (digest, key)).fetchone() or (now, 0, b"")
        if not isinstance(state, bytes) or not isinstance(used, int):
            continue  # damaged: SQLite does not hold a column to its type
        # The CRC of early rows is that of the state alone.
        if len(state) == 4 * width and crc32 in (_crc32(digest, key, state), zlib.crc32(state)):
            found[photo] = np.frombuffer(state, np.float32)
            stale += [(now, digest, key)] if used < now - _HOUR else []
    if stale:  # the update may be refused: by a folder that may only be read, or a busy one
        with suppress(sqlite3.OperationalError), store:
            store.executemany("UPDATE states SET used = ? WHERE photo = ? AND way = ?", stale)
    return found


def _evict(store: sqlite3.Connection, limit: int) -> None:
    """Delete the rows that were not used for longest, until there is room."""
    pages, free, size = (
        store.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    surplus = (pages - free) * size - limit
    if surplus > 0:
        # Rows before which less than the surplus has gone.
        store.execute(
            "DELETE FROM states WHERE rowid IN (SELECT rowid FROM (SELECT rowid, "
            "sum(length(state) + ?1) OVER (ORDER BY used, rowid) - length(state) - ?1 AS gone "
            "FROM states) WHERE gone < ?2)",
            (_BESIDE, surplus + (1 - _FULL) * limit),
        )
