"""Tensors of PyTorch's zip files (`.pt`, `.bin`), read without running anything in them.

Such a file is a zip of uncompressed records: one pickle that says which tensors there are, and
their bytes. The opcodes of the pickle are followed here by a machine that makes nothing but
containers, numbers, strings and places of tensors: names of classes and functions stay names, none
is imported, and a call of any but a few known ones is refused.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from pickletools import genops
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from sharpzo.errors import CheckpointError
from sharpzo.towers.weights import Entry, Weights

_TYPES = {
    "Float": ("F32", 4), "Half": ("F16", 2), "BFloat16": ("BF16", 2), "Double": ("F64", 8),
    "Long": ("I64", 8), "Int": ("I32", 4), "Short": ("I16", 2), "Byte": ("U8", 1),
    "Char": ("I8", 1), "Bool": ("BOOL", 1),
}  # fmt: skip
_LARGEST_PICKLE = 16 << 20  # bytes; CLIP's take some 100 kB
_LARGEST_AXIS = 1 << 40
_DEEPEST = 32  # modules in modules
_MOST = 1 << 20  # values of all modules
_REBUILD = {"torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor"}
# Lists and attributes of modules, none of which hold weights.
_IDLE = {"collections OrderedDict", "torch.jit._pickle build_intlist",
         "torch.jit._pickle build_tensorlist", "torch.jit._pickle build_doublelist",
         "torch.jit._pickle build_boollist", "torch.jit._pickle restore_type_tag"}  # fmt: skip


class _Mark:
    pass


@dataclass(frozen=True)
class _Name:
    """The name of a class or a function."""

    name: str


@dataclass(eq=False)
class _Module:
    """An object of a class of the file, of which the attributes are read."""

    state: Any = field(default_factory=dict[Any, Any])


@dataclass(frozen=True)
class _Tensor:
    dtype: str
    size: int  # bytes of a number
    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def is_script(file: Path) -> bool:
    """Return whether a file is a zip with TorchScript in it; raises `CheckpointError` for one that
    is no zip."""
    with _open(file) as archive:
        return any(name.split("/")[1:] == ["constants.pkl"] for name in archive.namelist())


def read_archive(file: Path) -> Weights:
    """Return the tensors of a file by the names of their modules and attributes.

    A state dict may lie under ``state_dict``, its names begin with ``module.``. Raises
    `CheckpointError` for what is not such a file, is compressed, or calls another function.
    """
    with _open(file) as archive:
        records = archive.infolist()
        names = [record.filename for record in records]
        pickles = [one for one in records if one.filename.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1 or len(set(names)) != len(names):
            raise _damaged(file, "its records are not those of PyTorch")
        (record,) = pickles
        if record.compress_type != ZIP_STORED or record.file_size > _LARGEST_PICKLE:
            raise _damaged(file, f"{record.filename} is compressed, or far too large")
        try:
            content = archive.read(record)
        except (BadZipFile, OSError, ValueError, EOFError, RuntimeError) as error:
            raise _damaged(file, str(error)) from error
    root = record.filename.split("/")[0]
    try:
        top = _follow(content)
    except CheckpointError as error:
        raise _damaged(file, str(error)) from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(file, f"its pickle cannot be followed ({error})") from error
    if isinstance(top, dict) and isinstance(top.get("state_dict"), dict):
        top = top["state_dict"]
    found: dict[str, _Tensor] = {}
    try:
        _collect(top, "", found, [_MOST])
    except CheckpointError as error:
        raise _damaged(file, str(error)) from None
    if not found:
        raise _damaged(file, "it holds no tensors")
    places = {one.filename: one for one in records}
    with file.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    data = _Records(file, mapped, places, f"{root}/data/")
    bare = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    return Weights({name: data.entry(name, tensor) for name, tensor in bare.items()})


@dataclass
class _Records:
    """Where the bytes of tensors lie in a mapped file."""

    file: Path
    map: mmap.mmap
    places: dict[str, ZipInfo]
    folder: str
    seen: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])

    def entry(self, name: str, tensor: _Tensor) -> Entry:
        raw = self._bytes(name, tensor.key)
        count = int(np.prod(tensor.shape, dtype=object)) if tensor.shape else 1
        first = tensor.offset * tensor.size
        end = first + count * tensor.size
        turned = _turned(tensor)
        if turned is None or not 0 <= first <= end <= len(raw):
            raise _damaged(
                self.file,
                f"tensor {name!r} of shape {tensor.shape} does not lie in its record as its "
                "strides say",
            )
        return Entry(self.file, self.map, raw[first:end], tensor.dtype, tensor.shape, name, turned)

    def _bytes(self, name: str, key: str) -> np.ndarray:
        place = self.folder + key
        if place in self.seen:
            return self.seen[place]
        record = self.places.get(place)
        if record is None:
            raise _damaged(self.file, f"the bytes of tensor {name!r} ({place}) are missing")
        begin = record.header_offset
        header = self.map[begin : begin + 30]
        if record.compress_type != ZIP_STORED or header[:4] != b"PK\x03\x04":
            raise _damaged(self.file, f"record {place} is compressed, which PyTorch never does")
        begin += 30 + int.from_bytes(header[26:28], "little")
        begin += int.from_bytes(header[28:30], "little")
        raw = np.frombuffer(self.map, np.uint8)[begin : begin + record.file_size]
        if len(raw) != record.file_size:
            raise _damaged(self.file, f"record {place} is cut short")
        self.seen[place] = raw
        return raw


def _turned(tensor: _Tensor) -> bool | None:
    """Whether the transposed matrix lies in the file; None where neither that nor the tensor as it
    is does."""
    if not all(0 <= side <= _LARGEST_AXIS for side in tensor.shape):
        return None

    def dense(shape: tuple[int, ...]) -> tuple[int, ...]:
        found, step = list[int](), 1
        for side in reversed(shape):
            found.append(step)
            step *= side
        return tuple(reversed(found))

    given = [s for s, side in zip(tensor.strides, tensor.shape, strict=True) if side != 1]
    straight = [s for s, n in zip(dense(tensor.shape), tensor.shape, strict=True) if n != 1]
    if given == straight:
        return False
    across = dense(tensor.shape[::-1])[::-1]
    return True if len(tensor.shape) == 2 and tensor.strides == across else None


def _collect(
    value: Any, name: str, found: dict[str, _Tensor], left: list[int], depth: int = 0
) -> None:
    """Put the tensors of nested modules and dicts under their joined names; ``left`` holds how many
    values may still be looked at, for one may lie in many places."""
    left[0] -= 1
    if isinstance(value, _Tensor):
        found[name] = value
        return
    state = value.state if isinstance(value, _Module) else value
    if not isinstance(state, dict):
        return
    if depth > _DEEPEST or left[0] < 0:
        raise CheckpointError("its modules are too many, or too deep in each other")
    for key, one in state.items():
        _collect(one, f"{name}.{key}" if name else str(key), found, left, depth + 1)


def _follow(content: bytes) -> Any:
    """Return what a pickle describes; see the top of this file."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        place = len(stack) - 1
        while not isinstance(stack[place], _Mark):
            place -= 1
            if place < 0:
                raise ValueError("a mark is missing")
        items = stack[place + 1 :]
        del stack[place:]
        return items

    def set_items(items: list[Any]) -> None:
        into = stack[-1]
        if not isinstance(into, dict):
            raise ValueError("items are set of what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            into[key if isinstance(key, (str, int)) else repr(key)] = value

    constants: dict[str, Callable[[], Any]] = {
        "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "MARK": _Mark,
        "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    }  # fmt: skip
    for opcode, argument, _ in genops(content):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case one if one in constants:
                stack.append(constants[one]())
            case ("BININT" | "BININT1" | "BININT2" | "LONG1" | "LONG4" | "BINFLOAT" | "BINUNICODE"
                  | "SHORT_BINUNICODE" | "BINUNICODE8"):  # fmt: skip
                stack.append(argument)
            case "GLOBAL":
                stack.append(_Name(str(argument)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_Name(f"{module} {name}"))
            case "BINPUT" | "LONG_BINPUT":
                memo[int(argument)] = stack[-1]  # type: ignore[arg-type]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[int(argument)])  # type: ignore[arg-type]
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                many = int(opcode.name[-1])
                items = tuple(stack[-many:])
                del stack[-many:]
                stack.append(items)
            case "APPEND" | "APPENDS":
                items = [stack.pop()] if opcode.name == "APPEND" else since_mark()
                into: Any = stack[-1]
                into.extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                set_items([key, value])
            case "SETITEMS":
                set_items(since_mark())
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "NEWOBJ" | "REDUCE":
                arguments, called = stack.pop(), stack.pop()
                stack.append(_call(called, arguments))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], _Module):
                    stack[-1].state = state
            case other:
                raise CheckpointError(f"its pickle has the opcode {other}, which is not followed")
    raise ValueError("no end")


def _call(called: Any, arguments: Any) -> Any:
    """What a call of a known function makes; nothing is run."""
    if not isinstance(called, _Name) or not isinstance(arguments, tuple):
        raise ValueError("what is called is no name")
    if called.name in _REBUILD:
        storage, offset, shape, strides = arguments[:4]
        dtype, size, key = storage
        numbers = (offset, *shape, *strides)
        if len(shape) != len(strides) or not all(type(one) is int for one in numbers):
            raise ValueError("a tensor's place is not in numbers")
        return _Tensor(dtype, size, key, offset, tuple(shape), tuple(strides))
    if called.name == "torch._utils _rebuild_parameter":
        return arguments[0]
    if called.name in _IDLE:
        return {}
    if called.name.startswith("__torch__."):
        return _Module()
    raise CheckpointError(f"its pickle calls {called.name!r}, which no file of weights needs")


def _storage(given: Any) -> tuple[str, int, str]:
    """The type of numbers, bytes of one, and the record's key of a storage."""
    kind, name, key = given[:3]
    parts = name.name.split(" ") if isinstance(name, _Name) else []
    found = _TYPES.get(parts[1].removesuffix("Storage")) if len(parts) == 2 else None
    if kind != "storage" or found is None or parts[0] != "torch" or not isinstance(key, str):
        raise ValueError(f"a storage of {name} is not known")
    return *found, key


def _open(file: Path) -> ZipFile:
    try:
        return ZipFile(file)
    except (BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _damaged(file, f"not a zip: {error}") from error


def _damaged(file: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{file} is not read as a file of PyTorch's weights, or is cut short or damaged: {why}"
    )
