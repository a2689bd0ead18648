"""How the defaults of ``sharpzo`` were chosen: validation accuracy on the demo photos.

    python experiments/defaults/run.py

Fashion-MNIST demo draws of seeds 1 to 3 (160 training, 40 validation photos), embedded model, 8,000
forwards each. The test photos are not read. Each cell appends one line to ``results.jsonl``; cells
that are there already are skipped. ``--table`` prints the means.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from sharpzo import Budget
from sharpzo.data.demo import load_demo
from sharpzo.methods import Task, find, fit
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower

OUT = Path(__file__).parent / "results.jsonl"
DENSE = {"search.zo.score": "dense", "search.zo.keep": 1.0}
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"cma-es sigma {s}": ("cma-es", {"search.cma.sigma": s}) for s in (0.1, 0.2, 0.4, 0.8)},
    **{
        f"sharp-cma-es rho {rho}": ("sharp-cma-es", {"search.sharpness.rho": rho})
        for rho in (0.1, 0.5, 2.0)
    },
    **{
        f"sharpzo switch {switch} eta {eta}": (
            "sharpzo",
            {"search.switch.generation": switch, "search.zo.learning_rate": eta},
        )
        for switch, eta in ((0, 0.3), (50, 0.1), (50, 0.3), (50, 1.0), (100, 0.3))
    },
    "sharpzo dense eta 0.1": ("sharpzo", {**DENSE, "search.zo.learning_rate": 0.1}),
    "sharpzo dense eta 0.2": ("sharpzo", {**DENSE, "search.zo.learning_rate": 0.2}),
    "sharpzo refresh 200": ("sharpzo", {"search.zo.refresh": 200}),
}


def table() -> None:
    lines = [json.loads(line) for line in OUT.read_text().splitlines()]
    for cell in CELLS:
        found = [line for line in lines if line["cell"] == cell]
        if found:
            accuracy = [100 * line["validation_accuracy"] for line in found]
            loss = [line["training_loss"] for line in found]
            print(
                f"| {cell} | {np.mean(accuracy):.1f} ± {np.std(accuracy):.1f} | "
                f"{np.mean(loss):.3f} ± {np.std(loss):.3f} | {len(found)} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--forwards", type=int, default=8000)
    args = parser.parse_args()
    if args.table:
        table()
        return
    lines = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []
    done = {(line["cell"], line["seed"]) for line in lines}
    checkpoint = Checkpoint.open(resolve(None))
    for seed in args.seeds:
        demo = load_demo(seed)
        encoded = encode(checkpoint, {"train": demo.train, "val": demo.val}, threads=1)
        tower = OnnxTextTower(checkpoint, demo.class_names, threads=1)
        for cell, (name, changes) in CELLS.items():
            if (cell, seed) in done:
                continue
            method = find(name)
            task = Task(
                encoded["train"], encoded["val"], tower, seed, Budget(forwards=args.forwards)
            )
            settings = method.configure(None, changes)
            fitted = fit(method, settings, task)
            line = {
                "cell": cell,
                "seed": seed,
                "validation_accuracy": fitted.validation_accuracy,
                "training_loss": round(fitted.notes["training_loss"], 4),
                "forwards": fitted.forwards,
                "seconds": round(fitted.seconds, 1),
                "changes": changes,
                "model": checkpoint.fingerprint[:12],
            }
            with OUT.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line["cell"], seed, line["validation_accuracy"], line["training_loss"])


if __name__ == "__main__":
    main()
