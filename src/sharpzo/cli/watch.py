"""``sharpzo watch``: a run on photos as they arrive."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from sharpzo.cli import options
from sharpzo.process import stop_signals

if TYPE_CHECKING:
    from sharpzo.data.arrivals import Arrival, Arrivals
    from sharpzo.fitting.trained import Trained
    from sharpzo.storage.answered import Answered

_NO_NAME = re.compile(r'[\\/:*?"<>|\x00-\x1f\x7f]')  # what some system refuses in a name


def watch(
    run: options.Run,
    folder: Annotated[Path, Argument(help="Folder that photos arrive in.", metavar="FOLDER")],
    to: Annotated[
        Path | None,
        Option(
            "--to",
            help="CSV file that gets a row per photo; photos that have one are not read again.",
            show_default="answers.csv in FOLDER",
            metavar="FILE",
        ),
    ] = None,
    sort_into: Annotated[
        Path | None,
        Option(
            "--sort-into",
            help="Move each photo into the folder of its class there, or into 'none'.",
            show_default="photos stay where they are",
            metavar="DEST",
        ),
    ] = None,
    every: Annotated[float, Option(help="Seconds between two looks.", min=0.01, max=86_400)] = 2.0,
    once: Annotated[
        bool, Option("--once", help="Classify what is there, and end; for cron or a timer.")
    ] = False,
    lost: options.Lost = None,
    model: options.Model = None,
    memory_limit: options.MemoryLimit = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    plugin: options.Plugin = [],  # noqa: B006
) -> None:
    """Classify photos as they arrive in FOLDER and below, until Ctrl-C or SIGTERM.

    A photo is read once it has not changed between two looks, and again if its content changes.
    """
    from sharpzo.data.arrivals import Arrivals
    from sharpzo.fitting.trained import load
    from sharpzo.storage.answered import hold_answers

    kept = options.feature_cache(cache, no_cache)
    trained = load(run, model=model, cache=kept, memory_limit=memory_limit)
    wanted = options.share(lost, trained)
    arrivals, to = Arrivals(folder), to or folder / "answers.csv"
    _check(to, every)
    if sort_into is not None:
        _make(sort_into, folder, trained.class_names)
    with hold_answers(to) as answered, _until_stopped() as stop:
        if not once:
            print(f"watching {folder}, answers go to {to}; Ctrl-C ends it", file=sys.stderr)
        many = 0
        while not stop.is_set():
            there = arrivals.look(settled=not once)
            many += _answer(trained, arrivals, there, answered, wanted, sort_into, stop)
            if once:
                break
            stop.wait(every)
    print(f"{many:,} photos answered; all answers are in {to}", file=sys.stderr)


def _answer(
    trained: Trained,
    arrivals: Arrivals,
    there: list[Arrival],
    answered: Answered,
    lost: float,
    sort_into: Path | None,
    stop: threading.Event,
) -> int:
    """Answer what is new, and return how many photos that were; move them, and those that an
    earlier process has answered but not moved."""
    from sharpzo.cli.apply import say
    from sharpzo.data.dataset import strange
    from sharpzo.fitting.documents import documents_of

    new: list[Arrival] = []
    for one in there:
        label = answered.label(one.path, one.size, one.modified)
        if label is None:
            new.append(one)
        elif sort_into and label:
            _move(arrivals, one, sort_into, label)
    if not new:
        return 0
    # Each part is on the disk before the next one is begun.
    left, many = iter(new), 0
    for part in trained.ask(strange(map(arrivals.photo, new))):
        rows: list[dict[str, Any]] = []
        moves: list[tuple[Arrival, str]] = []
        for document, one in zip(documents_of(trained, part, lost, 1), left, strict=False):
            if "error" in document and not (arrivals.folder / one.path).exists():
                continue  # it was taken away meanwhile
            say(document, False)
            label = "none" if document.get("none") else document.get("label", "")
            moves.append((one, label))
            rows.append({
                **document, "path": one.path, "label": label,
                "bytes": one.size, "modified": one.modified,
                "answered": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            })  # fmt: skip
        sys.stdout.flush()
        answered.append(rows)
        many += len(rows)
        for one, label in moves:
            if sort_into and label:
                _move(arrivals, one, sort_into, label)
        if stop.is_set():
            break
    return many


def _check(to: Path, every: float) -> None:
    """InputError for answers that would arrive as a photo, and for a time that is none."""
    from sharpzo.data.decoding import SUFFIXES
    from sharpzo.errors import InputError

    if to.suffix.lower() in SUFFIXES:
        raise InputError(f"{to} has the name of a photo; give a CSV file for --to")
    if not every > 0:  # non-finite: it passes every bound
        raise InputError(f"--every is {every}; give seconds")


def _make(sort_into: Path, folder: Path, class_names: Iterable[str]) -> None:
    """Make the folder that photos are moved into; InputError if they would arrive again, or if it
    or that of a class is none for photos."""
    from sharpzo.data.dataset import NONE
    from sharpzo.data.entries import is_own
    from sharpzo.errors import InputError

    watched = os.path.realpath(folder)
    for place in (sort_into, *(_place(sort_into, name) for name in (*class_names, NONE))):
        if Path(os.path.realpath(place)).is_relative_to(watched):  # links, too
            raise InputError(
                f"{place} is in {folder}, where photos would arrive again once they are sorted; "
                "give a folder elsewhere"
            )
        if os.path.lexists(place) and not place.is_dir():
            raise InputError(f"{place} is no folder; give one to sort photos into")
    if sort_into.is_dir() and is_own(sort_into):
        raise InputError(f"{sort_into} is a folder that sharpzo wrote; give another one")
    sort_into.mkdir(parents=True, exist_ok=True)


def _place(sort_into: Path, label: str) -> Path:
    return sort_into / (_NO_NAME.sub("_", label).strip(". ") or "_")


def _move(arrivals: Arrivals, one: Arrival, sort_into: Path, label: str) -> None:
    """Move a photo into the folder of a class, unless it is another one by now; one of the same
    name there is kept."""
    if not arrivals.is_there(one):
        return
    photo, place = arrivals.folder / one.path, _place(sort_into, label)
    place.mkdir(parents=True, exist_ok=True)
    try:
        if photo.is_symlink():  # a relative one would point elsewhere from there
            _copy(photo, place)
        else:
            _give_name(photo, place, photo.name)
    except FileNotFoundError:  # it was taken away meanwhile
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with suppress(FileNotFoundError):
            _copy(photo, place)


def _copy(photo: Path, place: Path) -> None:
    """Move a file by a copy of it, or of the link that it is. Half a photo never has its name,
    whatever ends the process."""
    part = place / f".{secrets.token_hex(8)}.part"
    try:
        if photo.is_symlink():
            part.symlink_to(os.path.realpath(photo))
        else:
            shutil.copy2(photo, part)
        _give_name(part, place, photo.name)
    finally:
        part.unlink(missing_ok=True)
    photo.unlink()


def _give_name(file: Path, place: Path, name: str) -> None:
    """Move a file into a folder of its disk, under this name or one with a number."""
    stem, suffix = os.path.splitext(name)
    for number in count(1):
        mark = f"-{number}" if number > 1 else ""
        # A file system that takes the name takes one that is no longer.
        short = stem[: -len(mark)] if len(stem) > 40 and mark else stem
        target = place / f"{short}{mark}{suffix}"
        try:
            target.touch(exist_ok=False)  # it takes the place of no other
        except FileExistsError:
            continue
        try:
            os.replace(file, target)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return


@contextmanager
def _until_stopped() -> Generator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second one ends the process at once."""
    stop = threading.Event()

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt("what was answered is kept")
        stop.set()

    with stop_signals(ask):
        yield stop
