"""How far apart fits of the demo are on other kernels, loops, threads and engines: a table.

    python tools/how_far.py                # docs/reproducibility.md has the result
    python tools/how_far.py 3000 "kernel of Haswell"    # so many forwards, one variation

Each row is a process of its own (see tools/any_processor.py for the switches), compared with the
first: the largest difference of a probability on the test photos, and how many answers differ.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from any_processor import LOOPS, PROBE, call, environment

METHODS = {
    "ladder+tokens": {},
    "gda": {},
    "sharpzo": {"validate_every": 20, "search.switch.generation": 5},
    "zo-sgd": {"validate_every": 20},
}
FORWARDS, TESTED = 300, 200  # of a search; photos
# Name: kernel of OpenBLAS (None: what it takes), NumPy's loops, threads, engine, precision.
VARIATIONS = {
    "as it is": (None, "all", 1, "onnxruntime"),
    "once more": (None, "all", 1, "onnxruntime"),
    "kernel of Haswell": ("Haswell", "all", 1, "onnxruntime"),
    "kernel of Sandybridge": ("Sandybridge", "all", 1, "onnxruntime"),
    "NumPy without AVX-512": (None, "no AVX-512", 1, "onnxruntime"),
    "NumPy without AVX2": (None, "no AVX2", 1, "onnxruntime"),
    "two threads": (None, "all", 2, "onnxruntime"),
    "OpenVINO": (None, "all", 1, "openvino"),
}


def fit(out: Path, threads: int, engine: str, cache: Path, forwards: int) -> None:
    """Fit every method on the demo, and write the probabilities of test photos."""
    from sharpzo import Budget, PromptClassifier
    from sharpzo.data.demo import load_demo

    demo, found = load_demo(1), {}
    for method, settings in METHODS.items():
        budget = Budget(forwards=forwards) if settings else None
        classifier = PromptClassifier(
            method, settings=settings or None, budget=budget, threads=threads, engine=engine,
            cache=cache,
        )  # fmt: skip
        classifier.fit(demo)
        found[method] = classifier.predict_proba(demo.test.photos[:TESTED])
    np.savez(out, **found)


def main() -> None:
    """Print the table."""
    if len(sys.argv) == 6:
        _, out, threads, engine, cache, forwards = sys.argv
        return fit(Path(out), int(threads), engine, Path(cache), int(forwards))
    forwards, only = [*sys.argv[1:2], str(FORWARDS)][0], sys.argv[2:]
    print(f"{'':24}", *(f"{method:>22}" for method in METHODS), flush=True)
    first: dict[str, np.ndarray] = {}
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, (core, loops, threads, engine)) in enumerate(VARIATIONS.items()):
            if only and number and name not in only:
                continue
            variables = environment(core or "", [], threads)
            if core is None:
                del variables["OPENBLAS_CORETYPE"]
            _, plain = call(["-c", PROBE], variables, threads)
            disabled = [loop for loop in plain.split()[1:] if loop.startswith(LOOPS[loops])]
            if disabled:
                variables["NPY_DISABLE_CPU_FEATURES"] = " ".join(disabled)
            out = Path(folder) / f"{number}.npz"
            # Photos are encoded anew where that may differ: by other threads.
            cache = Path(folder) / f"cache-{threads}"
            arguments = [__file__, str(out), str(threads), engine, str(cache), forwards]
            code, said = call(arguments, variables, threads)
            if code:
                print(f"{name:24} failed: {said.strip().splitlines()[-1]}", flush=True)
                continue
            found = dict(np.load(out))
            first = first or found
            row = {}
            for method in METHODS:
                apart = np.abs(found[method] - first[method]).max()
                other = int((found[method].argmax(1) != first[method].argmax(1)).sum())
                row[method] = [float(apart), other]
            rows[name] = row
            cells = (f"{apart:.1e}, {other:3} of {TESTED}" for apart, other in row.values())
            print(f"{name:24}", *(f"{cell:>22}" for cell in cells), plain.split()[0], flush=True)
    print(json.dumps(rows))
    return None


if __name__ == "__main__":
    main()
