"""The image tower in fewer bits: bfloat16 by OpenVINO, int8 by ONNX Runtime, against float32.

    python benchmarks/image_precisions.py      # writes results/image-precisions.json

The embedded model on 32 photos of the demo, one thread, processor milliseconds per photo, the best
of five rounds in which all ways take turns; and the least cosine of states and tokens to float32.
int8: both sides of a matrix product are whole numbers, with a scale for each output of the matrix,
and one for each token as it comes (so that photos of a batch do not depend on each other). Beside
it the floor: what that arithmetic does in one product of 1,040 x 1,536 x 1,536.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sharpzo import machine
from sharpzo.data.demo import load_demo
from sharpzo.errors import EngineError
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.families import image_family
from sharpzo.towers.graph import Builder, Graph
from sharpzo.towers.preprocess import Preprocessing, stack
from sharpzo.towers.runtime import OpenVinoSession, Running, Session
from sharpzo.types import Array

RESULT = Path(__file__).parent / "results" / "image-precisions.json"
PHOTOS, BATCH, ROUNDS = 32, 8, 5
ROWS, SIDE = 1040, 1536  # of the product that shows the floor
SMALL = 1 << 14  # numbers of a matrix that is left in float32


def whole_numbers(graph: Graph) -> Graph:
    """The graph with its Gemm nodes as integer products."""
    weights = dict(graph.weights)
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    kept = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, value in (("last", np.int64([-1])), ("top", np.float32(127)), ("one", np.float32(1)),
                        ("tiny", np.float32(1e-12)), ("middle", np.uint8(128))):  # fmt: skip
        kept[name] = numpy_helper.from_array(np.asarray(value), name)
    nodes, done = [], set[str]()

    def add(kind: str, inputs: list[str], output: str, **attributes: object) -> None:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    for node in model.graph.node:
        matrix = node.input[1] if node.op_type == "Gemm" else ""
        if matrix not in graph.weights or graph.weights[matrix].size < SMALL:
            nodes.append(node)
            continue
        x, y = node.input[0], node.output[0]
        by_output = graph.weights[matrix].T  # (in, out)
        scale = np.abs(by_output).max(axis=0) / 127
        for name, array in (
            (f"{matrix}.whole", np.rint(by_output / scale).astype(np.int8)),
            (f"{matrix}.scale", scale.astype(np.float32)),
        ):
            kept[name] = numpy_helper.from_array(array, name)
        weights.pop(matrix, None)
        kept.pop(matrix, None)
        if x not in done:  # several products read the same rows
            done.add(x)
            add("Abs", [x], f"{x}.abs")
            add("ReduceMax", [f"{x}.abs", "last"], f"{x}.largest", keepdims=1)
            add("Div", [f"{x}.largest", "top"], f"{x}.step")
            add("Max", [f"{x}.step", "tiny"], f"{x}.scale")
            add("Div", [x, f"{x}.scale"], f"{x}.scaled")
            add("QuantizeLinear", [f"{x}.scaled", "one", "middle"], f"{x}.whole")
        add("MatMulInteger", [f"{x}.whole", f"{matrix}.whole", "middle"], f"{y}.whole")
        add("Cast", [f"{y}.whole"], f"{y}.float", to=TensorProto.FLOAT)
        add("Mul", [f"{y}.float", f"{x}.scale"], f"{y}.rows")
        add("Mul", [f"{y}.rows", f"{matrix}.scale"], f"{y}.product")
        add("Add", [f"{y}.product", node.input[2]], y)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept.values())
    return Graph(model, weights)


def product() -> Graph:
    build = Builder()
    matrix = build.weight(
        "matrix", np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    )
    bias = build.weight("bias", np.zeros(SIDE, np.float32))
    build.op("Gemm", "x", matrix, bias, transB=1, name="y")
    return build.finish({"x": ("N", SIDE)}, {"y": ("N", SIDE)}, "product")


WAYS: dict[str, Callable[[Graph], Running]] = {
    "onnxruntime float32": lambda graph: Session(graph, 1),
    "openvino float32": lambda graph: OpenVinoSession(graph, 1),
    "openvino bfloat16": lambda graph: OpenVinoSession(graph, 1, bfloat16=True),
    "onnxruntime int8": lambda graph: Session(whole_numbers(graph), 1),
}


def opened(graph: Callable[[], Graph]) -> dict[str, Running]:
    """What can be run here."""
    found = {}
    for name, open_ in WAYS.items():
        try:
            found[name] = open_(graph())
        except EngineError as error:
            print(f"{name}: {error}")
    return found


def timed(
    runs: dict[str, Running], outputs: list[str], name: str, rows: Array, batch: int
) -> tuple[dict[str, float], dict[str, list[Array]]]:
    """Processor seconds for all rows, the least of the rounds, and what came of them."""
    least: dict[str, float] = {}
    found: dict[str, list[Array]] = {}
    for _ in range(ROUNDS):
        for way, session in runs.items():
            begin = time.process_time()
            parts = [session.run(outputs, {name: rows[i : i + batch]})
                     for i in range(0, len(rows), batch)]  # fmt: skip
            least[way] = min(least.get(way, np.inf), time.process_time() - begin)
            found[way] = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return least, found


def cosine(a: Array, b: Array) -> float:
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return float(((a * b).sum(axis=-1) / norms).min())


def main() -> None:
    checkpoint = Checkpoint.open(resolve(None))
    preprocessing = Preprocessing.open(checkpoint)
    photos = load_demo(1).train.photos
    pixels = stack(preprocessing, (p.image() for p in photos[:: len(photos) // PHOTOS][:PHOTOS]))
    family = image_family(checkpoint)
    towers = opened(lambda: family.build(checkpoint, *preprocessing.size))
    seconds, found = timed(towers, ["states", "summary"], "pixels", pixels, BATCH)
    rows = np.random.default_rng(1).normal(size=(ROWS, SIDE)).astype(np.float32)
    floors, _ = timed(opened(product), ["y"], "x", rows, ROWS)
    exact = found["onnxruntime float32"]
    lines = [
        {
            "way": way,
            "ms_per_photo": round(1e3 * seconds[way] / len(pixels), 2),
            "times_float32": round(seconds["onnxruntime float32"] / seconds[way], 2),
            "cosine_of_states": round(cosine(exact[0], found[way][0]), 5),
            "cosine_of_tokens": round(cosine(exact[1], found[way][1]), 5),
            "product_gflop_per_second": round(2 * ROWS * SIDE**2 / floors[way] / 1e9, 1),
        }
        for way in towers
    ]
    print(*lines, sep="\n")
    RESULT.write_text(
        json.dumps(
            {
                "machine": machine.processor(),
                "instructions": machine.instructions(),
                "lines": lines,
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
