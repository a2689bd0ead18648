"""The schedule of ``clip-lora``, chosen on held-out development photos.

    python experiments/backprop/lora.py --data DATASETS
    python experiments/backprop/lora.py --table

Embedded model at 112 pixels, one draw (seed 1): 16 photos per class of EuroSAT and Caltech-101, 4
of Fashion-MNIST. Accuracy is that on 400 held-out development photos: those that the draws of the
other seeds hold and this draw does not. The test split is not read. A line of ``lora.jsonl`` beside
this file is one run, under torch's autocast to bfloat16; lines that are there are skipped. A cell
is the default with other steps or another rate; ``passes`` is how often its batches pass each
photo.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines

from sharpzo.methods import Task, find, fit
from sharpzo.methods.registry import Images
from sharpzo.metrics import accuracy
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower

LINES = Lines(__file__, "lora.jsonl", "data_set", "cell", "seed")
SHOTS = {"caltech101": 16, "eurosat": 16, "demo": 4}
HELD = 400
CELLS: dict[str, dict[str, Any]] = {
    "120 steps": {"steps": 120},
    "30 steps": {"steps": 30},
    "60 steps": {"steps": 60},
    "60 steps, rate 0.002": {"steps": 60, "rate": 0.002},
    "60 steps, rate 0.01": {"steps": 60, "rate": 0.01},
    "250 steps": {"steps": 250},
    "500 steps": {"steps": 500},
}


def table() -> str:
    """A row per data set and cell, in that order."""
    found = {(line["data_set"], line["cell"]): line for line in LINES.read()}
    rows = [
        [f"{name}, {SHOTS[name]} per class", cell, f"{line['passes']:.1f}",
         f"{100 * line['accuracy']:.1f}", f"{line['seconds']:.0f}"]
        for name in SHOTS for cell in CELLS if (line := found.get((name, cell)))
    ]  # fmt: skip
    return harness.table(["photos", "cell", "passes", "accuracy %", "seconds"], rows)


def measured(args: Any, checkpoint: Checkpoint, name: str, cell: str, seed: int) -> dict[str, Any]:
    """Train on one draw, and score development photos."""
    import torch

    method, drawn = find("clip-lora"), harness.draw(args.data, name, seed, SHOTS[name])
    held = harness.development(args.data, name, seed)
    held = held.take(np.sort(np.random.default_rng(0).permutation(len(held))[:HELD]))
    splits = {"train": drawn.train, "val": drawn.val}
    photos = encode(checkpoint, splits, threads=1, cache=args.cache)
    images = Images(drawn.train, drawn.val, lambda: OnnxImageTower(checkpoint, threads=1))
    tower = OnnxTextTower(checkpoint, drawn.class_names, threads=1)
    task = Task(photos["train"], photos["val"], tower, seed, images=images)
    # Without autocast's cache, which would keep weights as they were before a step.
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        begin = time.process_time()
        fitted = fit(method, method.configure(None, CELLS[cell]), task)
        seconds = time.process_time() - begin
        seen = encode(checkpoint, {"held": held}, threads=1, detours=[fitted.head.detour])["held"]
    tower.close()
    return {
        "passes": round(fitted.notes["backward_passes"] / len(drawn.train), 1),
        "accuracy": round(accuracy(fitted.head.scores(seen), seen.labels), 4),
        "seconds": round(seconds, 1),
        "model": checkpoint.fingerprint[:12],
    }


def main() -> None:
    parser = harness.parser(__doc__, SHOTS, CELLS)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        print(table())
        return
    checkpoint = Checkpoint.open(resolve(None))
    for name in args.datasets:
        for cell in args.cells:
            if (name, cell, 1) not in LINES.done():
                key = {"data_set": name, "cell": cell, "seed": 1}
                LINES.append(key | measured(args, checkpoint, name, cell, 1))


if __name__ == "__main__":
    main()
