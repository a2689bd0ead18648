"""Each part of FGN, one at a time: ``fgn`` and, with class-specific contexts, ``fgn-csc``.

    python experiments/fgn/ablations.py --data DATASETS            # on development photos
    python experiments/fgn/ablations.py --data DATASETS --test --cells fgn csc
    python experiments/fgn/ablations.py --write    # the table of docs/fgn.md, from what is there

16 shots, the embedded model, runs of 5,000 forwards, seeds 1 to 3; a line of ``ablations.jsonl``
beside this file is one run, lines that are there are skipped. The held-out development
photos are the training and validation photos of the other seeds' draws without those of this draw;
they chose the settings. The test split is read with ``--test`` alone. A run gives the last point at
some numbers of forwards, or the point that 40 validation photos had chosen by then.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
from harness import Lines, show

from sharpzo import Budget
from sharpzo.methods import Task, find, fit
from sharpzo.metrics import accuracy
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode, wanted_views
from sharpzo.towers.tower import OnnxTextTower

LINES = Lines(__file__, "ablations.jsonl", "dataset", "cell", "seed", "split")
MARKS = (500, 1000, 2000, 5000)
# name -> method, changed settings
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "fgn": ("fgn", {}),
    "csc": ("fgn-csc", {}),
    **{f"{name}, {what}": (method, changes) for name, method in (("csc", "fgn-csc"), ("fgn", "fgn"))
       for what, changes in {
           "validation chooses": {"choose": True},
           "p 16": {"search.directions": 16},
           "p 64": {"search.directions": 64},
           "reuse 1": {"search.reuse": 1},
           "no memory": {"search.memory": 0.0, "search.history": 0},
           "window 128": {"search.window": 128},
           "window 512": {"search.window": 512},
           "radius 6": {"search.radius": 6.0},
           "rho 1": {"search.rho": 1.0},
       }.items()},
    "csc, 4 views": ("fgn-csc", {"views": 4}),
    "csc, 1 token": ("fgn-csc", {"tokens": 1}),
    "csc, 8 tokens": ("fgn-csc", {"tokens": 8}),
    "fgn, dim 512": ("fgn", {"dim": 512}),
    "fgn, 12 steps kept": ("fgn", {"search.history": 12}),
    "fgn, differences": ("fgn", {"difference": 0.01}),
    "sharpzo, projected": ("sharpzo", {}),
    "sharpzo, projected, the last point": ("sharpzo", {"choose": False}),
}  # fmt: skip


def run(args: argparse.Namespace, dataset: str, cell: str, seed: int) -> dict[str, Any]:
    checkpoint, drawn = Checkpoint.open(resolve(None)), harness.draw(args.data, dataset, seed)
    name, changes = CELLS[cell]
    method = find(name)
    settings = method.configure("projected" if "projected" in cell else None, changes)
    evaluated = drawn.test if args.test else harness.development(args.data, dataset, seed)
    splits = {"train": drawn.train, "val": drawn.val, "evaluated": evaluated}
    splits |= wanted_views(checkpoint, drawn.train, method.views(settings), seed)
    found = encode(checkpoint, splits, threads=1, cache=args.cache)
    tower = OnnxTextTower(checkpoint, drawn.class_names, threads=1)
    task = Task(
        found["train"], found["val"], tower, seed, Budget(5000),
        views=found.get("views"), milestones=MARKS,
    )  # fmt: skip

    def measured(head: Any) -> float:
        return round(accuracy(head.scores(found["evaluated"]), found["evaluated"].labels), 4)

    begin = time.perf_counter()
    fitted = fit(method, settings, task)
    seconds = time.perf_counter() - begin
    return {
        "dataset": dataset, "cell": cell, "seed": seed,
        "split": "test" if args.test else "development", "photos": len(evaluated),
        "forwards": fitted.forwards, "steps": fitted.steps, "seconds": round(seconds, 1),
        "training_loss": round(fitted.notes["training_loss"], 4),
        "accuracy": {m: measured(chosen.evaluated.head) for m, chosen in fitted.milestones.items()},
        "model": checkpoint.fingerprint[:12],
    }  # fmt: skip


def table(dataset: str, split: str) -> str:
    """Mean and standard deviation over seeds, in percent, of every cell."""
    some = [x for x in LINES.read() if (x["dataset"], x["split"]) == (dataset, split)]
    order = [*CELLS].index
    rows = []
    for cell in sorted({x["cell"] for x in some}, key=lambda c: (c.split(",")[0], order(c))):
        found = [x["accuracy"] for x in some if x["cell"] == cell]
        values = [show(100 * one[str(mark)] for one in found) for mark in MARKS]
        rows.append([cell, *values, str(len(found))])
    return harness.table(["", *(f"{mark:,}" for mark in MARKS), "seeds"], rows)


def main() -> None:
    parser = harness.parser(__doc__, ["eurosat"], CELLS)
    parser.add_argument("--test", action="store_true", help="evaluate on the test split")
    parser.add_argument("--write", action="store_true", help="the table of docs/fgn.md")
    args = parser.parse_args()
    if args.write:
        harness.publish("fgn.md", {"ablations": table("eurosat", "development")}, write=True)
        for dataset in ("eurosat", "demo"):
            print(f"\n{dataset}, test split\n\n{table(dataset, 'test')}")
        return
    done, split = LINES.done(), "test" if args.test else "development"
    for dataset in args.datasets:
        for cell in args.cells:
            for seed in args.seeds:
                if (dataset, cell, seed, split) not in done:
                    LINES.append(run(args, dataset, cell, seed))


if __name__ == "__main__":
    main()
