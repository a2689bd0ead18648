"""FGN's settings by validation, and what the chosen ones do on the test split.

    python experiments/fgn/run.py --data DATASETS --dataset eurosat            # the trials
    python experiments/fgn/run.py --data DATASETS --dataset eurosat --test fgn # the chosen one
    python experiments/fgn/run.py --table

DATASETS holds ``eurosat/`` in CoOp's layout; ``--dataset demo`` needs none. 16 shots, the embedded
model, one run of ``--forwards`` a cell and seed; the choice that a run of 2,000 would have made is
read off the same run. Each cell appends one line to ``results.jsonl`` beside this file, cells that
are there already are skipped. The test split is read for the cells named by ``--test`` alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from sharpzo import Budget
from sharpzo.data.demo import load_demo
from sharpzo.data.intake import load
from sharpzo.methods import Task, find, fit
from sharpzo.metrics import accuracy
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Features, Step

OUT = Path(__file__).parent / "results.jsonl"
MILESTONES = (1000, 2000, 5000)
SHOWN = {
    "validation_accuracy": 100,
    "test_accuracy": 100,
    "validation_loss": 1,
    "training_loss": 1,
    "last_validation_loss": 1,
    "last_training_loss": 1,
}
# name -> changed settings
CELLS: dict[str, dict[str, Any]] = {
    "fgn": {},
    **{f"window {w}": {"search.window": w} for w in (128, 512)},
    **{f"p {p}": {"search.directions": p} for p in (16, 64, 128)},
    **{
        f"p {p} reuse {r} candidates {c}": {
            "search.directions": p,
            "search.reuse": r,
            "search.candidates": c,
        }
        for p, r, c in ((32, 1, 2), (32, 3, 2), (64, 3, 4))
    },
    **{f"history {h}": {"search.history": h} for h in (4, 12)},
    "all directions random": {"search.history": 0, "search.memory": 0.0},
    **{f"radius {x}": {"search.radius": x} for x in (0.5, 1.0, 4.0)},
    **{f"dim {d}": {"dim": d} for d in (64, 256)},
    **{f"difference {x}": {"difference": x} for x in (0.003, 0.03)},
    **{f"rho {x}": {"search.rho": x} for x in (0.1, 0.3, 1.0)},
    "no memory of the gradient": {"search.memory": 0.0},
    **{f"tangent cost {x}": {"tangent_cost": x} for x in (1.1, 1.2)},
}


def splits(args: argparse.Namespace, seed: int, wanted: tuple[str, ...]) -> dict[str, Features]:
    """Features of one draw, computed once and kept in ``--cache``."""
    checkpoint = Checkpoint.open(resolve(None))
    drawn = load_demo(seed)
    if args.dataset != "demo":
        drawn = load(args.data, args.dataset, shots=16, seed=seed)
    chosen = {name: getattr(drawn, name) for name in wanted}
    return encode(checkpoint, chosen, threads=1, cache=args.cache)


def measure(
    cell: str, tower: OnnxTextTower, found: dict[str, Features], seed: int, forwards: int
) -> dict[str, Any]:
    """One line of results."""
    begin = time.perf_counter()
    method = find("fgn")
    steps: list[Step] = []
    marks = tuple(mark for mark in MILESTONES if mark <= forwards)
    budget = Budget(forwards=forwards)
    task = Task(found["train"], found["val"], tower, seed, budget, steps.append, milestones=marks)
    fitted = fit(method, method.configure(None, CELLS[cell]), task)
    curve = []
    for mark, chosen in fitted.milestones.items():
        judged = chosen.judged
        point = {
            "forwards": mark,
            "validation_accuracy": judged.validation_accuracy,
            "validation_loss": round(judged.validation_loss or 0.0, 4),
            "training_loss": round(judged.loss, 4),
        }
        # Where the search had got to, chosen or not: less noisy than the choice of 40 photos.
        last = [step for step in steps if step.forwards <= mark][-1]
        point["last_training_loss"] = round(last.loss, 4)
        point["last_validation_loss"] = round(last.validation_loss or 0.0, 4)
        if "test" in found:
            test = found["test"]
            point["test_accuracy"] = round(accuracy(judged.head.scores(test), test.labels), 4)
        curve.append(point)
    return {
        "cell": cell,
        "seed": seed,
        "forwards": fitted.forwards,
        "rounds": fitted.steps,
        "linearisations": fitted.notes["linearisations"],
        "stopped": fitted.reason.value,
        "seconds": round(time.perf_counter() - begin, 1),
        "curve": curve,
    }


def table() -> None:
    lines = [json.loads(line) for line in OUT.read_text().splitlines()]
    for group in dict.fromkeys((line["dataset"], line["budget"]) for line in lines):
        print(f"\n{group}\n| cell | {', '.join(SHOWN)} by forwards | seeds |")
        for cell in dict.fromkeys(line["cell"] for line in lines):
            found = [x for x in lines if (x["cell"], x["dataset"], x["budget"]) == (cell, *group)]
            if not found:
                continue
            words = []
            for place, mark in enumerate(point["forwards"] for point in found[0]["curve"]):
                points = [line["curve"][place] for line in found]
                word = f"{mark}:"
                for key, factor in SHOWN.items():
                    if all(key in point for point in points):
                        values = factor * np.array([point[key] for point in points])
                        word += f" {np.mean(values):.{1 if factor > 1 else 2}f}"
                words.append(word)
            print(f"| {cell} | {' | '.join(words)} | {len(found)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("datasets"))
    parser.add_argument("--dataset", choices=("demo", "eurosat"), default="demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--test", nargs="+", choices=CELLS, default=[])
    parser.add_argument("--forwards", type=int, default=5000)
    parser.add_argument("--cache", type=Path, default=Path("datasets/features"))
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        table()
        return
    lines = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []
    done = {
        (line["dataset"], line["cell"], line["seed"])
        for line in lines
        if line["budget"] == args.forwards
        and (not args.test or "test_accuracy" in line["curve"][0])
    }
    checkpoint = Checkpoint.open(resolve(None))
    names = ("train", "val", "test") if args.test else ("train", "val")
    for seed in args.seeds:
        cells = [c for c in args.test or args.cells if (args.dataset, c, seed) not in done]
        if not cells:
            continue
        found = splits(args, seed, names)
        tower = OnnxTextTower(checkpoint, found["train"].class_names, threads=1)
        for cell in cells:
            line = {"dataset": args.dataset} | measure(cell, tower, found, seed, args.forwards)
            line |= {
                "budget": args.forwards,
                "changes": CELLS[cell],
                "model": checkpoint.fingerprint[:12],
            }
            with OUT.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(seed, cell, line["curve"][-1], line["seconds"], file=sys.stderr)


if __name__ == "__main__":
    main()
