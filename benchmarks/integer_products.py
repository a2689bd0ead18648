"""Matrix products with weights of few bits, against float32: is there an operator that is faster?

    python benchmarks/integer_products.py      # writes results/integer-products.json

Six MLPs of width 512 in one graph, by ONNX Runtime on one thread, in processor seconds, the best of
three. "dequantised" is what the product does: int8 weights made float32 by a node of their own;
"MatMulNBits" are the runtime's own operators, whose activations are 8-bit whole numbers as well.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from onnx import TensorProto, helper

from sharpzo.towers.graph import Builder, Graph
from sharpzo.towers.runtime import Session

RESULT = Path(__file__).parent / "results" / "integer-products.json"
SIDES = (512, 2048)
LAYERS, BLOCK = 6, 32


def dequantised(precision: str) -> Graph:
    """Products as the text tower has them."""
    build, draw, x = Builder(precision), np.random.default_rng(0), "x"  # type: ignore[arg-type]
    for layer in range(LAYERS):
        for i, inner in enumerate(SIDES):
            matrix = draw.normal(size=(SIDES[1 - i], inner)).astype(np.float32) / inner**0.5
            name = build.matrix(f"w{layer}.{i}", matrix, after=x)
            x = build.op("Gemm", x, name, transB=1)
    x = build.op("Identity", x, name="y")
    return build.finish({"x": ("N", SIDES[0])}, {"y": ("N", SIDES[0])}, "products")


def own_operators(bits: int) -> Graph:
    """The same by MatMulNBits, with 8-bit activations (accuracy level 4)."""
    build, draw, x = Builder(), np.random.default_rng(0), "x"
    for layer in range(LAYERS):
        for i, inner in enumerate(SIDES):
            outer, blocks = SIDES[1 - i], inner // BLOCK
            values = draw.integers(256, size=(outer, blocks, BLOCK * bits // 8)).astype(np.uint8)
            weight = build.weight(f"w{layer}.{i}", values)
            scale = build.weight(f"s{layer}.{i}", np.full(outer * blocks, 1e-3, np.float32))
            x = build.op(
                "MatMulNBits", x, weight, scale, domain="com.microsoft", K=inner, N=outer,
                bits=bits, block_size=BLOCK, accuracy_level=4,
            )  # fmt: skip
    build.op("Identity", x, name="y")
    graph = build.finish({"x": ("N", SIDES[0])}, {"y": ("N", SIDES[0])}, "products")
    graph.model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert graph.model.graph.initializer[-1].data_type in (TensorProto.FLOAT, TensorProto.UINT8)
    return graph


def main() -> None:
    graphs = {
        "float32": dequantised("float32"),
        "int8 dequantised": dequantised("int8"),
        "int4 dequantised": dequantised("int4"),
        "MatMulNBits, 8 bits": own_operators(8),
        "MatMulNBits, 4 bits": own_operators(4),
    }
    lines = []
    for rows in (60, 500):
        x = np.random.default_rng(1).normal(size=(rows, SIDES[0])).astype(np.float32)
        for name, graph in graphs.items():
            with closing(Session(graph, threads=1)) as session:
                times = []
                for _ in range(4):
                    begin = time.process_time()
                    session.run(["y"], {"x": x})
                    times.append(time.process_time() - begin)
            speed = 2 * rows * SIDES[0] * SIDES[1] * 2 * LAYERS / min(times[1:]) / 1e9
            lines.append({"rows": rows, "how": name, "gflop_a_second": round(speed, 1)})
            print(lines[-1], flush=True)
    RESULT.write_text(
        json.dumps({"onnxruntime": version("onnxruntime"), "lines": lines}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
