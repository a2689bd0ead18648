"""The image encoder of a pair as a part of our graphs: what `image.build_image` is for others.

The file's own nodes are kept as they are, under names of their own, with what `dual_encoder.json`
says of pooling behind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from sharpzo.errors import EngineError
from sharpzo.towers.graph import IR_VERSION, OPSET, Graph
from sharpzo.towers.pair import PairImage

if TYPE_CHECKING:
    from sharpzo.towers.checkpoint import Checkpoint
    from sharpzo.types import Array

_PREFIX = "image."
_SMALL = 1024  # bytes: what stays in the proto itself
_OUTSIDE = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8,
            TensorProto.INT32, TensorProto.INT64}  # fmt: skip


def build_image(checkpoint: Checkpoint, height: int, width: int) -> Graph:
    """Return the graph ``pixels`` (B, 3, h, w) to ``states`` (B, D), which are the features; of one
    that takes one number of photos alone, B is that.

    Raises `EngineError` for a file that cannot be joined with other graphs.
    """
    config = cast(PairImage, cast(object, checkpoint.image))
    said, file = config.said, config.file
    config.check_size(height, width)
    port = file.inputs[said.input]
    try:
        model = _named(onnx.load(file.path))
    except Exception as error:  # the library's errors share no base of their own
        raise EngineError(f"{file.path} cannot be joined with other graphs: {error}") from error
    graph = model.graph
    before = [helper.make_node("Cast", ["pixels"], [_PREFIX + said.input], to=port.kind)]
    after = _pooling(_PREFIX + said.output, said.pooling)
    nodes = [*before, *graph.node, *after]
    weights, kept = _apart(graph.initializer)
    batch = "B" if config.batch is None else config.batch
    made = helper.make_graph(
        nodes,
        "image",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, height, width])],
        [helper.make_tensor_value_info("states", TensorProto.FLOAT, [batch, config.width])],
        initializer=kept,
    )
    found = helper.make_model(
        made, opset_imports=model.opset_import, ir_version=max(IR_VERSION, model.ir_version),
        producer_name="sharpzo",
    )  # fmt: skip
    return Graph(found, weights)


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model in at least our version of the operators, without functions of its own, whose names
    all begin alike."""
    from onnx import compose, inliner

    if model.functions:
        model = inliner.inline_local_functions(model)
    version = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if version < OPSET:
        model = version_converter.convert_version(model, OPSET)
    return compose.add_prefix(model, _PREFIX)


def _pooling(output: str, pooling: str) -> list[onnx.NodeProto]:
    """Nodes from the encoder's output to ``states``, float32."""
    name, nodes = output, []
    if pooling in ("first", "last"):
        place = numpy_helper.from_array(np.array(0 if pooling == "first" else -1), "")
        nodes.append(helper.make_node("Constant", [], ["image..place"], value=place))
        nodes.append(helper.make_node("Gather", [name, "image..place"], ["image..one"], axis=1))
        name = "image..one"
    elif pooling == "mean":
        axes = numpy_helper.from_array(np.array([1]), "")
        nodes.append(helper.make_node("Constant", [], ["image..axes"], value=axes))
        nodes.append(
            helper.make_node("ReduceMean", [name, "image..axes"], ["image..mean"], keepdims=0)
        )
        name = "image..mean"
    nodes.append(helper.make_node("Cast", [name], ["states"], to=TensorProto.FLOAT))
    return nodes


def _apart(
    tensors: object,
) -> tuple[dict[str, Array], list[onnx.TensorProto]]:
    """Arrays of large tensors, and all tensors, of which the large ones point to these."""
    weights: dict[str, Array] = {}
    kept: list[onnx.TensorProto] = []
    for tensor in cast("list[onnx.TensorProto]", tensors):
        array = numpy_helper.to_array(tensor) if tensor.data_type in _OUTSIDE else None
        if array is None or array.nbytes <= _SMALL:
            kept.append(tensor)
            continue
        weights[tensor.name] = array
        kept.append(
            TensorProto(name=tensor.name, dims=array.shape, data_type=tensor.data_type,
                        data_location=TensorProto.EXTERNAL)
        )  # fmt: skip
    return weights, kept


def joined(graph: Graph, part: Graph) -> Graph:
    """Return a graph that has taken in the nodes of a ``part``, with the versions of operators that
    these ask for: no older ones than ours."""
    ours = {one.domain: one.version for one in graph.model.opset_import}
    theirs = {one.domain: one.version for one in part.model.opset_import}
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.opset_import[:]
    model.opset_import.extend(
        helper.make_opsetid(domain, version) for domain, version in (ours | theirs).items()
    )
    model.ir_version = max(graph.model.ir_version, part.model.ir_version)
    return Graph(model, graph.weights)
