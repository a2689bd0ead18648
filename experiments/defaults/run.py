"""How the default of ``sharpzo`` was chosen, and what each part of it is worth.

    python experiments/defaults/run.py --data DATASETS
    python experiments/defaults/run.py --data DATASETS --forwards 40000 --cells default dense
    python experiments/defaults/run.py --write    # the table of docs/sharpzo.md

DATASETS holds ``eurosat/`` and ``caltech-101/`` in CoOp's layout; Fashion-MNIST is the
demo set. 16 shots, the embedded model, seeds 1 to 3. Accuracy is that on held-out
development photos: those that the draws of the other seeds hold and this draw does not. The test
split is not read. A line of ``results.jsonl`` beside this file is one run, lines that are there are
skipped. A cell is the default with one thing changed.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
from harness import Lines, show

from sharpzo import Budget
from sharpzo.methods import Task, find, fit
from sharpzo.metrics import accuracy
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower

LINES = Lines(__file__, "results.jsonl", "data_set", "budget", "cell", "seed")
DENSE = {"search.zo.score": "dense", "search.zo.keep": 1.0}
# name -> changed settings; "projected" is a preset, the default before this one
CELLS: dict[str, dict[str, Any]] = {
    "default": {},
    "projected": {},
    "validation chooses": {"choose": True},
    "stage 2 alone": {"search.switch.generation": 0},
    "40 generations": {"search.switch.generation": 40},
    "population 24": {"search.cma.population_size": 24},
    "sigma 0.2": {"search.cma.sigma": 0.2},
    "no sharpness": {"search.sharpness.estimator": "none"},
    "sharpness by 20 directions": {
        "search.sharpness.estimator": "rge", "search.sharpness.refresh_every": 10,
    },
    "dense": DENSE,
    "keep 0.5": {"search.zo.keep": 0.5},
    "magnitude": {"search.zo.score": "magnitude"},
    "two-sided, q 4": {"search.zo.one_sided": False, "search.zo.queries": 4},
    "no momentum": {"search.zo.momentum": 0.0, "search.zo.learning_rate": 0.1},
    "constant rate": {"search.zo.slow_after": None},
    "plain steps": {
        **DENSE, "search.zo.decay": None, "search.zo.slow_after": None,
        "search.zo.momentum": 0.0, "search.zo.learning_rate": 0.3,
    },
    "q 4": {"search.zo.queries": 4},
    "q 16": {"search.zo.queries": 16},
    "rate 0.005": {"search.zo.learning_rate": 0.005},
    "rate 0.02": {"search.zo.learning_rate": 0.02},
    "512 projected numbers": {"dim": 512},
}  # fmt: skip


def table() -> str:
    """Means over seeds ± their standard deviation, a row per data set, budget and cell."""
    found: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for run in LINES.read():
        found[run["data_set"], run["budget"], run["cell"]].append(run)
    ordered = sorted(found, key=lambda run: (*run[:2], list(CELLS).index(run[2])))
    rows = [
        [
            name, f"{budget:,}", cell, str(len(runs := found[name, budget, cell])),
            show(100 * run["accuracy"] for run in runs),
            show((run["training_loss"] for run in runs), 3),
        ]
        for name, budget, cell in ordered
    ]  # fmt: skip
    head = ["data set", "forwards", "cell", "seeds", "development %", "training loss"]
    return harness.table(head, rows)


def main() -> None:
    parser = harness.parser(__doc__, ["eurosat", "demo"], CELLS)
    parser.add_argument("--forwards", type=int, default=5000)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true", help="the table of docs/sharpzo.md")
    args = parser.parse_args()
    if args.table or args.write:
        harness.publish("sharpzo.md", {"defaults": table()}, args.write)
        return
    done, checkpoint, method = LINES.done(), Checkpoint.open(resolve(None)), find("sharpzo")
    for name in args.datasets:
        for seed in args.seeds:
            todo = [c for c in args.cells if (name, args.forwards, c, seed) not in done]
            if not todo:
                continue
            drawn = harness.draw(args.data, name, seed)
            held = harness.development(args.data, name, seed)
            splits = {"train": drawn.train, "val": drawn.val, "held": held}
            photos = encode(checkpoint, splits, threads=1, cache=args.cache)
            tower = OnnxTextTower(checkpoint, drawn.class_names, threads=1)
            for cell in todo:
                preset = cell if cell in method.presets else None
                settings = method.configure(preset, CELLS[cell])
                begin = time.perf_counter()
                task = Task(photos["train"], photos["val"], tower, seed, Budget(args.forwards))
                fitted = fit(method, settings, task)
                held = photos["held"]
                LINES.append(
                    {
                        "data_set": name,
                        "budget": args.forwards,
                        "cell": cell,
                        "seed": seed,
                        "accuracy": round(accuracy(fitted.head.scores(held), held.labels), 4),
                        "training_loss": round(fitted.notes["training_loss"], 4),
                        "forwards": fitted.forwards,
                        "seconds": round(time.perf_counter() - begin, 1),
                        "model": checkpoint.fingerprint[:12],
                    }
                )
            tower.close()


if __name__ == "__main__":
    main()
