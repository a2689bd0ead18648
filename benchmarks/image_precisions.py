"""The image tower in fewer bits: bfloat16 by OpenVINO, int8 by ONNX Runtime, against float32.

    python benchmarks/image_precisions.py      # writes results/image-precisions.json

The embedded model on photos of the demo at 112 and 224 pixels a side, as many at a time as the
product takes, one thread: processor milliseconds per photo, the best of five rounds in which all
ways take turns; and the least cosine of states and tokens to float32. Beside it the floor: the
operations of a photo at the speed of one product of 1,040 x 1,536 x 1,536 in that arithmetic.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from sharpzo import machine
from sharpzo.data.demo import load_demo
from sharpzo.errors import EngineError
from sharpzo.towers import integers
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.config import ImageConfig
from sharpzo.towers.families import image_family
from sharpzo.towers.graph import Builder, Graph
from sharpzo.towers.image_precision import require
from sharpzo.towers.preprocess import Preprocessing, stack
from sharpzo.towers.runtime import OpenVinoSession, Running, Session
from sharpzo.towers.tower import OnnxImageTower
from sharpzo.types import Array

RESULT = Path(__file__).parent / "results" / "image-precisions.json"
SIZES, PHOTOS, ROUNDS = (112, 224), 32, 5
ROWS, SIDE = 1040, 1536  # of the product that shows the floor
EXACT, INT8 = "onnxruntime float32", "onnxruntime int8"
WAYS: dict[str, Callable[[Graph], Running]] = {
    EXACT: lambda graph: Session(graph, 1),
    "openvino float32": lambda graph: OpenVinoSession(graph, 1),
    "openvino bfloat16": lambda graph: OpenVinoSession(graph, 1, bfloat16=True),
    INT8: lambda graph: Session(graph, 1),
}


def product(whole: bool) -> Graph:
    """One product, in whole numbers or not."""
    build = Builder()
    matrix = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    pair = matrix, np.zeros(SIDE, np.float32)
    if whole:
        build.op("Identity", integers.product(build, integers.normed(build, "x"), "m", pair),
                 name="y")  # fmt: skip
    else:
        build.op("Gemm", "x", *map(build.weight, ("m", "b"), pair), transB=1, name="y")
    return build.finish({"x": ("N", SIDE)}, {"y": ("N", SIDE)}, "product")


def operations(config: ImageConfig, size: int) -> float:
    """Floating-point operations of a photo, two a multiply-add."""
    m, patches = config.width, (size // config.patch) ** 2
    tokens, mlp = 1 + patches, 2 * m * config.mlp_width
    block = tokens * (4 * m * m + mlp) + 2 * tokens * tokens * m
    last = tokens * 2 * m * m + 2 * m * m + mlp + 2 * tokens * m  # of the class token alone
    return 2.0 * (patches * 3 * config.patch**2 * m + (config.layers - 1) * block + last)


def opened(graph: Callable[[bool], Graph]) -> dict[str, Running]:
    """What can be run here; ``graph`` is asked for one in whole numbers or not."""
    found = {}
    for name, open_ in WAYS.items():
        try:
            if name == INT8:
                require("int8")
            found[name] = open_(graph(name == INT8))
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


def lines_of(size: int) -> list[dict[str, Any]]:
    """A line for each way, at one size."""
    checkpoint = Checkpoint.open(resolve(None), size)
    preprocessing, family = Preprocessing.open(checkpoint), image_family(checkpoint)
    photos = load_demo(1).train.photos
    pixels = stack(preprocessing, (p.image() for p in photos[:: len(photos) // PHOTOS][:PHOTOS]))
    batch = OnnxImageTower(checkpoint)._batch

    def tower(whole: bool) -> Graph:
        build = family.build_integers if whole else family.build
        assert build is not None
        return build(checkpoint, *preprocessing.size)

    seconds, found = timed(opened(tower), ["states", "summary"], "pixels", pixels, batch)
    rows = np.random.default_rng(1).normal(size=(ROWS, SIDE)).astype(np.float32)
    floors, _ = timed(opened(product), ["y"], "x", rows, ROWS)
    work, exact = operations(checkpoint.image, size), found[EXACT]
    return [
        {
            "size": size,
            "way": way,
            "photos_per_second": round(len(pixels) / seconds[way], 1),
            "ms_per_photo": round(1e3 * seconds[way] / len(pixels), 2),
            "times_float32": round(seconds[EXACT] / seconds[way], 2),
            "cosine_of_states": round(cosine(exact[0], found[way][0]), 5),
            "cosine_of_tokens": round(cosine(exact[1], found[way][1]), 5),
            "product_gflop_per_second": round(2 * ROWS * SIDE**2 / floors[way] / 1e9, 1),
            "floor_ms_per_photo": round(1e3 * work * floors[way] / (2 * ROWS * SIDE**2), 2),
        }
        for way in seconds
    ]


def main() -> None:
    lines = [line for size in SIZES for line in lines_of(size)]
    print(*lines, sep="\n")
    found = {
        "machine": machine.processor(), "instructions": machine.instructions(), "lines": lines,
    }  # fmt: skip
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
