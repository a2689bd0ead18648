"""What a run leaves behind for prediction: kilobytes, readable by anyone, able to run no code.

A run folder holds ``arrays.safetensors``, ``run.json`` (everything a person or a later version
needs to know) and ``history.jsonl`` (the journal). ``run.json`` is written last and by an atomic
rename, so a folder that has one is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpzo.errors import ArtifactError
from sharpzo.types import Array
from sharpzo.wording import utf8

FORMAT = 2
ARRAYS, RECORD, HISTORY = "arrays.safetensors", "run.json", "history.jsonl"
FORMER_ARRAYS = "prompt.safetensors"  # in format 1
LARGEST_RECORD = 64 << 20  # bytes: a class list of ImageNet takes about 100 kB


@dataclass(frozen=True, eq=False)
class Artifact:
    """Arrays by name, their size in ``bytes``, and the record that explains them."""

    arrays: dict[str, Array]
    record: dict[str, Any]
    bytes: int


def claim(out: str | Path) -> Path:
    """Make the run folder; raises ArtifactError if anything is there already."""
    folder = Path(out)
    if folder.is_dir() and not any(folder.iterdir()):
        return folder
    if folder.exists() or folder.is_symlink():
        raise ArtifactError(
            f"{folder} exists already and is left as it is; choose another folder for the run "
            "or remove this one"
        )
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ArtifactError(f"cannot make the run folder {folder}: {error.strerror}") from None
    return folder


def release(folder: Path) -> None:
    """Give a claimed folder back after a failure, unless steps were journalled in it already."""
    history = folder / HISTORY
    if not history.exists() or history.stat().st_size == 0:
        history.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def write(folder: Path, arrays: dict[str, Array], record: dict[str, Any]) -> None:
    """Write arrays, then the record that carries their hash."""
    import numpy as np
    from safetensors.numpy import save

    # safetensors writes memory as it lies: a view of another array would come back scrambled.
    blob = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    write_atomically(folder / ARRAYS, blob)
    record = {"format": FORMAT, **record, "arrays_sha256": hashlib.sha256(blob).hexdigest()}
    text = json.dumps(record, indent=1, ensure_ascii=False)
    write_atomically(folder / RECORD, utf8(text))


def read(run: str | Path) -> Artifact:
    """Read a run folder; raises ArtifactError with one sentence for whatever is wrong with it."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    folder = Path(run)
    if not folder.is_dir():
        raise ArtifactError(f"there is no run folder {folder}; 'sharpzo fit' makes one")
    if not (folder / RECORD).is_file():
        unfinished = (folder / HISTORY).exists()
        why = "its fit did not finish; fit again into another folder" if unfinished else (
            "'sharpzo fit' makes run folders"
        )  # fmt: skip
        raise ArtifactError(f"{folder} is not a finished run (it has no {RECORD}): {why}")
    if (folder / RECORD).stat().st_size > LARGEST_RECORD:
        raise ArtifactError(f"{folder / RECORD} is larger than any run's record; it is refused")
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        version = record["format"]
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(f"{folder / RECORD} is not a run's record; fit the run again") from None
    if version not in (1, FORMAT):
        raise ArtifactError(
            f"{folder} has format {version!r}, this sharpzo reads formats 1 and {FORMAT}; "
            "update sharpzo"
        )
    arrays = folder / (ARRAYS if version == FORMAT else FORMER_ARRAYS)
    try:
        blob = arrays.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {arrays}: {error.strerror}") from None
    if hashlib.sha256(blob).hexdigest() != record.get("arrays_sha256"):
        raise ArtifactError(
            f"{arrays} is not the file that {RECORD} was written with; fit the run again"
        )
    try:
        return Artifact(load(blob), record, len(blob))
    except SafetensorError as error:
        raise ArtifactError(f"{arrays} is damaged: {error}") from None


def write_atomically(path: Path, blob: bytes) -> None:
    """Write a file whole or not at all, through crashes and beside other processes."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(blob)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    if os.name == "posix":  # the rename itself must survive a power cut, too
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
