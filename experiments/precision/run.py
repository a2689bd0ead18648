"""What the precision of the text tower does to the accuracy after tuning: EuroSAT, 16 shots.

    python experiments/precision/run.py --data DATASETS [--only fgn] [--workers 2]
    python experiments/precision/run.py --table

DATASETS holds ``eurosat/`` in CoOp's layout. A line of ``results.jsonl`` is one run of 5,000
forwards on the embedded model: method, precision, seed, accuracy on the whole test split. Lines
that are there already are skipped. ``bfloat16 (emulated)`` is float32 arithmetic whose every result
is rounded to bfloat16, as a processor with such units would keep it; it says what the precision
does, not how fast it is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

RESULTS = Path(__file__).parent / "results.jsonl"
EMULATED = "bfloat16 (emulated)"
PRECISIONS = ("float32", "float16", "int8", "int4", EMULATED)
METHODS = ("fgn", "sharpzo", "sharpzo, projected", "cma-es", "zo-sgd")  # a preset after the comma
# What a tower's graph computes; the rest moves numbers or counts.
_COMPUTED = {"Add", "Erf", "Exp", "Gelu", "Gemm", "LayerNormalization", "MatMul", "Mul",
             "ReduceMean", "ReduceSum", "Sigmoid", "Softmax", "Sub"}  # fmt: skip


def emulate_bfloat16() -> None:
    """From here on, graphs round matrices and every result to bfloat16; norms and sums inside a
    node are float32, as in the hardware."""
    from onnx import TensorProto

    from sharpzo.towers.graph import Builder
    from sharpzo.towers.runtime import Runtime

    write, keep = Builder.ops, Builder.matrix

    def rounded(build: Builder, value: str, name: str = "") -> str:
        (half,) = write(build, "Cast", value, names=("",), to=TensorProto.BFLOAT16)
        return write(build, "Cast", half, names=(name,), to=TensorProto.FLOAT)[0]

    def ops(build: Builder, kind: str, *inputs: str, names: Any, **attributes: Any) -> Any:
        if kind not in _COMPUTED:
            return write(build, kind, *inputs, names=names, **attributes)
        first, *others = names
        found = write(build, kind, *inputs, names=("", *others), **attributes)
        return rounded(build, found[0], first), *found[1:]

    def matrix(build: Builder, name: str, array: Any, after: str) -> str:
        import ml_dtypes
        import numpy as np

        return keep(build, name, array.astype(ml_dtypes.bfloat16).astype(np.float32), after)

    Builder.ops, Builder.matrix = ops, matrix  # type: ignore[method-assign]
    Runtime.rounding = 2**-9  # type: ignore[assignment, misc]


def compute(data: Path, method: str, precision: str, seed: int, cache: Path) -> dict[str, Any]:
    """One run, tested once."""
    if precision == EMULATED:
        emulate_bfloat16()
    from sharpzo import Budget, PromptClassifier
    from sharpzo.data.loading import load

    photos = load(data / "eurosat", dataset="eurosat", shots=16, seed=seed)
    name, _, preset = method.partition(", ")
    classifier = PromptClassifier(
        name,
        preset=preset or None,
        seed=seed,
        budget=Budget(5000),
        threads=1,
        precision="float32" if precision == EMULATED else precision,  # type: ignore[arg-type]
        cache=cache,
    ).fit(photos)
    assert photos.test is not None
    found = classifier.evaluate(photos.test)
    return {
        "method": method, "precision": precision, "seed": seed,
        "forwards": classifier.fit_.forwards, "test_accuracy": round(found.accuracy, 5),
        "validation_accuracy": classifier.fit_.validation_accuracy,
    }  # fmt: skip


def table() -> None:
    """Mean and standard deviation over seeds, and the mean difference to float32, in points."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    found = {(r["method"], r["precision"], r["seed"]): 100 * r["test_accuracy"] for r in rows}
    print("| method | " + " | ".join(PRECISIONS) + " |\n" + "|---" * (1 + len(PRECISIONS)) + "|")
    for method in METHODS:
        cells = []
        for precision in PRECISIONS:
            seeds = [s for m, p, s in found if (m, p) == (method, precision)]
            values = [found[method, precision, s] for s in seeds]
            if not values:
                cells.append("")
                continue
            text = f"{statistics.mean(values):.1f}"
            text += f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            pairs = [s for s in seeds if (method, "float32", s) in found]
            if precision != "float32" and pairs:
                gaps = [found[method, precision, s] - found[method, "float32", s] for s in pairs]
                text += f" ({round(statistics.mean(gaps), 1) + 0.0:+.1f})"  # not -0.0
            cells.append(text)
        print(f"| {method} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--only", nargs="+", default=METHODS)
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        table()
        return
    done = {
        (row["method"], row["precision"], row["seed"])
        for row in map(json.loads, RESULTS.read_text().splitlines() if RESULTS.exists() else ())
    }
    cells = [(m, p, s) for m in args.only for s in args.seeds for p in args.precisions]
    cache = args.cache or args.data / "cache"
    # A process per run: emulation changes what towers are from then on.
    with ProcessPoolExecutor(args.workers, max_tasks_per_child=1) as pool:
        runs = [pool.submit(compute, args.data, *c, cache) for c in cells if c not in done]
        for run in runs:
            line = json.dumps(run.result())
            print(line, flush=True)
            with RESULTS.open("a") as stream:
                stream.write(line + "\n")


if __name__ == "__main__":
    main()
