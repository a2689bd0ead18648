"""Tensors of a checkpoint folder, read by memory map from safetensors files.

The format: 8 bytes little-endian header length, a JSON header of name -> dtype, shape and byte
range, then the bytes. Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from sharpzo.errors import CheckpointError
from sharpzo.settings import CountOrZero
from sharpzo.towers.config import convert, read_json
from sharpzo.types import Array

_WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}
_SLICE = 1 << 20
_HEADER_LIMIT = 100_000_000  # as in safetensors itself: a longer header is damage, not a model


class _Tensor(msgspec.Struct):
    """The entry of a tensor in a header; bytes are counted from the end of the header."""

    dtype: str
    shape: tuple[CountOrZero, ...]
    data_offsets: tuple[CountOrZero, CountOrZero]


@dataclass(frozen=True, eq=False)
class _Entry:
    file: Path
    map: mmap.mmap
    raw: Array  # bytes of the map, uint8
    dtype: str
    shape: tuple[int, ...]


class Weights(Mapping[str, Array]):
    """Name -> float32 array; float32 tensors are views of the memory map, others are converted.

    Nothing is read before it is asked for. Raises `CheckpointError` naming file and tensor.
    """

    def __init__(self, entries: dict[str, _Entry]) -> None:
        self._entries = entries

    @classmethod
    def open(cls, folder: Path) -> Weights:
        """Open `model.safetensors`, or the shards that `model.safetensors.index.json` names."""
        return cls({name: e for file in files(folder) for name, e in _read_header(file).items()})

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, name: str) -> Array:
        entry = self._entries[name]
        return _decode(entry.raw, entry.dtype).reshape(entry.shape)

    def rows(self, name: str, indices: Array) -> Array:
        """Return some rows of a matrix as float32, touching only their bytes on disk."""
        entry = self._entries[name]
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


def files(folder: Path) -> list[Path]:
    """Return the weight files of a checkpoint folder, in order."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
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
        if Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(f"{index} names {name!r}, which is not a file in that folder")
    return [folder / name for name in names]


def _read_header(file: Path) -> dict[str, _Entry]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER_LIMIT):
            raise CheckpointError(
                f"{file} is not a safetensors file: {size} bytes, header of {length} bytes "
                "(a Git LFS pointer? download the file itself)"
            )
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise CheckpointError(f"{file} has a damaged header: {error}") from error
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    data = np.frombuffer(mapped, np.uint8)
    entries = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        tensor = convert(entry, _Tensor, f"{file}: entry of tensor {name!r}")
        dtype, shape = tensor.dtype, tensor.shape
        begin, end = (8 + length + place for place in tensor.data_offsets)
        wanted = int(np.prod(shape, dtype=np.int64)) * _WIDTHS.get(dtype, 0)
        if end > size or (dtype in _WIDTHS and end - begin != wanted):
            raise CheckpointError(
                f"{file}: tensor {name!r} {dtype} {shape} needs {wanted} bytes, has bytes "
                f"{begin} to {end} of a file of {size} bytes; the file is cut short or damaged"
            )
        entries[name] = _Entry(file, mapped, data[begin:end], dtype, shape)
    return entries


def _decode(raw: Array, dtype: str) -> Array:
    if dtype == "F32":
        return raw.view("<f4")
    if dtype == "F16":
        return raw.view("<f2").astype(np.float32)
    if dtype == "BF16":  # the upper half of a float32
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    raise CheckpointError(f"weights of type {dtype} are not read; use F32, F16 or BF16")
