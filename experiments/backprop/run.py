"""The schedule of ``tune-blocks``, chosen on held-out development photos.

    python experiments/backprop/run.py --data DATASETS
    python experiments/backprop/run.py --table

DATASETS holds ``eurosat/`` and ``caltech-101/`` in CoOp's layout; Fashion-MNIST is the demo set. 16
shots, the embedded model. Accuracy is that on held-out development photos: those that the draws of
the other seeds hold and this draw does not. The test split is not read. ``plain`` is the untuned
method's (share 0), ``tuned`` that of the tuned blocks alone (share 1). A line of ``results.jsonl``
beside this file is one run, lines that are there are skipped. A cell is the default with one thing
changed.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
from harness import Lines, show

from sharpzo.methods import Task, find, fit
from sharpzo.methods.registry import Images
from sharpzo.methods.tune_blocks import BlocksHead
from sharpzo.metrics import accuracy
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower

LINES = Lines(__file__, "results.jsonl", "data_set", "cell", "seed")
CELLS: dict[str, dict[str, Any]] = {
    "default": {},
    "rate 1e-5": {"rate": 1e-5},
    "rate 3e-5": {"rate": 3e-5},
    "rate 3e-4": {"rate": 3e-4},
    "head rate 1e-3": {"head_rate": 1e-3},
    "rate 3e-5, head rate 1e-3": {"rate": 3e-5, "head_rate": 1e-3},
    "no mirrored views": {"mirror": False},
    "20 epochs": {"epochs": 20},
    "2 blocks": {"blocks": 2},
}


def table() -> str:
    """Means over seeds ± their standard deviation, a row per data set and cell."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for run in LINES.read():
        found[run["data_set"], run["cell"]].append(run)
    ordered = sorted(found, key=lambda run: (run[0], list(CELLS).index(run[1])))
    columns = ("plain", "tuned", "accuracy")
    rows = [
        [name, cell, str(len(runs := found[name, cell]))]
        + [show(100 * run[column] for run in runs) for column in columns]
        + [show((run["seconds"] for run in runs), 0)]
        for name, cell in ordered
    ]
    head = ["data set", "cell", "seeds", "untuned %", "tuned alone %", "both %", "seconds"]
    return harness.table(head, rows)


def main() -> None:
    parser = harness.parser(__doc__, ["eurosat", "demo"], CELLS)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        print(table())
        return
    done, checkpoint, method = LINES.done(), Checkpoint.open(resolve(None)), find("tune-blocks")
    for seed in args.seeds:
        for name in args.datasets:
            todo = [cell for cell in args.cells if (name, cell, seed) not in done]
            if not todo:
                continue
            drawn = harness.draw(args.data, name, seed)
            held = harness.development(args.data, name, seed)
            photos = encode(
                checkpoint, {"train": drawn.train, "val": drawn.val}, threads=1, cache=args.cache
            )
            images = Images(drawn.train, drawn.val, lambda: OnnxImageTower(checkpoint, threads=1))
            tower = OnnxTextTower(checkpoint, drawn.class_names, threads=1)
            for cell in todo:
                settings = method.configure(None, CELLS[cell])
                task = Task(photos["train"], photos["val"], tower, seed, images=images)
                begin = time.perf_counter()
                fitted = fit(method, settings, task)
                seconds = time.perf_counter() - begin
                head = fitted.head
                assert isinstance(head, BlocksHead)
                seen = encode(
                    checkpoint, {"held": held}, threads=1, cache=args.cache, detours=[head.detour]
                )["held"]

                def right(share: float, head: BlocksHead = head, seen: Any = seen) -> float:
                    scores = replace(head, share=share).scores(seen)
                    return round(accuracy(scores, seen.labels), 4)

                LINES.append(
                    {
                        "data_set": name,
                        "cell": cell,
                        "seed": seed,
                        "plain": right(0.0),
                        "tuned": right(1.0),
                        "share": head.share,
                        "accuracy": right(head.share),
                        "seconds": round(seconds, 1),
                        "model": checkpoint.fingerprint[:12],
                    }
                )
            tower.close()


if __name__ == "__main__":
    main()
