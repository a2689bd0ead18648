"""An ONNX file that another program wrote: what goes in and comes out, and which files it reads.

Nothing is run here. A graph may keep its weights in files beside it (external data); a path that
leads out of the folder is refused, as is a stretch that the file does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from sharpzo.errors import CheckpointError

Dim = int | None  # None: any size
_LARGEST = 2**31 - 1  # bytes that one message of the format can have


@dataclass(frozen=True)
class Port:
    """An input or output: its element type as ONNX numbers it, and its shape, None if not said."""

    kind: int
    shape: tuple[Dim, ...] | None

    def __str__(self) -> str:
        known = self.kind in TensorProto.DataType.values()
        kind = TensorProto.DataType.Name(self.kind).lower() if known else f"type {self.kind}"
        if self.shape is None:
            return f"{kind} of any shape"
        return f"{kind} ({', '.join('any' if size is None else str(size) for size in self.shape)})"


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """``path`` as it can be run, its ports by name, and all ``files`` that it reads, itself first.

    Inputs that have a default in the file are not among ``inputs``.
    """

    path: Path
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    files: tuple[Path, ...]

    @classmethod
    def open(cls, folder: Path, name: str) -> OnnxFile:
        """Read the file ``name`` of a folder; raises `CheckpointError` saying what is wrong."""
        path = inside(folder, name)
        try:
            if path.stat().st_size > _LARGEST:
                raise CheckpointError(
                    f"{path} is larger than an ONNX file can be; keep its weights in external data"
                )
            model = onnx.load(path, load_external_data=False)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
        except CheckpointError:
            raise
        except Exception as error:  # protobuf's errors share no base of their own
            raise CheckpointError(
                f"{path} is not an ONNX file, is cut short or damaged ({error}); export it again"
            ) from None
        if not model.graph.node:
            raise CheckpointError(f"{path} holds no graph; export it again")
        beside = {one: None for tensor in _tensors(model) for one in _external(path, tensor)}
        given = {tensor.name for tensor in model.graph.initializer}
        return cls(
            path,
            _ports(path, (one for one in model.graph.input if one.name not in given)),
            _ports(path, model.graph.output),
            (path, *beside),
        )

    def port(self, kind: str, name: str) -> Port:
        """Return the port called ``name``, ``kind`` "input" or "output"; `CheckpointError` with
        the names that there are, if there is none."""
        ports = self.inputs if kind == "input" else self.outputs
        if name not in ports:
            raise CheckpointError(
                f"{self.path} has no {kind} {name!r}; it has: {', '.join(ports) or 'none'}"
            )
        return ports[name]

    def only(self, names: Iterable[str]) -> None:
        """Raise `CheckpointError` for an input that would be left without a value."""
        if others := self.inputs.keys() - set(names):
            raise CheckpointError(
                f"{self.path} needs the input {min(others)!r}, too, which nothing here gives; "
                "export a graph without it"
            )


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file of a folder, in which links are followed; `CheckpointError` for
    one that lies elsewhere or is no file."""
    path, root = folder / name, folder.resolve()
    try:
        found = path.resolve()
        # ONNX Runtime reads an address in memory behind a name with stars.
        elsewhere = not found.is_relative_to(root) or Path(name).is_absolute()
        if not name or "*" in name or elsewhere:
            raise CheckpointError(
                f"{folder} names the file {name!r}, which is not in that folder; it is refused"
            )
        if not found.is_file():
            raise CheckpointError(f"{folder} names the file {name!r}, which is not there")
    except (OSError, ValueError, RuntimeError):  # a null byte, a circle of links
        raise CheckpointError(f"{folder} names the file {name!r}, which is no path") from None
    return path


def _ports(path: Path, values: Iterable[Any]) -> dict[str, Port]:
    found = {}
    for value in values:
        if value.type.WhichOneof("value") != "tensor_type":
            raise CheckpointError(f"{path}: {value.name!r} is no tensor")
        tensor = value.type.tensor_type
        sizes = (one.dim_value if one.dim_value > 0 else None for one in tensor.shape.dim)
        shape = tuple(sizes) if tensor.HasField("shape") else None
        found[_words(path, value.name)] = Port(tensor.elem_type, shape)
    return found


def _words(path: Path, text: str | bytes) -> str:
    """Text of a file; protobuf returns bytes where it is not UTF-8."""
    if isinstance(text, bytes):
        raise CheckpointError(f"{path} holds a name that is not UTF-8: {text!r}; export it again")
    return text


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """All tensors of a model: of its graph, of graphs inside nodes, and of functions."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _of_node(node)


def _of_graph(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: onnx.NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _of_graph(graph)


def _external(path: Path, tensor: TensorProto) -> Iterator[Path]:
    """The file that holds a tensor, if it is not the graph's own."""
    if tensor.data_location != TensorProto.EXTERNAL and not tensor.external_data:
        return
    entries = {_words(path, entry.key): _words(path, entry.value) for entry in tensor.external_data}
    file = inside(path.parent, entries.get("location", ""))
    try:
        offset, length = (int(entries.get(name, "0") or 0) for name in ("offset", "length"))
    except ValueError:
        offset = length = -1
    size = file.stat().st_size
    if min(offset, length) < 0 or offset + length > size:
        raise CheckpointError(
            f"{path}: tensor {tensor.name!r} is said to be bytes {entries.get('offset', '0')} and "
            f"{entries.get('length', '0')} more of {file.name}, which has {size:,}; export it again"
        )
    yield file
