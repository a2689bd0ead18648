"""A graph in a file of fewer bits: its matrices are kept in another precision, and made float32
again when they are used. What is not a matrix (norms, biases, positions) stays as it is."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import onnx

    from sharpzo.towers.graph import Graph
    from sharpzo.types import Array

FilePrecision = Literal["float32", "float16", "int8"]
_SMALL = 1 << 14  # numbers: smaller matrices are not worth it
_BLOCK = 32


def lighter(graph: Graph, precision: FilePrecision) -> Graph:
    """Return the graph with its matrices in ``precision``; in int8, 32 inputs of an output share a
    scale: with one scale for each output, one or two answers of a hundred were others."""
    if precision == "float32":
        return graph
    import onnx

    from sharpzo.towers.graph import Graph

    weights, widening = dict(graph.weights), {}
    alone = _matrices(graph)
    kept = {tensor.name: tensor for tensor in graph.model.graph.initializer}
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for node in model.graph.node:
        name = node.input[1] if node.op_type in ("Gemm", "MatMul", "Conv") else ""
        if name in widening or name in alone:
            if name not in widening:
                parts = _narrow(name, weights.pop(name), _outputs(node), precision)
                widening[name] = _widen(name, parts, _outputs(node), precision)
                weights |= parts
                del kept[name]
                kept |= {part: _placeholder(part, array) for part, array in parts.items()}
            node.input[1] = _wide(name)
    nodes = [*widening.values(), *model.graph.node]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept.values())
    return Graph(model, weights)


def _matrices(graph: Graph) -> set[str]:
    """Float32 matrices that nothing reads but products, all along one axis."""
    read: dict[str, set[int | None]] = {}
    for node in graph.model.graph.node:
        product = node.op_type in ("Gemm", "MatMul", "Conv")
        for place, name in enumerate(node.input):
            axis = _outputs(node) if product and place == 1 else None
            read.setdefault(name, set()).add(axis)
    return {
        name
        for name, array in graph.weights.items()
        if array.dtype == np.float32 and array.size >= _SMALL and array.ndim > 1
        and len(read.get(name, ())) == 1 and None not in read[name]
    }  # fmt: skip


def _outputs(node: onnx.NodeProto) -> int:
    """The axis of a node's matrix that runs over its outputs."""
    across = any(one.name == "transB" and one.i for one in node.attribute)
    return 0 if across or node.op_type == "Conv" else -1


def _narrow(name: str, array: Array, axis: int, precision: FilePrecision) -> dict[str, Array]:
    """The arrays by name that stand for a matrix."""
    from sharpzo.towers.graph import Quantised, compress

    if precision == "float16":
        return {f"{name}.float16": array.astype(np.float16)}
    rows = np.moveaxis(array, axis, 0)
    flat = np.ascontiguousarray(rows.reshape(len(rows), -1))
    blocks = flat.reshape(-1, _block(array, axis))
    stored = compress(blocks, "int8")
    assert isinstance(stored, Quantised)
    values = np.moveaxis(stored.values.reshape(rows.shape), 0, axis)
    scale = (
        stored.scale
        if array.ndim > 2
        else np.moveaxis(stored.scale.reshape(len(rows), -1), 0, axis)
    )
    return {
        f"{name}.int8": np.ascontiguousarray(values),
        f"{name}.scale": np.ascontiguousarray(scale),
    }


def _widen(
    name: str, parts: dict[str, Array], axis: int, precision: FilePrecision
) -> onnx.NodeProto:
    from onnx import TensorProto, helper

    if precision == "float16":
        return helper.make_node("Cast", [*parts], [_wide(name)], to=TensorProto.FLOAT)
    values, scale = parts.values()
    if scale.ndim == 1:
        return helper.make_node("DequantizeLinear", [*parts], [_wide(name)], axis=axis)
    along = 1 - axis % 2
    return helper.make_node(
        "DequantizeLinear", [*parts], [_wide(name)], axis=along,
        block_size=values.shape[along] // scale.shape[along],
    )  # fmt: skip


def _block(array: Array, axis: int) -> int:
    """How many inputs share a scale: all of a convolution's output."""
    if array.ndim > 2:
        return array.size // array.shape[axis]
    return gcd(array.shape[1 - axis % 2], _BLOCK)


def _wide(name: str) -> str:
    return f"{name}.wide"


def _placeholder(name: str, array: Array) -> onnx.TensorProto:
    """A weight whose content comes later."""
    from onnx import TensorProto, helper

    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    external = TensorProto.EXTERNAL
    return TensorProto(name=name, dims=array.shape, data_type=kind, data_location=external)
