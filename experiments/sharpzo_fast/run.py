"""``sharpzo-fast`` against ``sharpzo``: stage 1 at equal generations, whole runs at equal forwards.

    python experiments/sharpzo_fast/run.py --data DATASETS --trials --seeds 1   # by validation
    python experiments/sharpzo_fast/run.py --data DATASETS --test               # the chosen ones
    python experiments/sharpzo_fast/run.py --table

Beside them, at the same 5,000 forwards, the strategies that search the whole context.

DATASETS holds ``eurosat/`` in CoOp's layout. 16 shots, the embedded model, seeds 1 to 3, one
thread. Each cell appends one line to ``results.jsonl`` (trials to ``trials.jsonl``) beside this
file, cells that are there already are skipped. ``--test`` reads the test split, once per cell, at
the end.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines, show

from sharpzo import Budget
from sharpzo.methods import Task, find, fit
from sharpzo.metrics import accuracy
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode, wanted_views
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Step

TRIED, CHOSEN = (Lines(__file__, f"{name}.jsonl", "cell", "seed") for name in ("trials", "results"))
GENERATIONS = 40


@dataclass(frozen=True)
class Cell:
    """A method, how it is set and what it may spend."""

    method: str
    preset: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)


# Stage 1 alone: the paper's EuroSAT settings (T_c = 500) for the first 40 generations.
STAGE_1 = {"preset": "paper/eurosat", "budget": Budget(steps=GENERATIONS)}
DEFAULT = Budget(forwards=5000)

TESTED = {
    "stage 1, sharpzo": Cell("sharpzo", **STAGE_1),
    "stage 1, sharpzo-fast": Cell("sharpzo-fast", **STAGE_1),
    "sharpzo-fast": Cell("sharpzo-fast", budget=DEFAULT),
    "sep-cma-es": Cell("sep-cma-es", budget=DEFAULT),
    "lm-ma-es": Cell("lm-ma-es", budget=DEFAULT),
}
TRIALS = {
    f"switch {switch}, q {q}, eta {eta}": Cell(
        "sharpzo-fast",
        changes={
            "search.switch.generation": switch,
            "search.zo.queries": q,
            "search.zo.learning_rate": eta,
        },
        budget=DEFAULT,
    )
    for switch, q, eta in (
        (50, 1, 0.3),
        (50, 8, 1.0),
        (10, 8, 1.0),
        (10, 8, 3.0),
        (10, 8, 10.0),
    )
}


def measure(cell: Cell, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One run; the test split is read if wished, for the point that was settled for."""
    begin = time.perf_counter()
    checkpoint = Checkpoint.open(resolve(None))
    method = find(cell.method)
    settings = method.configure(cell.preset, cell.changes)
    drawn = harness.draw(args.data, "eurosat", seed)
    splits = {"train": drawn.train, "val": drawn.val}
    splits |= wanted_views(checkpoint, drawn.train, method.views(settings), seed)
    if args.test:
        splits["test"] = drawn.test
    found = encode(checkpoint, splits, threads=1, cache=args.cache)
    tower = OnnxTextTower(checkpoint, drawn.class_names, threads=1)
    steps: list[Step] = []
    task = Task(found["train"], found["val"], tower, seed, cell.budget, steps.append,
                found.get("views"))  # fmt: skip
    fitted = fit(method, settings, task)
    tower.close()
    line = {
        "forwards": fitted.forwards,
        "steps": fitted.steps,
        "validation_accuracy": fitted.validation_accuracy,
        "last_training_loss": round(steps[-1].loss, 4),
        "last_validation_loss": round(steps[-1].validation_loss or 0.0, 4),
        "stopped": fitted.reason.name,
        "seconds": round(time.perf_counter() - begin, 1),
        "curve": [
            (s.step, s.forwards, round(s.loss, 4), round(s.validation_loss or 0.0, 4))
            for s in steps[:: max(1, len(steps) // 20)]
        ],
    }
    if args.test:
        test = found["test"]
        line["test_accuracy"] = round(accuracy(fitted.head.scores(test), test.labels), 4)
    return line | {"model": checkpoint.fingerprint[:12]}


def table(lines: list[dict[str, Any]]) -> str:
    shown = ("test_accuracy", "validation_accuracy", "last_validation_loss", "last_training_loss")
    rows = []
    for name in dict.fromkeys(line["cell"] for line in lines):
        found = [line for line in lines if line["cell"] == name]
        words = [f"{np.mean([line[key] for line in found]):,.0f}" for key in ("forwards", "steps")]
        for key in shown:
            values = np.array([line.get(key, np.nan) for line in found])
            right = key.endswith("accuracy")
            words.append(show(100 * values, 1) if right else show(values, 3))
        rows.append([name, *words, str(len(found))])
    return harness.table(["cell", "forwards", "steps", *shown, "seeds"], rows)


def main() -> None:
    parser = harness.parser(__doc__, cells=[*TESTED, *TRIALS])
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--trials", action="store_true")
    kind.add_argument("--test", action="store_true")
    kind.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        print(table(TRIED.read()), table(CHOSEN.read()), sep="\n")
        return
    cells, lines = (TRIALS, TRIED) if args.trials else (TESTED, CHOSEN)
    done = lines.done()
    for name in cells:
        for seed in args.seeds:
            if name in args.cells and (name, seed) not in done:
                lines.append({"cell": name, "seed": seed} | measure(cells[name], args, seed))


if __name__ == "__main__":
    main()
