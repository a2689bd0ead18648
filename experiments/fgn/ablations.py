"""Each ingredient of FGN, one at a time: ``fgn`` and, with class-specific contexts, ``fgn-csc``.

    python experiments/fgn/ablations.py --data DATASETS            # judged on photos of other draws
    python experiments/fgn/ablations.py --data DATASETS --test --cells fgn csc
    python experiments/fgn/ablations.py --write    # the table of docs/fgn.md, from what is there

16 shots, the embedded model, runs of 5,000 forwards, seeds 1 to 3; a line of ``ablations.jsonl``
beside this file is one run, lines that are there are skipped. ``other`` photos are those that the
draws of the other seeds hold for training and validation and this draw does not: they chose the
settings. The test split is read with ``--test`` alone. A run gives the points where the search had
got to at some numbers of forwards, or what 40 validation photos had chosen by then.
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
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.demo import load_demo
from sharpzo.data.loading import load
from sharpzo.methods import Task, find, fit
from sharpzo.metrics import accuracy
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode, wanted_views
from sharpzo.towers.tower import OnnxTextTower

OUT = Path(__file__).parent / "ablations.jsonl"
SEEDS = (1, 2, 3)
MARKS = (500, 1000, 2000, 5000)
PAGE = Path(__file__).parents[2] / "docs" / "fgn.md"
MARKERS = "<!-- ablations -->", "<!-- /ablations -->"
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


def draw(args: argparse.Namespace, dataset: str, seed: int) -> Dataset:
    return load_demo(seed) if dataset == "demo" else load(args.data, dataset, shots=16, seed=seed)


def others(args: argparse.Namespace, dataset: str, seed: int) -> LabelledPhotos:
    """Photos of the other seeds' draws that this one does not hold."""
    own = draw(args, dataset, seed)
    seen = {photo.digest() for part in (own.train, own.val) if part for photo in part.photos}
    photos, labels = [], []
    for other in SEEDS:
        drawn = draw(args, dataset, other)
        for part in (drawn.train, drawn.val):
            for photo, label in zip(part.photos, part.labels, strict=True) if part else ():
                if (digest := photo.digest()) not in seen:
                    seen.add(digest)
                    photos.append(photo)
                    labels.append(int(label))
    return LabelledPhotos(tuple(photos), np.array(labels), own.class_names)


def run(args: argparse.Namespace, dataset: str, cell: str, seed: int) -> dict[str, Any]:
    checkpoint, drawn = Checkpoint.open(resolve(None)), draw(args, dataset, seed)
    name, changes = CELLS[cell]
    method = find(name)
    settings = method.configure("projected" if "projected" in cell else None, changes)
    judged_on = drawn.test if args.test else others(args, dataset, seed)
    splits = {"train": drawn.train, "val": drawn.val, "judged": judged_on}
    splits |= wanted_views(checkpoint, drawn.train, method.views(settings), seed)
    found = encode(checkpoint, splits, threads=1, cache=args.cache)
    tower = OnnxTextTower(checkpoint, drawn.class_names, threads=1)
    task = Task(
        found["train"], found["val"], tower, seed, Budget(5000),
        views=found.get("views"), milestones=MARKS,
    )  # fmt: skip

    def judge(head: Any) -> float:
        return round(accuracy(head.scores(found["judged"]), found["judged"].labels), 4)

    begin = time.perf_counter()
    fitted = fit(method, settings, task)
    seconds = time.perf_counter() - begin
    return {
        "dataset": dataset, "cell": cell, "seed": seed,
        "judged": "test" if args.test else "other", "photos": len(judged_on),
        "forwards": fitted.forwards, "steps": fitted.steps, "seconds": round(seconds, 1),
        "training_loss": round(fitted.notes["training_loss"], 4),
        "accuracy": {m: judge(chosen.judged.head) for m, chosen in fitted.milestones.items()},
        "model": checkpoint.fingerprint[:12],
    }  # fmt: skip


def table(dataset: str, judged: str) -> list[str]:
    """Mean and standard deviation over seeds, in percent, of every cell."""
    lines = [json.loads(line) for line in OUT.read_text().splitlines()]
    some = [x for x in lines if (x["dataset"], x["judged"]) == (dataset, judged)]
    rows = [f"| | {' | '.join(f'{m:,}' for m in MARKS)} | seeds |", "|---" * (len(MARKS) + 2) + "|"]
    for cell in sorted(
        {x["cell"] for x in some}, key=lambda cell: (cell.split(",")[0], [*CELLS].index(cell))
    ):
        found = [x["accuracy"] for x in some if x["cell"] == cell]
        words = []
        for mark in map(str, MARKS):
            values = [100 * one[mark] for one in found]
            spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            words.append(f"{np.mean(values):.1f}{spread}")
        rows.append(f"| {cell} | {' | '.join(words)} | {len(found)} |")
    return rows


def write() -> None:
    """Put the ablations into the page and print the runs on test splits."""
    before, _, rest = PAGE.read_text("utf-8").partition(MARKERS[0])
    after = rest.partition(MARKERS[1])[2]
    middle = "\n\n".join(["", "\n".join(table("eurosat", "other")), ""])
    PAGE.write_text(before + MARKERS[0] + middle + MARKERS[1] + after, "utf-8")
    for dataset in ("eurosat", "demo"):
        print(f"\n{dataset}, test split\n" + "\n".join(table(dataset, "test")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("datasets"))
    parser.add_argument("--cache", type=Path, default=Path("datasets/features"))
    parser.add_argument("--datasets", nargs="+", default=["eurosat"])
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--test", action="store_true", help="judge on the test split")
    parser.add_argument("--write", action="store_true", help="the table of docs/fgn.md")
    args = parser.parse_args()
    if args.write:
        write()
        return
    lines = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []
    kind = "test" if args.test else "other"
    done = {(x["dataset"], x["cell"], x["seed"]) for x in lines if x["judged"] == kind}
    for dataset in args.datasets:
        for cell in args.cells:
            for seed in args.seeds:
                if (dataset, cell, seed) in done:
                    continue
                line = run(args, dataset, cell, seed)
                with OUT.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
