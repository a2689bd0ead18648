"""SharpZO, its ablations and its yardsticks at equal forwards on the embedded model.

    python experiments/spine/run.py --data DATASETS --dataset eurosat --seeds 1 2 3
    python experiments/spine/run.py --data DATASETS --dataset caltech101 --seeds 1

DATASETS holds ``eurosat/`` and ``caltech-101/`` in CoOp's layout. Each cell (data set, method,
seed) is one run of ``--forwards`` (40,000) and appends one line to ``results.jsonl`` beside this
file; cells that are there already are skipped, so an interrupted run goes on. A run of fewer
forwards is the beginning of a longer one, so the accuracy at 8,000 is read off the same run.

The test split is read after each run, for the points that validation had chosen by each
milestone; it chooses nothing. Image features are computed once and kept in ``--cache``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from sharpzo import Budget
from sharpzo.data.intake import load
from sharpzo.methods import Task, find, fit
from sharpzo.methods.prompt import with_measured_mu
from sharpzo.metrics import accuracy
from sharpzo.objective import ContextMap, PromptObjective, unit_std
from sharpzo.run import run
from sharpzo.search.sharpzo import SharpZo
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Features, Step

MILESTONES = (500, 1000, 2000, 4000, 8000, 12_000, 16_000, 24_000, 32_000, 40_000)
PAPER = {"eurosat": "paper/eurosat", "caltech101": "paper/caltech"}
# name -> method, preset, changed settings
CELLS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "zero-shot": ("zero-shot", None, {}),
    "linear-probe": ("linear-probe", None, {}),
    "projection": ("projection", None, {}),
    "cma-es": ("cma-es", None, {}),
    "sharp-cma-es": ("sharp-cma-es", None, {}),
    "sharpzo": ("sharpzo", None, {"search.zo.score": "z", "search.zo.keep": 0.5}),
    "sharpzo-magnitude": ("sharpzo", None, {"search.zo.score": "magnitude", "search.zo.keep": 0.5}),
    "sharpzo-dense": ("sharpzo", None, {"search.zo.score": "dense", "search.zo.keep": 1.0}),
    "sharpzo-paper": ("sharpzo", "PAPER", {}),
}


class Remembering(PromptObjective):
    """An objective that does not compute the same batch twice, but counts its forwards.

    The ablations of one seed share stage 1 to the bit, and a longer run begins as a shorter one;
    so a batch of candidates met before (in the same map A) gives its losses from memory. The
    memory is kept on disk, so a run that was killed goes on from there. Seconds of such runs mean
    nothing and are not reported.
    """

    def __init__(self, *args: Any, file: Path) -> None:
        super().__init__(*args)
        self.file, self.saved = file, time.monotonic()
        self.memory: dict[str, np.ndarray] = dict(np.load(file)) if file.exists() else {}

    def __call__(self, candidates: np.ndarray, step: int = 0) -> np.ndarray:
        content = candidates.tobytes() + self.contexts.matrix[:, 0].tobytes()
        key = hashlib.sha256(content).hexdigest()
        if key in self.memory:
            self.forwards += len(candidates)
        else:
            self.memory[key] = super().__call__(candidates)
            if time.monotonic() - self.saved > 120:
                self.save()
        return self.memory[key]

    def save(self) -> None:
        unfinished = self.file.with_suffix(".unfinished.npz")
        np.savez(unfinished, **self.memory)
        unfinished.replace(self.file)
        self.saved = time.monotonic()


def measure(
    cell: str,
    dataset: str,
    tower: OnnxTextTower,
    splits: dict[str, Features],
    seed: int,
    forwards: int,
    cache: Path,
) -> dict[str, Any]:
    """One line of results."""
    name, preset, changes = CELLS[cell]
    method = find(name)
    settings = method.configure(PAPER[dataset] if preset else None, changes)
    line: dict[str, Any] = {"dataset": dataset, "method": cell, "seed": seed}
    test = splits["test"]
    if not hasattr(settings, "search"):
        task = Task(splits["train"], splits["val"], tower, seed=seed)
        fitted = fit(method, settings, task)
        return line | {
            "forwards": fitted.forwards,
            "seconds": round(fitted.seconds, 2),
            "validation_accuracy": fitted.validation_accuracy,
            "test_accuracy": accuracy(fitted.head.scores(test), test.labels),
            "notes": dict(fitted.notes),
        }
    std = unit_std(tower) if settings.std is None else settings.std
    contexts = ContextMap(tower.start, dim=settings.dim, std=std, seed=seed)
    objective = Remembering(
        tower,
        splits["train"],
        contexts,
        splits["val"],
        file=cache / f"losses-{dataset}-{seed}.npz",
    )
    search = settings.search
    if settings.measure_mu:
        search = with_measured_mu(search, objective, seed)
    switched: list[int] = []

    def listen(step: Step) -> None:
        if step.stage == "sparse-zo":
            switched.append(step.forwards)

    result = run(
        SharpZo(settings.dim, search, seed=seed),
        objective,
        Budget(forwards=forwards),
        validate_every=settings.validate_every,
        choose=settings.choose,
        milestones=[mark for mark in MILESTONES if mark <= forwards],
        listen=listen,
    )
    objective.save()
    curve = [
        {
            "forwards": mark,
            "test_accuracy": accuracy(chosen.judged.head.scores(test), test.labels),
            "validation_accuracy": chosen.judged.validation_accuracy,
            "training_loss": round(chosen.judged.loss, 4),
        }
        for mark, chosen in result.milestones.items()
    ]
    return line | {
        "forwards": result.forwards,
        "steps": result.steps,
        "switched_at_forwards": switched[0] if switched else None,
        "stopped": result.reason.value,
        "validation_accuracy": result.chosen.judged.validation_accuracy,
        "test_accuracy": curve[-1]["test_accuracy"],
        "training_loss": round(result.chosen.judged.loss, 4),
        "curve": curve,
    }


def features(args: argparse.Namespace, seed: int) -> dict[str, Features]:
    """Features of one draw, from the cache or computed; the test split is encoded once."""
    checkpoint = Checkpoint.open(resolve(args.model))
    drawn = load(args.data, args.dataset, shots=args.shots, seed=seed)
    found = {}
    for name in ("train", "val", "test"):
        split = getattr(drawn, name)
        # A new text tower leaves image features as they are, so it is not in the key.
        key = hashlib.sha256((split.digest() + _image_key(checkpoint)).encode()).hexdigest()[:24]
        path = args.cache / f"{key}.npy"
        if not path.exists():
            vectors = encode(checkpoint, {name: split}, threads=args.threads)[name].vectors
            args.cache.mkdir(parents=True, exist_ok=True)
            np.save(path.with_suffix(f".{os.getpid()}.npy"), vectors)
            path.with_suffix(f".{os.getpid()}.npy").replace(path)
        found[name] = Features(np.load(path), split.labels, split.class_names, key)
    return found


def _image_key(checkpoint: Checkpoint) -> str:
    return checkpoint.digest(("vision_model.", "visual_projection."), repr(checkpoint.image))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", choices=sorted(PAPER), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--forwards", type=int, default=40_000)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--model", default=None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path("datasets/features"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.jsonl")
    args = parser.parse_args()
    done = set()
    if args.out.exists():
        lines = [json.loads(line) for line in args.out.read_text().splitlines()]
        done = {
            (line["dataset"], line["method"], line["seed"])
            for line in lines
            if "curve" not in line or line["curve"][-1]["forwards"] >= args.forwards
        }
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    checkpoint = Checkpoint.open(resolve(args.model))
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "threads": args.threads,
        "model": checkpoint.fingerprint[:12],
        "commit": commit,
    }
    for seed in args.seeds:
        todo = [cell for cell in args.methods if (args.dataset, cell, seed) not in done]
        if not todo:
            continue
        splits = features(args, seed)
        tower = OnnxTextTower(checkpoint, splits["train"].class_names, threads=args.threads)
        for cell in todo:
            begin = time.perf_counter()
            line = (
                measure(cell, args.dataset, tower, splits, seed, args.forwards, args.cache)
                | {"shots": args.shots}
                | machine
            )
            with args.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(
                f"{args.dataset} {cell} seed {seed}: test {line['test_accuracy']:.3f} "
                f"({time.perf_counter() - begin:.0f} s)",
                file=sys.stderr,
            )
        tower.close()


if __name__ == "__main__":
    main()
