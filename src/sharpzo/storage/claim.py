"""A run folder while it is being written: one process at a time, and what is left if it stops.

What a fit was asked for is in ``started.json`` from the beginning. ``run.json`` comes last, and
only a folder that has one is finished: any other belongs to whoever claims it next. The search that
was stopped in it then moves to ``stopped/``, from where it can still go on.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sharpzo.errors import ArtifactError
from sharpzo.storage import artifact
from sharpzo.storage.artifact import ARRAYS, LARGEST_RECORD, RECORD, as_folder, is_finished
from sharpzo.storage.files import LOCK, Hold, check_room, write_atomically
from sharpzo.storage.journal import HISTORY, SNAPSHOT, Journal, read_snapshot, write_history
from sharpzo.storage.record import Record
from sharpzo.types import Array
from sharpzo.wording import quoted

STARTED, STOPPED = "started.json", "stopped"
FORMER = "history-stopped.jsonl"  # steps that came before a first snapshot
_SEARCH = (STARTED, HISTORY, SNAPSHOT)
_OURS = {*_SEARCH, ARRAYS, STOPPED, FORMER, LOCK}


class Claim:
    """A ``folder`` that this process alone writes, and the ``journal`` in it. Sentences: ``note``
    says what was set aside, and how to go on with it; ``elsewhere``, that the run had to be written
    into another folder, and why."""

    def __init__(self, folder: Path, journal: Journal, note: str = "") -> None:
        self.folder, self.journal, self.note = folder, journal, note
        self.elsewhere = ""

    def write(self, arrays: Mapping[str, Array], record: Record) -> Path:
        """Write the run and return where it is: if our folder cannot be written, in another one;
        ArtifactError if there is none that can."""
        try:
            if not self.journal.is_whole:
                write_history(self.folder, self.journal.steps)
            artifact.write(self.folder, arrays, record)
        except OSError as error:
            why = f"{self.folder} cannot be written ({error.strerror or error})"
            other = self._write_elsewhere(arrays, record)
            if other is None:
                raise ArtifactError(f"{why}, nor any other folder; {self.way_on()}") from None
            self.elsewhere = f"{why}; the run is in {quoted(other)} instead"
            return other
        _finish(self.folder)
        return self.folder

    def _write_elsewhere(self, arrays: Mapping[str, Array], record: Record) -> Path | None:
        for place in _places(self.folder):
            with suppress(OSError):
                other = Path(tempfile.mkdtemp(prefix=f"{self.folder.name}-", dir=place))
                try:
                    write_history(other, self.journal.steps)
                    artifact.write(other, arrays, record)
                    return other
                except BaseException:
                    _remove(other)
                    raise
        return None

    def check(self) -> None:
        """Raise ArtifactError if the run is elsewhere."""
        if self.elsewhere:
            raise ArtifactError(self.elsewhere)

    @property
    def is_begun(self) -> bool:
        """Whether there are steps to go on from."""
        return bool(self.journal.count) or (self.folder / SNAPSHOT).is_file()

    def way_on(self) -> str:
        """What there is, and the command that goes on with it."""
        forwards = _forwards(self.folder)
        done = "" if forwards is None else f"{forwards:,} forwards are kept; "
        return f"{done}go on with:  sharpzo fit --resume {quoted(self.folder)}"


@contextmanager
def claim(out: str | os.PathLike[str], started: bytes = b"") -> Generator[Claim]:
    """Hold a new run folder while a run is made and written.

    ``started`` is the JSON document of what the fit was asked for; with it, a fit that is stopped
    can be gone on with. Raises ArtifactError if the folder holds a finished run or something else,
    if another process holds it, or if it cannot be written; what a stopped run left is set aside.
    After a failure before the first step the folder is as it was.
    """
    folder = as_folder(out)
    try:
        hold = _hold(folder)
        try:
            note = _set_aside(folder, started)
            check_room(folder)
            if started:
                write_atomically(folder / STARTED, started)
            journal = Journal(folder)
        except BaseException:
            _remove(folder, hold)
            raise
    except OSError as error:
        raise ArtifactError(
            f"cannot make the run folder {folder}: {error.strerror or error}"
        ) from None
    with _holding(Claim(folder, journal, note), hold, resumable=bool(started)) as claimed:
        yield claimed


@contextmanager
def take_up(run: str | os.PathLike[str]) -> Generator[Claim]:
    """Hold a run folder whose fit was stopped, to go on with it; ArtifactError if it has none."""
    folder = as_folder(run)
    read_started(folder)
    hold = Hold(folder, f"the run {folder}")
    try:
        read_started(folder)  # by now another process may have finished it
        check_room(folder)
        journal = Journal(folder)
    except BaseException:
        hold.release()
        raise
    with _holding(Claim(folder, journal), hold, resumable=True) as claimed:
        yield claimed


def read_started(folder: Path) -> bytes:
    """What the fit was asked for that was stopped in a folder; ArtifactError if none was."""
    if is_finished(folder):
        raise ArtifactError(f"the run in {folder} is finished; there is nothing to go on with")
    file = folder / STARTED
    if not file.is_file():
        raise ArtifactError(
            f"{folder} has no fit that was stopped (no {STARTED}); 'sharpzo fit' begins one"
        )
    try:
        if file.stat().st_size <= LARGEST_RECORD:
            return file.read_bytes()
        why = "it is larger than any fit's"
    except OSError as error:
        why = error.strerror
    raise ArtifactError(f"{file} cannot be read ({why}); fit again")


@contextmanager
def _holding(claimed: Claim, hold: Hold, *, resumable: bool) -> Generator[Claim]:
    """Let go at the end; clean up after a failure, and tell an interrupt how to go on."""
    folder = claimed.folder
    try:
        with closing(claimed.journal):
            yield claimed
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        if is_finished(folder):
            _finish(folder)
            said = written_to(folder)
        elif resumable and (interrupted or claimed.is_begun):
            _clear(folder)
            said = claimed.way_on()
        else:
            _remove(folder, hold)
            said = "no run was written"
        if interrupted:
            error.args = (said,)
        raise
    finally:
        hold.release()


def _hold(folder: Path) -> Hold:
    """Make the folder and hold it; ArtifactError for one that is not ours to write."""
    exists = ArtifactError(
        f"{folder} exists already and is left as it is; choose another folder for the run or "
        "remove this one"
    )
    gone = exists
    for _ in range(100):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            there = {entry.name for entry in folder.iterdir()}
            if not _is_ours(folder, there):
                raise exists
            hold = Hold(folder, f"the run folder {folder}")
        except FileNotFoundError as error:  # removed by another process, whose claim came to
            gone = error  # nothing; or a place like /proc
            continue
        except FileExistsError:
            raise exists from None
        if is_finished(folder):  # by the process that held it until now
            hold.release()
            raise exists
        return hold
    raise gone


def _is_ours(folder: Path, there: set[str]) -> bool:
    """Whether a folder has nothing but what a fit leaves that was stopped before its record."""
    ours = {name for name in there if name in _OURS or name.endswith(".tmp")}
    aside = folder / STOPPED
    return there == ours and not is_finished(aside) and not aside.is_symlink()


def _set_aside(folder: Path, started: bytes) -> str:
    """Move what a stopped run left, and return what to say if its search can go on."""
    _clear(folder)
    done = _forwards(folder)
    if done is None:  # no snapshot: it would begin anew
        if (folder / HISTORY).is_file() and (folder / HISTORY).stat().st_size:
            os.replace(folder / HISTORY, folder / FORMER)
        for name in _SEARCH:
            (folder / name).unlink(missing_ok=True)
        return ""
    settings = "the same" if (folder / STARTED).read_bytes() == started else "other"
    aside = folder / STOPPED
    aside.mkdir(exist_ok=True)
    hold = Hold(aside, f"the run {aside}")
    further = (_forwards(aside) or 0) > done
    for name in _SEARCH:
        if further:
            (folder / name).unlink(missing_ok=True)
        else:
            os.replace(folder / name, aside / name)
    hold.release()
    kept = "the one that was stopped there before is further on" if further else "it is kept"
    return (
        f"{folder} has a fit with {settings} settings that was stopped after {done:,} forwards "
        f"({kept}); go on with:  sharpzo fit --resume {quoted(aside)}"
    )


def _forwards(folder: Path) -> int | None:
    """Forwards of the search that can go on in a folder, None if none can."""
    if not (folder / STARTED).is_file() or not (folder / HISTORY).is_file():
        return None
    try:
        found = read_snapshot(folder)
        return None if found is None else int(found[1]["objective.forwards"])
    except (ArtifactError, KeyError, ValueError, TypeError):
        return None


def _places(folder: Path) -> Iterator[Path]:
    """Where a run may be written if its folder cannot be."""
    yield folder.absolute().parent
    with suppress(FileNotFoundError):  # there is no folder for temporary files
        yield Path(tempfile.gettempdir())
    with suppress(RuntimeError):  # a user without a home
        yield Path.home()


def written_to(folder: Path) -> str:
    """What an interrupt is told that comes after a run was written."""
    return f"the run was written before, and is in {folder}"


def _finish(folder: Path) -> None:
    """Remove what only a fit that goes on needs."""
    with suppress(OSError):
        for name in (STARTED, SNAPSHOT):
            (folder / name).unlink(missing_ok=True)


def _clear(folder: Path) -> None:
    """Remove what is half written."""
    for file in (*folder.glob("*.tmp"), folder / ARRAYS):
        file.unlink(missing_ok=True)


def _remove(folder: Path, hold: Hold | None = None) -> None:
    """Take away whatever of a run was written into a folder, and the folder if it is then empty."""
    with suppress(OSError):
        _clear(folder)
        for name in (RECORD, *_SEARCH):
            (folder / name).unlink(missing_ok=True)
    if hold is not None:
        hold.release()
    with suppress(OSError):
        folder.rmdir()
