"""Tensors of a checkpoint, read by memory map from safetensors files.

Such a file is 8 bytes of little-endian header length, a JSON header of name -> dtype, shape and
byte range, then the bytes. Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sharpzo.errors import CheckpointError
from sharpzo.towers.config import convert, read_json
from sharpzo.types import Array

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_SLICE = 1 << 20


@dataclass(frozen=True, eq=False)
class Entry:
    """Where a tensor lies; ``shape`` is that of what is read, after a matrix was turned."""

    file: Path
    map: mmap.mmap
    raw: Array  # bytes of the map, uint8
    dtype: str
    shape: tuple[int, ...]
    name: str  # in the file
    turned: bool = False  # the file holds the transposed matrix


@dataclass(frozen=True)
class Source:
    """Where a tensor comes from in a file that names or cuts its tensors otherwise.

    ``name`` and ``shape`` are the file's; ``rows`` is a stretch of its first axis; ``turned``: the
    file holds the transposed matrix; ``view``: another shape of the same numbers.
    """

    name: str
    shape: tuple[int, ...]
    rows: tuple[int, int] | None = None
    turned: bool = False
    view: tuple[int, ...] | None = None


class Weights(Mapping[str, Array]):
    """Name -> float32 array; float32 tensors are views of the memory map, others are converted.

    Nothing is read before it is asked for. Raises `CheckpointError` naming file and tensor.
    """

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries

    @classmethod
    def open(cls, folder: Path) -> Weights:
        """Open `model.safetensors`, or the shards that `model.safetensors.index.json` names."""
        return cls.read(files(folder))

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Weights:
        """Open safetensors files."""
        return cls({name: e for file in paths for name, e in _read_header(file).items()})

    def renamed(self, sources: Mapping[str, Source], config: str) -> Weights:
        """Return the same tensors under other names, checked; those without a source are left out.

        Raises `CheckpointError` with the file's own name for a tensor that is missing or of another
        shape than the file ``config`` asks for.
        """
        found: dict[str, Entry] = {}
        for name, source in sources.items():
            entry = self._entries.get(source.name)
            if entry is None:
                raise CheckpointError(
                    f"{self._where} holds no tensor {source.name!r} (expected shape "
                    f"{source.shape}); {config} and weights do not belong together, or the "
                    "download is incomplete"
                )
            if entry.shape != source.shape:
                raise CheckpointError(
                    f"{entry.file}: tensor {source.name!r} has shape {entry.shape}, {config} asks "
                    f"for {source.shape}"
                )
            found[name] = _cut(entry, source)
        return Weights(found)

    @property
    def _where(self) -> str:
        """The file that most tensors are in, for messages."""
        return str(next(iter(self._entries.values())).file) if self._entries else "the checkpoint"

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries  # a mapping's own would read the tensor

    def __getitem__(self, name: str) -> Array:
        entry = self._entries[name]
        flat = _decode(entry.raw, entry.dtype)
        return flat.reshape(entry.shape[::-1]).T if entry.turned else flat.reshape(entry.shape)

    def rows(self, name: str, indices: Array) -> Array:
        """Return some rows of a matrix as float32, touching only their bytes on disk."""
        entry = self._entries[name]
        if entry.turned:
            return self[name][indices]
        raw = entry.raw.reshape(entry.shape[0], len(entry.raw) // max(1, entry.shape[0]))
        picked = np.ascontiguousarray(raw[np.asarray(indices, dtype=np.int64)])
        return _decode(picked.reshape(-1), entry.dtype).reshape(-1, *entry.shape[1:])

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""
        return self._entries[name].shape

    def slices(self, name: str) -> Iterator[Array]:
        """Yield the bytes of a tensor as they are on disk, uint8, a slice in memory at a time."""
        raw = self._entries[name].raw
        for begin in range(0, len(raw), _SLICE):
            yield raw[begin : begin + _SLICE]
            self.release()

    @property
    def converted(self) -> bool:
        """Whether any tensor is converted when it is read, into memory of its own."""
        return any(entry.dtype != "F32" for entry in self._entries.values())

    def release(self) -> None:
        """Let the pages of all tensors leave memory; touched again, they are read again.

        Arrays handed out before stay valid. Does nothing where the system cannot. All of them,
        because the system also maps pages around those that are asked for.
        """
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            for mapped in {entry.map for entry in self._entries.values()}:
                mapped.madvise(mmap.MADV_DONTNEED)

    def file(self, name: str) -> Path:
        """Return the file that holds a tensor."""
        return self._entries[name].file

    def called(self, name: str) -> str:
        """Return what its file calls a tensor."""
        return self._entries[name].name


def files(folder: Path) -> list[Path]:
    """Return the weight files of a checkpoint folder, in order."""
    single, index = folder / SINGLE, folder / INDEX
    if single.is_file():
        return [single]
    if not index.is_file():
        raise CheckpointError(
            f"{folder} holds neither model.safetensors nor model.safetensors.index.json; "
            "weights in other formats are not read, convert them with transformers"
        )
    shards = convert(read_json(index).get("weight_map"), dict[str, str], f"{index}: weight_map")
    names = sorted(set(shards.values()))
    for name in names:
        if Path(name).name != name or not os.path.isfile(folder / name):
            raise CheckpointError(f"{index} names {name!r}, which is not a file in that folder")
    return [folder / name for name in names]


def _read_header(file: Path) -> dict[str, Entry]:
    """Where the tensors lie, once the safetensors library has found the header valid: ranges that
    neither overlap nor leave gaps, of the sizes that the shapes need, up to the end of the file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} is not a safetensors file, is cut short or damaged ({error}); download it "
            "again (a Git LFS pointer is not the file itself)"
        ) from error
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = msgspec.json.decode(stream.read(length), type=dict[str, Any])
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    header.pop("__metadata__", None)
    data = np.frombuffer(mapped, np.uint8)[8 + length :]
    return {
        name: Entry(
            file, mapped, data[slice(*entry["data_offsets"])], entry["dtype"],
            tuple(entry["shape"]), name,
        )
        for name, entry in header.items()
    }  # fmt: skip


def _cut(entry: Entry, source: Source) -> Entry:
    """Return where the part of a tensor lies that a source names."""
    raw, shape = entry.raw, entry.shape
    if source.rows is not None:
        first, end = source.rows
        row = len(raw) // shape[0]
        raw, shape = raw[first * row : end * row], (end - first, *shape[1:])
    if source.turned:
        shape = shape[::-1]
    return replace(entry, raw=raw, shape=source.view or shape, turned=source.turned)


def _decode(raw: Array, dtype: str) -> Array:
    if dtype == "F32":
        return raw.view("<f4")
    if dtype == "F16":
        return raw.view("<f2").astype(np.float32)
    if dtype == "BF16":  # the upper half of a float32
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    raise CheckpointError(f"weights of type {dtype} are not read; use F32, F16 or BF16")
