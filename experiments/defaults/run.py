"""How the default of ``sharpzo`` was chosen, and what each part of it is worth.

    python experiments/defaults/run.py --data DATASETS
    python experiments/defaults/run.py --data DATASETS --forwards 40000 --cells default dense
    python experiments/defaults/run.py --table

DATASETS holds ``eurosat/`` and ``caltech-101/`` in CoOp's layout; Fashion-MNIST is the
demo set. 16 shots, the embedded model, seeds 1 to 3. Accuracy is that on held-out
development photos: those that the draws of the other seeds hold and this draw does not. The test
split is not read. A line of ``results.jsonl`` beside this file is one run, lines that are there are
skipped. A cell is the default with one thing changed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from sharpzo import Budget
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.demo import load_demo
from sharpzo.data.loading import load
from sharpzo.methods import Task, find, fit
from sharpzo.metrics import accuracy
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower

OUT = Path(__file__).parent / "results.jsonl"
SEEDS = (1, 2, 3)
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


def draw(args: argparse.Namespace, name: str, seed: int) -> Dataset:
    return load_demo(seed) if name == "demo" else load(args.data, name, shots=16, seed=seed)


def held_out(args: argparse.Namespace, name: str, seed: int) -> LabelledPhotos:
    """Photos of the other seeds' draws that this one does not hold."""
    own = draw(args, name, seed)
    seen = {photo.digest() for part in (own.train, own.val) if part for photo in part.photos}
    photos, labels = [], []
    for other in SEEDS:
        drawn = draw(args, name, other)
        for part in (drawn.train, drawn.val):
            for photo, label in zip(part.photos, part.labels, strict=True) if part else ():
                if (digest := photo.digest()) not in seen:
                    seen.add(digest)
                    photos.append(photo)
                    labels.append(int(label))
    return LabelledPhotos(tuple(photos), np.array(labels), own.class_names)


def table() -> None:
    """Means over seeds, ± their standard deviation, one row per data set, budget and cell."""
    found: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for line in OUT.read_text().splitlines():
        run = json.loads(line)
        found[run["data_set"], run["budget"], run["cell"]].append(run)
    print("| data set | forwards | cell | seeds | development % | training loss |")
    print("|---|---|---|---|---|---|")
    for (name, budget, cell), runs in sorted(
        found.items(), key=lambda item: (*item[0][:2], list(CELLS).index(item[0][2]))
    ):
        right = [100 * run["accuracy"] for run in runs]
        loss = [run["training_loss"] for run in runs]
        print(
            f"| {name} | {budget:,} | {cell} | {len(runs)} | "
            f"{np.mean(right):.1f} ± {np.std(right):.1f} | "
            f"{np.mean(loss):.3f} ± {np.std(loss):.3f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--data-sets", nargs="+", default=["eurosat", "demo"])
    parser.add_argument("--cells", nargs="+", default=list(CELLS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--forwards", type=int, default=5000)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        table()
        return
    lines = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []
    done = {(line["data_set"], line["budget"], line["cell"], line["seed"]) for line in lines}
    checkpoint, method = Checkpoint.open(resolve(None)), find("sharpzo")
    for name in args.data_sets:
        for seed in args.seeds:
            todo = [c for c in args.cells if (name, args.forwards, c, seed) not in done]
            if not todo:
                continue
            drawn = draw(args, name, seed)
            splits = {"train": drawn.train, "val": drawn.val, "held": held_out(args, name, seed)}
            photos = encode(checkpoint, splits, threads=1, cache=args.cache)
            tower = OnnxTextTower(checkpoint, drawn.class_names, threads=1)
            for cell in todo:
                preset = cell if cell in method.presets else None
                settings = method.configure(preset, CELLS[cell])
                begin = time.perf_counter()
                fitted = fit(
                    method,
                    settings,
                    Task(photos["train"], photos["val"], tower, seed, Budget(args.forwards)),
                )
                held = photos["held"]
                line = {
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
                with OUT.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)
            tower.close()


if __name__ == "__main__":
    main()
