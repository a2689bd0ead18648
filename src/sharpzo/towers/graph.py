"""An ONNX graph with its large weights outside, and the builder that writes such graphs.

Matrices may be kept in fewer bits. Weight-only: a matrix is made float32 again when it is used, so
a candidate's features stay a function of that candidate alone, and losses stay smooth enough for
differences. (Dynamic quantisation of activations is neither.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sharpzo.errors import EngineError
from sharpzo.types import Array, Precision

OPSET = 21  # Gelu came with 20, blocks of DequantizeLinear with 21
IR_VERSION = 10
_INLINE = 1024  # bytes: smaller arrays (shapes, scalars) are stored in the proto itself
_PAGE = 4096
_DATA = "model.onnx.data"
_BLOCK = 32  # weights of a row that share a scale in int4; int8 has one scale per row


@dataclass(frozen=True, eq=False)
class Graph:
    """A model and the arrays of its external initialisers.

    The arrays are handed to the runtime as they are, so weights that are memory-mapped from a
    checkpoint are not in memory twice because of us.
    """

    model: onnx.ModelProto
    weights: dict[str, Array]

    @property
    def bytes(self) -> int:
        """Size of the weights."""
        return sum(array.nbytes for array in self.weights.values())

    def unbound(self) -> Graph:
        """Return the graph with its big weights as inputs, to be given with every call.

        The runtime reads inputs in place. Initialisers it copies (ONNX Runtime 1.32, whether it
        packs them or not): a mapped checkpoint would be in memory twice.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        kept = [tensor for tensor in model.graph.initializer if tensor.name not in self.weights]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        for name, array in self.weights.items():
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            model.graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))
        return Graph(model, {})

    def save(self, folder: str | Path) -> Path:
        """Write `model.onnx` and one data file with page-aligned weights; return the former.

        Page alignment lets runtimes map the weights instead of reading them.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        try:
            with (folder / _DATA).open("wb") as stream:
                for tensor in model.graph.initializer:
                    if tensor.name not in self.weights:
                        continue
                    stream.write(b"\0" * (-stream.tell() % _PAGE))
                    data = np.ascontiguousarray(self.weights[tensor.name])
                    _point(tensor, _DATA, stream.tell(), data.nbytes)
                    stream.write(data.data)
            onnx.save_model(model, folder / "model.onnx")
        except OSError as error:
            raise EngineError(f"{folder} could not be written: {error}") from error
        return folder / "model.onnx"


@dataclass(frozen=True, eq=False)
class Quantised:
    """Whole numbers and their scale: values * scale is the matrix, symmetric about zero.

    ``attributes`` say to ONNX's DequantizeLinear which values share a scale.
    """

    values: Array
    scale: Array
    attributes: Mapping[str, Any]


class Builder:
    """Writes nodes one after another; every method returns the name of the value it makes.

    ``precision`` is what matrices are kept in; see `compress`. ``prefix`` begins every invented
    name, so that what another builder wrote can be taken in.
    """

    def __init__(self, precision: Precision = "float32", prefix: str = "") -> None:
        self._precision: Precision = precision
        self._prefix = prefix
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._weights: dict[str, Array] = {}
        self._matrices: dict[str, str] = {}
        self._count = 0

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        return self.ops(kind, *inputs, names=(name,), **attributes)[0]

    def ops(
        self, kind: str, *inputs: str, names: Sequence[str], **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node with several outputs; empty names are invented."""
        outputs = tuple(name or self._fresh(kind) for name in names)
        self._nodes.append(helper.make_node(kind, list(inputs), list(outputs), **attributes))
        return outputs

    def reshape(self, value: str, shape: Sequence[int], name: str = "") -> str:
        """Add a node that gives a value another shape."""
        return self.op("Reshape", value, self.constant(list(shape)), name=name)

    def constant(self, values: Any, name: str = "") -> str:
        """Add an array as float32, uint8 or int64; give a name to a large one, it is kept
        outside."""
        array = np.asarray(values)
        if array.dtype != np.uint8:
            array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64, copy=False)
        if array.nbytes > _INLINE:
            return self.weight(name or self._fresh("constant"), array)
        key = f"{array.dtype} {array.shape} {array.tobytes().hex()}"
        if key not in self._constants:
            tensor = numpy_helper.from_array(np.array(array), name or self._fresh("constant"))
            self._constants[key] = tensor
        return self._constants[key].name

    def weight(self, name: str, array: Array) -> str:
        """Add an external initialiser; the array is kept, not copied, if it is contiguous."""
        if name not in self._weights:
            self._weights[name] = np.ascontiguousarray(array)
        return name

    def matrix(self, name: str, array: Array, after: str) -> str:
        """Add a float32 matrix (out, in) in the builder's precision; return it as float32 again.

        Where that takes a node, it waits for the value ``after`` (see `late`): a runtime is free
        to run what depends on nothing at its start, and would hold every matrix in float32.
        """
        if name in self._matrices:
            return self._matrices[name]
        stored = self.stored(name, array)
        if stored is None:
            found = self.weight(name, array)
        elif isinstance(stored, Quantised):
            values = self.weight(name, stored.values)
            scale = self.weight(f"{name}.scale", stored.scale)
            scale = self.late(scale, stored.scale.shape, after)
            found = self.op("DequantizeLinear", values, scale, **stored.attributes)
        else:
            half = self.late(self.weight(name, stored), stored.shape, after)
            found = self.op("Cast", half, to=TensorProto.FLOAT)
        self._matrices[name] = found
        return found

    def stored(self, name: str, array: Array) -> Array | Quantised | None:
        """Return a matrix in the builder's precision; None where that is float32."""
        return compress(array, self._precision)

    def late(self, value: str, shape: Sequence[int], after: str) -> str:
        """Return a value that is computed, as a view, only once ``after`` is known."""
        nothing = self.op("Shape", after, start=0, end=0)
        wanted = self.op("Concat", nothing, self.constant(list(shape)), axis=0)
        return self.op("Reshape", value, wanted)

    def settle(self, value: str) -> str:
        """Return a value when all is done that needs what led to it: here, the value itself."""
        return value

    def take_in(self, graph: Graph) -> None:
        """Add the nodes and weights of another builder's graph, whose inputs have been written."""
        self._nodes.extend(graph.model.graph.node)
        self._weights |= graph.weights
        self._constants |= {
            tensor.name: tensor
            for tensor in graph.model.graph.initializer
            if tensor.name not in graph.weights
        }

    def finish(
        self,
        inputs: dict[str, Sequence[int | str]],
        outputs: dict[str, Sequence[int | str]],
        name: str,
        input_kind: int = TensorProto.FLOAT,
    ) -> Graph:
        """Return the graph; shapes of inputs and outputs, strings = any. Inputs are of
        ``input_kind``, outputs float32."""

        def infos(
            values: dict[str, Sequence[int | str]], kind: int = TensorProto.FLOAT
        ) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(key, kind, list(shape))
                for key, shape in values.items()
            ]

        initializers = list(self._constants.values())
        for key, array in list(self._weights.items()):
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            if kind == TensorProto.INT4:  # NumPy keeps those in whole bytes: packed, inside
                initializers.append(numpy_helper.from_array(self._weights.pop(key), key))
                continue
            tensor = TensorProto(name=key, dims=array.shape, data_type=kind)
            _point(tensor, "weights", 0, array.nbytes)
            initializers.append(tensor)
        graph = helper.make_graph(
            self._nodes, name, infos(inputs, input_kind), infos(outputs), initializer=initializers
        )
        others = sorted({node.domain for node in self._nodes} - {""})
        model = helper.make_model(
            graph,
            opset_imports=[
                helper.make_opsetid("", OPSET),
                *(helper.make_opsetid(one, 1) for one in others),
            ],
            ir_version=IR_VERSION,
            producer_name="sharpzo",
        )
        return Graph(model, self._weights)

    def _fresh(self, kind: str) -> str:
        self._count += 1
        return f"{self._prefix}{kind}_{self._count}"


def compress(matrix: Array, precision: Precision) -> Array | Quantised | None:
    """Return a float32 matrix (out, in) in a precision; None where that is float32 itself.

    >>> compress(np.float32([[1, -2], [0, 0.5]]), "int8").values
    array([[  64, -127],
           [   0,  127]], dtype=int8)
    """
    if precision == "float32":
        return None
    if precision == "float16":
        return matrix.astype(np.float16)
    if precision == "int8":
        scale = _scale(matrix, 127)
        values = matrix / scale
        return Quantised(np.rint(values, out=values).astype(np.int8), scale[:, 0], {"axis": 0})
    from ml_dtypes import int4  # comes with onnx, which packs two of them into a byte

    size = gcd(matrix.shape[1], _BLOCK)
    blocks = matrix.reshape(len(matrix), -1, size)
    scale = _scale(blocks, 7)
    values = np.rint(blocks / scale).astype(int4).reshape(matrix.shape)
    return Quantised(values, scale[..., 0], {"axis": 1, "block_size": size})


def _scale(values: Array, most: int) -> Array:
    """The scale along the last axis that takes the largest value to ``most``."""
    largest = np.maximum(values.max(axis=-1), -values.min(axis=-1))[..., None]
    return np.where(largest > 0, largest / np.float32(most), np.float32(1))


def _point(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
