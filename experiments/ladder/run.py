"""The ladder beside the heads that it competes with: few shots, calibration, unseen classes.

    python experiments/ladder/run.py --data DATASETS
    python experiments/ladder/table.py

DATASETS holds ``eurosat/`` and ``caltech-101/`` in CoOp's layout; Fashion-MNIST is the demo's.
Embedded model, one template, seeds 1 to 3. A cell is (protocol, data set, shots, seed, method,
whether there are validation photos) and appends a line to ``results.jsonl`` beside this file; cells
that are there already are skipped. The test split is read after each fit and chooses nothing.

* ``all``: every class has photos. Accuracy, calibration error, forwards, seconds.
* ``base-to-new``: the first half of the classes has 16 photos each. Accuracy on the base photos
  among base names, on the new photos among new names (CoCoOp's protocol), and on both among all.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines, draw

from sharpzo.evaluate import evaluate
from sharpzo.methods import Task, find, fit
from sharpzo.metrics import accuracy
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Features

KEY = ("protocol", "dataset", "shots", "seed", "method", "validated")
LINES = Lines(__file__, "results.jsonl", *KEY)
DATASETS = ("fashion-mnist", "eurosat", "caltech101")
HEADS = (
    "zero-shot", "linear-probe", "projection", "clap", "gda", "proker", "ladder", "ladder+gda",
    "ladder+tokens",
)  # fmt: skip
NAMING = ("zero-shot", "projection", "ladder", "ladder+gda", "ladder+tokens")


def half(split: Features, classes: range) -> Features:
    some = split.take(np.isin(split.labels, list(classes)))
    names = split.class_names[classes.start : classes.stop]
    return replace(some, labels=some.labels - classes.start, class_names=names)


def measure_all(method: str, splits: dict[str, Features], tower: Any, seed: int) -> dict[str, Any]:
    found = find(method)
    fitted = fit(found, found.settings, Task(splits["train"], splits.get("val"), tower, seed))
    result = evaluate(fitted.head, splits["test"])
    return {
        "test_accuracy": result.accuracy,
        "calibration_error": result.calibration_error,
        "validation_accuracy": fitted.validation_accuracy,
        "forwards": fitted.forwards,
        "seconds": round(fitted.seconds, 3),
        "notes": dict(fitted.notes),
        "kilobytes": round(sum(a.nbytes for a in fitted.head.arrays().values()) / 1000, 1),
    }


def measure_halves(
    method: str, splits: dict[str, Features], tower: Any, seed: int
) -> dict[str, Any]:
    found, names = find(method), tower.class_names
    middle = (len(names) + 1) // 2
    first, second = range(middle), range(middle, len(names))
    val = half(splits["val"], first) if "val" in splits else None
    known = tower.variant(class_names=names[:middle])
    fitted = fit(found, found.settings, Task(half(splits["train"], first), val, known, seed))
    kept = {**fitted.arrays, **fitted.head.arrays()}
    assert found.rename is not None
    line = {}
    base, new = half(splits["test"], first), half(splits["test"], second)
    line["base"] = accuracy(fitted.head.scores(base), base.labels)
    others = tower.variant(class_names=names[middle:])
    line["new"] = accuracy(found.rename(kept, others).scores(new), new.labels)
    both = found.rename(kept, tower)
    line["base_among_all"] = accuracy(both.scores(base), base.labels)
    line["new_among_all"] = accuracy(both.scores(new), new.labels + middle)
    known.close(), others.close()
    return line


def main() -> None:
    parser = harness.parser(__doc__, DATASETS)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--methods", nargs="+", choices=HEADS, default=HEADS)
    parser.add_argument("--with-validation-only", action="store_true")
    args = parser.parse_args()
    done = LINES.done()
    checkpoint = Checkpoint.open(resolve(None))
    for dataset in args.datasets:
        tower = None
        for shots in args.shots:
            for seed in args.seeds:
                ways = (True,) if args.with_validation_only else (True, False)
                cells = [("all", m, v) for v in ways for m in args.methods]
                if shots == 16:
                    cells += [("base-to-new", m, True) for m in NAMING if m in args.methods]
                cells = [c for c in cells if (c[0], dataset, shots, seed, *c[1:]) not in done]
                if not cells:
                    continue
                drawn = draw(args.data, dataset, seed, shots)
                kept = {name: getattr(drawn, name) for name in ("train", "val", "test")}
                splits = encode(checkpoint, kept, threads=1, cache=args.cache)
                tower = tower or OnnxTextTower(checkpoint, drawn.class_names, threads=1)
                for protocol, method, validated in cells:
                    shown = splits if validated else {k: splits[k] for k in ("train", "test")}
                    measure = measure_all if protocol == "all" else measure_halves
                    cell = (protocol, dataset, shots, seed, method, validated)
                    line = dict(zip(KEY, cell, strict=True)) | measure(method, shown, tower, seed)
                    LINES.append(line | {"model": checkpoint.fingerprint[:12]})
        if tower is not None:
            tower.close()


if __name__ == "__main__":
    main()
