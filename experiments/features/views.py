"""What views of the photos are worth to the default: one, at most two, at most four image passes.

    python experiments/features/views.py --data DATASETS --cache FOLDER
    python experiments/features/views.py --write      # the table of docs/closed-forms.md

Embedded model, one template, seeds 1 to 3, 1, 4 and 16 photos per class, with validation photos,
held-out development photos; the test split is not read (`experiments/backprop/against.py` does). A
line of ``views.jsonl`` beside this file is one fit, with the views that leaving photos out chose.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines
from one_pass import DATASETS, SHOTS, development, draws

from sharpzo.data.photo import FIXED_VIEWS
from sharpzo.evaluate import evaluate
from sharpzo.methods import Task, find, fit
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower

LINES = Lines(__file__, "views.jsonl", "dataset", "shots", "seed", "views")
VIEWS = (1, 2, 4)


def table() -> str:
    """Means over seeds, a row per number of views."""
    head = ["views", *(f"{name}, {shots}" for name in DATASETS for shots in SHOTS)]
    lines = LINES.read()
    rows = []
    for views in VIEWS:
        row = [str(views)]
        for name in DATASETS:
            for shots in SHOTS:
                key = name, shots, views
                found = [
                    100 * line["accuracy"]
                    for line in lines
                    if (line["dataset"], line["shots"], line["views"]) == key
                ]
                row.append(f"{np.mean(found):.1f}" if found else "–")
        rows.append(row)
    return harness.table(head, rows)


def main() -> None:
    parser = harness.parser(__doc__, DATASETS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.table or args.write:
        harness.publish("closed-forms.md", {"views": table()}, args.write)
        return
    done, checkpoint, method = LINES.done(), Checkpoint.open(resolve(None)), find("ladder+tokens")
    for name in args.datasets:
        every, held = draws(args, name)
        shown = encode(
            checkpoint, {"all": every}, threads=1, cache=args.cache, fixed_views=list(FIXED_VIEWS)
        )["all"]
        tower = OnnxTextTower(checkpoint, every.class_names, threads=1)
        for shots in SHOTS:
            for seed in args.seeds:
                train, val = (shown.take(held[shots, seed, part]) for part in ("train", "val"))
                rest = shown.take(development(held, shots, seed, len(shown)))
                for views in VIEWS:
                    if (name, shots, seed, views) in done:
                        continue
                    settings = method.configure(None, {"views": views})
                    fitted = fit(method, settings, Task(train, val, tower, seed))
                    result = evaluate(fitted.head, rest)
                    LINES.append({
                        "dataset": name, "shots": shots, "seed": seed,
                        "views": views, "accuracy": round(result.accuracy, 4),
                        "calibration_error": round(result.calibration_error, 4),
                        "chosen": list(getattr(fitted.head, "fixed_views", ())),
                        "seconds": round(fitted.seconds, 2),
                    })  # fmt: skip
        tower.close()


if __name__ == "__main__":
    main()
