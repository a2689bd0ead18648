"""``sharpzo-fast`` against ``sharpzo``: stage 1 at equal generations, whole runs at equal forwards.

    python experiments/sharpzo_fast/run.py --data DATASETS --trials --seeds 1   # by validation
    python experiments/sharpzo_fast/run.py --data DATASETS --test               # the chosen ones
    python experiments/sharpzo_fast/run.py --table

Beside them, at the same 5,000 forwards, the strategies that search the whole context.

DATASETS holds ``eurosat/`` in CoOp's layout. 16 shots, the embedded model, seeds 1 to 3, one
thread. Each cell appends one line to ``results.jsonl`` (trials to ``trials.jsonl``) beside this
file, cells that are there already are skipped. ``--test`` reads the test split, once a cell, at the
end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from sharpzo import Budget
from sharpzo.data.loading import load
from sharpzo.methods import Task, find, fit
from sharpzo.metrics import accuracy
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode, wanted_views
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Step

HERE = Path(__file__).parent
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
    drawn = load(args.data, "eurosat", shots=16, seed=seed)
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


def table(path: Path) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    shown = ("test_accuracy", "validation_accuracy", "last_validation_loss", "last_training_loss")
    print(f"| cell | forwards | steps | {' | '.join(shown)} | seeds |\n|{'---|' * 8}")
    for name in dict.fromkeys(line["cell"] for line in lines):
        found = [line for line in lines if line["cell"] == name]
        words = [f"{np.mean([line[key] for line in found]):,.0f}" for key in ("forwards", "steps")]
        for key in shown:
            values = np.array([line.get(key, np.nan) for line in found])
            values = 100 * values if key.endswith("accuracy") else values
            digits = 1 if key.endswith("accuracy") else 3
            spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
            words.append(f"{np.mean(values):.{digits}f} ± {spread:.{digits}f}")
        print(f"| {name} | {' | '.join(words)} | {len(found)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("datasets"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--cache", type=Path, default=Path("datasets/cache"))
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--trials", action="store_true")
    kind.add_argument("--test", action="store_true")
    kind.add_argument("--table", action="store_true")
    parser.add_argument("--cells", nargs="+", choices=[*TESTED, *TRIALS], default=None)
    args = parser.parse_args()
    out = HERE / ("trials.jsonl" if args.trials else "results.jsonl")
    if args.table:
        table(HERE / "trials.jsonl")
        table(HERE / "results.jsonl")
        return
    cells = TRIALS if args.trials else TESTED
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {(line["cell"], line["seed"]) for line in lines}
    for name in args.cells or cells:
        for seed in args.seeds:
            if (name, seed) in done:
                continue
            line = {"cell": name, "seed": seed} | measure(cells[name], args, seed)
            with out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print({k: v for k, v in line.items() if k != "curve"}, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
