"""What a search leaves on its way: a line for each validated step, and now and then its state.

``history.jsonl`` has the steps. ``search.snapshot`` has all that the next step depends on and what
the search was made of; it is replaced whole, so that there is always one to go on from.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sharpzo.errors import ArtifactError
from sharpzo.storage.files import write_atomically
from sharpzo.types import State, Step

HISTORY, SNAPSHOT = "history.jsonl", "search.snapshot"
EVERY = 1.0  # seconds between two snapshots at least
SHARE = 0.01  # of the search's time is the most for journal and snapshots
PRICE = 0.02  # seconds that a first snapshot may take
_DIGEST = 32  # bytes of SHA-256 before the snapshot's own
_log = logging.getLogger("sharpzo")


class Journal:
    """The steps and the state of the search in a run ``folder``, and what is there of an earlier
    process that was stopped: ``steps`` until its last snapshot, whose ``state`` goes on from there
    (None: from the beginning). Steps are kept in the file alone: a search may make millions.

    A folder that can no longer be written is a warning, and no reason to stop: steps are written
    once it can be. Whoever makes a journal holds the folder (`files.Hold`). Raises ArtifactError
    for a damaged line or snapshot.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stop = False  # to be set by others: the search ends after its next event
        self.searching = self.over = False
        self.state: State | None = None
        self.seconds = 0.0  # that the search had taken at the snapshot
        self.count = 0  # of steps
        self._made_of: Mapping[str, Any] = {}
        self._begun = self._last = self._spent = 0.0  # this process's search, snapshot, seconds
        self._price = PRICE
        self._warned = False
        self._unwritten: list[bytes] = []
        self.path, written = folder / HISTORY, b""
        if (found := read_snapshot(folder)) is not None:
            about, self.state = found
            self.seconds, self._made_of = about["seconds"], about["made_of"]
            written, self.count = _first_lines(self.path, about["steps"]), about["steps"]
        self._digest = hashlib.sha256(written)  # of the lines that are whole
        if found is not None and found[0].get("history_sha256") not in (
            None, self._digest.hexdigest()  # early snapshots have none
        ):  # fmt: skip
            raise ArtifactError(
                f"{self.path} is not the file that its snapshot was written with; remove the "
                "folder, and fit again"
            )
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self._file = os.open(self.path, flags, 0o666)
        self._end = len(written)
        os.ftruncate(self._file, self._end)

    @property
    def steps(self) -> list[Step]:
        """All steps so far, but for those of a file that can no longer be read."""
        written = b""
        try:
            if self._file < 0:
                written = self.path.read_bytes()[: self._end]
            else:
                os.lseek(self._file, 0, os.SEEK_SET)
                while len(written) < self._end and (
                    more := os.read(self._file, self._end - len(written))
                ):
                    written += more
        except OSError as error:
            self._warn(error)
        lines = b"".join([written, *self._unwritten]).split(b"\n")[:-1]
        return [_step(self.path, n, line) for n, line in enumerate(lines, start=1)]

    @property
    def is_whole(self) -> bool:
        """Whether every step so far is in the file."""
        return not self._unwritten

    def begin(self, made_of: Mapping[str, Any]) -> None:
        """Say what the search is made of; ArtifactError, which names it, if that is not what an
        earlier process began with."""
        made_of = json.loads(json.dumps(made_of))
        if self.state is not None and made_of != self._made_of:
            changed = [
                f"{name} {_shown(self._made_of.get(name))}, now {_shown(made_of.get(name))}"
                for name in {**self._made_of, **made_of}
                if self._made_of.get(name) != made_of.get(name)
            ]
            raise ArtifactError(
                f"the search in {self.folder} began with {'; '.join(changed)}: it can only go on "
                "as it began; put that back, or fit into another folder"
            )
        self._made_of = made_of

    def append(self, step: Step) -> None:
        """Add a validated step; it is written at once, so it survives this process."""
        now = self._now()
        self.count += 1
        self._unwritten.append(line_of(step))
        try:
            os.lseek(self._file, self._end, os.SEEK_SET)
            blob = b"".join(self._unwritten)
            if os.write(self._file, blob) < len(blob):
                raise OSError(28, "no space left on device")
        except OSError as error:
            self._warn(error)
            with suppress(OSError):
                os.ftruncate(self._file, self._end)
        else:
            self._end += len(blob)
            self._digest.update(blob)
            self._unwritten.clear()
        self._spent += time.monotonic() - now

    def after(self, state: Callable[[], State], seconds: float) -> None:
        """Called after every event of the search, ``seconds`` since its begin: takes a snapshot if
        it is time for one. Where a `stop` was asked for, KeyboardInterrupt ends the search."""
        now = self._now()
        within = self._spent + self._price <= SHARE * (now - self._begun)
        if (within and now - self._last >= EVERY) or self.stop:
            self._take(state(), seconds)
            self._last, self._price = now, time.monotonic() - now
            self._spent += self._price
        if self.stop:
            raise KeyboardInterrupt

    def _now(self) -> float:
        now = time.monotonic()
        if not self._begun:
            self._begun = self._last = now
        return now

    def end(self) -> None:
        """The search is over; another one of the same fit begins anew when the fit is resumed."""
        self.searching, self.over = False, True

    def close(self) -> None:
        """Write no more."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _take(self, state: State, seconds: float) -> None:
        about = {
            "steps": self.count, "seconds": seconds, "made_of": self._made_of,
            "history_sha256": self._digest.hexdigest(),
        }  # fmt: skip
        try:
            if self._unwritten:
                raise OSError(28, "the journal is behind")
            os.fsync(self._file)  # before the snapshot that counts its lines
            write_atomically(self.folder / SNAPSHOT, _packed(about, state))
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                f"{self.folder} cannot be written ({error.strerror}); the search goes on, and the "
                "last snapshot stays"
            )


def line_of(step: Step) -> bytes:
    """A step as a line of the journal."""
    record = {name: value for name, value in asdict(step).items() if value not in (None, {})}
    return json.dumps(record).encode() + b"\n"


def write_history(folder: Path, steps: Iterable[Step]) -> None:
    """Write the journal of a search that is over."""
    write_atomically(folder / HISTORY, b"".join(map(line_of, steps)))


def read_journal(path: Path) -> list[Step]:
    """Steps of a journal; a last line torn by a crash is dropped, any other damage is an error."""
    return [_step(path, n, line) for n, line in enumerate(_lines(path)[:-1], start=1)]


def _first_lines(path: Path, many: int) -> bytes:
    """The first lines of a journal, each of them a step."""
    lines = _lines(path)[:-1][:many]
    if len(lines) < many:
        raise ArtifactError(
            f"{path} has {len(lines):,} whole lines, and its snapshot is of {many:,}; remove "
            "the folder, and fit again"
        )
    for n, line in enumerate(lines, start=1):
        _step(path, n, line)
    return b"".join(line + b"\n" for line in lines)


def _lines(path: Path) -> list[bytes]:
    try:
        if not path.is_file():
            raise OSError("no regular file")
        return path.read_bytes().split(b"\n")
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error}); remove it") from None


def _step(path: Path, number: int, line: bytes) -> Step:
    try:
        return msgspec.convert(json.loads(line.decode()), Step)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"line {number} of {path} is damaged: {error}") from None


def read_snapshot(folder: Path) -> tuple[dict[str, Any], State] | None:
    """What a search was made of and its state, None where no snapshot was taken; ArtifactError for
    a damaged one."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / SNAPSHOT
    if not path.is_file():
        return None
    try:
        blob = path.read_bytes()
        whole = hashlib.sha256(blob[_DIGEST:]).digest() == blob[:_DIGEST]
        if not whole:
            raise ValueError("its content does not fit its hash")
        arrays = load(blob[_DIGEST:])
        about, plain = json.loads(arrays.pop("").tobytes())
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ArtifactError(
            f"{path} cannot be read ({error}); remove it, and the search begins anew"
        ) from None
    return about, {**plain, **arrays}


def _packed(about: Mapping[str, Any], state: State) -> bytes:
    """Arrays (contiguous) in a safetensors file, the rest as text in the array without a name."""
    from safetensors.numpy import save

    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in state.items() if name not in arrays}
    text = np.frombuffer(json.dumps([about, plain]).encode(), np.uint8)
    blob = save({**arrays, "": text})
    return hashlib.sha256(blob).digest() + blob


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:50]}…"
