"""The files of a run folder: JSON and safetensors, which cannot run code.

A run folder holds ``arrays.safetensors``, ``run.json`` (everything a person or a later version
needs to know) and ``history.jsonl`` (the journal). ``run.json`` is written last and by an atomic
rename, so a folder that has one is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sharpzo.errors import ArtifactError
from sharpzo.storage.files import write_atomically
from sharpzo.storage.journal import HISTORY
from sharpzo.storage.record import Record, as_record
from sharpzo.types import Array
from sharpzo.wording import quoted, utf8

FORMAT = 2
ARRAYS, RECORD = "arrays.safetensors", "run.json"
NEXT = "arrays-next.safetensors"  # of a run that is being written again
FORMER_ARRAYS = "prompt.safetensors"  # in format 1
LARGEST_ARRAYS = 1 << 30  # bytes: a cache of ImageNet's 16 photos per class takes 25 MB
LARGEST_RECORD = 64 << 20  # bytes: a class list of ImageNet takes about 100 kB


@dataclass(frozen=True, eq=False)
class Artifact:
    """Arrays by name, their size in ``bytes``, and the record that explains them."""

    arrays: dict[str, Array]
    record: Record
    bytes: int


def as_folder(run: Any) -> Path:
    """The path that was given; ArtifactError for what can be none."""
    if isinstance(run, str | os.PathLike):
        path = os.fspath(cast("os.PathLike[str]", run))
        if "\0" not in path:
            return Path(path)
    raise ArtifactError(f"the run folder is {run!r}; give a path")


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a run that can be read."""
    return (folder / RECORD).is_file()


def write(folder: Path, arrays: Mapping[str, Array], record: Record) -> None:
    """Write arrays, then the record that carries their hash."""
    _write(folder, ARRAYS, arrays, record)


def rewrite(folder: Path, arrays: Mapping[str, Array], record: Record) -> None:
    """Write a finished run again; at any time it can be read, as it was or as it will be."""
    settle(folder)
    _write(folder, NEXT, arrays, record)
    os.replace(folder / NEXT, folder / ARRAYS)


def settle(folder: Path) -> None:
    """Finish what a stopped `rewrite` left: its arrays take their place if the record is theirs,
    and go if it is not. For the process that holds the folder."""
    left = folder / NEXT
    if not left.is_file():
        return
    try:
        wanted = json.loads((folder / RECORD).read_bytes())["arrays_sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # not a run: `read` says so
    with left.open("rb") as stream:
        found = hashlib.sha256()
        while block := stream.read(1 << 20):
            found.update(block)
    if found.hexdigest() == wanted:
        os.replace(left, folder / ARRAYS)
    else:
        left.unlink()


def _write(folder: Path, name: str, arrays: Mapping[str, Array], record: Record) -> None:
    import numpy as np
    from safetensors.numpy import save

    # safetensors writes memory as it lies: a view of another array would come back scrambled.
    blob = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    write_atomically(folder / name, blob)
    whole = {"format": FORMAT, **record, "arrays_sha256": hashlib.sha256(blob).hexdigest()}
    whole.pop("history_sha256", None)  # of another folder
    if (history := _digest_history(folder)) is not None:
        whole["history_sha256"] = history
    text = json.dumps(whole | {"record_sha256": digest_values(whole)}, indent=1, ensure_ascii=False)
    write_atomically(folder / RECORD, utf8(text))


def _digest_history(folder: Path) -> str | None:
    """sha256 of the steps, in whichever line ends a version control gave them; None without any
    file of them."""
    file = folder / HISTORY
    if not file.is_file():
        return None
    total = hashlib.sha256()
    with file.open("rb") as stream:
        while line := stream.readline(LARGEST_RECORD):
            total.update(line[:-2] + b"\n" if line.endswith(b"\r\n") else line)
    return total.hexdigest()


def digest_values(record: Mapping[str, Any]) -> str:
    """sha256 of the values of a record but for the one that keeps this, however its file lays them
    out."""
    values = {name: value for name, value in record.items() if name != "record_sha256"}
    # Keys that were numbers are sorted as the texts that they become.
    read = json.loads(json.dumps(values))
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()


def read(run: str | Path) -> Artifact:
    """Read a run folder; raises ArtifactError with one sentence for whatever is wrong with it."""
    folder = as_folder(run)
    for _ in range(100):
        before = _state(folder)
        try:
            return _read(folder)
        except ArtifactError:
            if _state(folder) == before:  # else another process wrote it meanwhile
                raise
    return _read(folder)


def _state(folder: Path) -> list[tuple[int, int, int] | None]:
    """What changes when a file of a run is replaced."""
    found: list[tuple[int, int, int] | None] = []
    for name in (RECORD, ARRAYS, NEXT):
        try:
            of = os.stat(folder / name)
            found.append((of.st_ino, of.st_mtime_ns, of.st_size))
        except OSError:
            found.append(None)
    return found


def _read(folder: Path) -> Artifact:
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not os.path.isdir(folder):  # a name that is too long is none; pathlib raises
        raise ArtifactError(f"there is no run folder {folder}; 'sharpzo fit' makes one")
    if not is_finished(folder):
        unfinished = (folder / HISTORY).exists()
        why = "'sharpzo fit' makes run folders"
        if unfinished:
            why = f"its fit did not finish; go on with:  sharpzo fit --resume {quoted(folder)}"
        raise ArtifactError(f"{folder} is not a finished run (it has no {RECORD}): {why}")
    if (folder / RECORD).stat().st_size > LARGEST_RECORD:
        raise ArtifactError(f"{folder / RECORD} is larger than any run's record; it is refused")
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        version = found["format"]
    except OSError as error:
        raise ArtifactError(f"cannot read {folder / RECORD}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ArtifactError(f"{folder / RECORD} is not a run's record; fit the run again") from None
    if isinstance(version, bool) or version not in (1, FORMAT):
        raise ArtifactError(
            f"{folder} has format {version!r}, this sharpzo reads formats 1 and {FORMAT}; "
            "update sharpzo"
        )
    try:
        record = as_record(found)
    except ArtifactError as error:
        raise ArtifactError(f"{folder / RECORD} {error}") from None
    digest = digest_values(found)
    if record.get("record_sha256", digest) != digest:  # early runs have none
        raise ArtifactError(
            f"{folder / RECORD} was changed after it was written, or is damaged; fit the run again"
        )
    arrays = folder / (ARRAYS if version == FORMAT else FORMER_ARRAYS)
    try:
        odd = arrays.exists() and not arrays.is_file()  # a pipe would never end
        if odd or arrays.stat().st_size > LARGEST_ARRAYS:
            raise ArtifactError(f"{arrays} is not a file, or larger than any run's; it is refused")
        blob = arrays.read_bytes()
        expected, other = record.get("arrays_sha256"), folder / NEXT
        if hashlib.sha256(blob).hexdigest() != expected and other.is_file():  # stopped in between
            blob = other.read_bytes() if other.stat().st_size <= LARGEST_ARRAYS else b""
    except OSError as error:
        raise ArtifactError(f"cannot read {arrays}: {error.strerror}") from None
    if hashlib.sha256(blob).hexdigest() != expected:
        raise ArtifactError(
            f"{arrays} is not the file that {RECORD} was written with; fit the run again"
        )
    try:
        loaded = load(blob)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:  # or an unknown type
        raise ArtifactError(f"{arrays} is damaged: {error}") from None
    try:
        history = _digest_history(folder)  # the file may be left out, and early runs say none
    except OSError as error:
        raise ArtifactError(f"cannot read {folder / HISTORY}: {error.strerror}") from None
    if history is not None and record.get("history_sha256", history) != history:
        raise ArtifactError(
            f"{folder / HISTORY} is not the file that {RECORD} was written with; remove it, and "
            "the run is read without its steps"
        )
    for name, array in loaded.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ArtifactError(
                f"{arrays} has something in '{name}' that is not finite; fit the run again"
            )
    return Artifact(loaded, record, len(blob))
