"""Heads with many photos and classes: processor seconds, and peak memory beside the features.

    python benchmarks/heads.py                        # writes results/heads.json
    python benchmarks/heads.py --sizes 1000x16 --heads ladder+gda linear-probe scikit-learn

Features are made up in the embedded model's widths (256, tokens of 384): of each class a direction
near its text, within-class noise whose spectrum falls as that of real features does. Each head is
fitted in a process of its own with one thread, at its default settings: without validation photos,
and (``--validation``) with 4 per class. ``scikit-learn`` is `LogisticRegression` (L-BFGS) on the
same float32 features with the penalty that `linear-probe` takes without validation photos, at its
own tolerance and at that of `linear-probe` (largest gradient below 1e-6); ``loss`` is what all of
them minimise. Peaks are of the process, from outside (memory.py), above one that only loads
the features and `sharpzo`. All lines of a size are of one run: read the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from memory import watch

RESULT = Path(__file__).parent / "results" / "heads.json"
WIDTH, STATES, SHOWN = 256, 384, 4
HEADS = ("nothing", "ladder", "ladder+gda", "ladder+tokens", "gda", "linear-probe", "scikit-learn",
         "scikit-learn, 1e-6", "proker")  # fmt: skip


def make(folder: Path, classes: int, shots: int, seed: int) -> None:
    """Features of a split into a folder, as arrays."""
    fixed, draws = np.random.default_rng(0), np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), shots)

    def unit(rows: np.ndarray) -> np.ndarray:
        return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)

    def around(width: int, own: float) -> np.ndarray:
        """Rows of a common direction, one for each class and noise of a falling spectrum."""
        scale = np.arange(1, width + 1) ** -0.5
        middle = 3 * fixed.normal(size=width) * scale
        of_class = own * fixed.normal(size=(classes, width)) * scale
        noise = draws.standard_normal((len(labels), width), np.float32) * scale.astype(np.float32)
        return noise + (middle + of_class)[labels].astype(np.float32)

    folder.mkdir()
    of_class = 1.2 * fixed.normal(size=(classes, WIDTH)) * np.arange(1, WIDTH + 1) ** -0.5
    text = of_class + fixed.normal(size=(classes, WIDTH)) * np.arange(1, WIDTH + 1) ** -0.5
    fixed = np.random.default_rng(1)
    np.save(folder / "text.npy", unit(text))
    vectors = around(WIDTH, 0.0) + of_class[labels].astype(np.float32)
    np.save(folder / "vectors.npy", unit(vectors))
    np.save(folder / "tokens.npy", np.stack([around(STATES, 0.8), around(STATES, 0.8)], axis=1))
    np.save(folder / "labels.npy", labels)


def fit(head: str, folder: Path, validated: bool) -> None:
    """Fit one head; print processor seconds, and what there is to know of the result."""
    from sharpzo.methods import METHODS
    from sharpzo.methods.registry import Task
    from sharpzo.types import Features

    def split(name: str) -> Features:
        arrays = {part: np.load(folder / name / f"{part}.npy")
                  for part in ("vectors", "labels", "tokens")}  # fmt: skip
        names = tuple(f"class {k}" for k in range(arrays["labels"].max() + 1))
        return Features(class_names=names, **arrays)

    train, held = split("train"), split("held")
    validation, text = held if validated else None, np.load(folder / "train" / "text.npy")
    found: dict[str, float] = {}
    penalty = 1e-4

    def loss(weight: np.ndarray, bias: np.ndarray) -> float:
        from sharpzo.metrics import cross_entropy

        parts = [(float(cross_entropy(train.vectors[i : i + 2000] @ weight.T + bias,
                                      train.labels[i : i + 2000])), len(train.labels[i : i + 2000]))
                 for i in range(0, len(train), 2000)]  # fmt: skip
        mean = sum(one * many for one, many in parts) / len(train)
        return round(mean + penalty * float((weight.astype(float) ** 2).sum()), 6)

    scores = None
    begin, clock = time.process_time(), time.perf_counter()
    if head.startswith("scikit-learn"):
        from sklearn.linear_model import LogisticRegression

        begin, clock = time.process_time(), time.perf_counter()
        tolerance = {"tol": 1e-6} if head.endswith("1e-6") else {}
        model = LogisticRegression(C=1 / (2 * len(train) * penalty), max_iter=1000, **tolerance)
        model.fit(train.vectors, train.labels)
        spent = time.process_time() - begin, time.perf_counter() - clock
        found = {"loss": loss(model.coef_, model.intercept_), "steps": int(model.n_iter_[0])}
        scores = model.decision_function(held.vectors)
    elif head != "nothing":
        method = METHODS[head]
        settings = method.configure()
        tower = SimpleNamespace(class_names=train.class_names, untuned=text, logit_scale=20.0)
        begin, clock = time.process_time(), time.perf_counter()
        result = method.fit(settings, Task(train, validation, tower))  # type: ignore[arg-type]
        spent = time.process_time() - begin, time.perf_counter() - clock
        found = dict(result.notes)
        if head == "linear-probe":
            found["loss"] = loss(result.head.weight, result.head.bias)  # type: ignore[attr-defined]
        scores = result.head.scores(held)
    else:
        spent = 0.0, 0.0
    if scores is not None:
        found["accuracy"] = round(float((scores.argmax(axis=1) == held.labels).mean()), 4)
    print(json.dumps({"fit_processor_s": round(spent[0], 2), "fit_s": round(spent[1], 2), **found}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["1000x16", "100x1000"])
    parser.add_argument("--heads", nargs="+", default=HEADS)
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--add", action="store_true", help="to the lines that are written there")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    if args.one:
        fit(args.one[0], Path(args.one[1]), args.validation)
        return
    report = {
        "cpu": platform.processor() or platform.machine(), "threads": 1,
        "command": "python benchmarks/heads.py", "numpy": np.__version__,
        "scikit-learn": version("scikit-learn"), "lines": [],
    }  # fmt: skip
    if args.add:
        report = json.loads(RESULT.read_text())
    for size in args.sizes:
        classes, shots = map(int, size.split("x"))
        with tempfile.TemporaryDirectory() as scratch:
            make(Path(scratch) / "train", classes, shots, 1)
            make(Path(scratch) / "held", classes, SHOWN, 2)
            least = 0.0
            for head in args.heads:
                command = [sys.executable, __file__, "--one", head, scratch]
                command += ["--validation"] * args.validation
                printed, measured = watch(command)
                line = {"size": size, "head": head, "validation": args.validation}
                try:
                    line |= json.loads(printed.strip().splitlines()[-1])
                except ValueError:
                    line["failed"] = printed.strip().splitlines()[-1]
                if head == "nothing":
                    least = measured["peak_mb"]
                line["peak_mb"] = measured["peak_mb"]
                line["above_features_mb"] = round(measured["peak_mb"] - least, 1)
                report["lines"].append(line)
                print(line, flush=True)
                RESULT.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
