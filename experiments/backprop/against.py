"""The default beside methods that backpropagate through the image tower, on test photos.

    python experiments/backprop/against.py --data DATASETS --cache FOLDER
    python experiments/backprop/against.py --write      # the table of docs/closed-forms.md

Embedded model at 112 pixels, 1, 4 and 16 photos per class with validation photos, seeds 1 to 3, one
thread. A line of ``against.jsonl`` beside this file is one fit, in a process of its own, from
photos to a classifier without a cache: ``seconds`` is its processor time and ``peak`` its memory
in MB, both as the system counts them from outside. Accuracy is that on 2,500 photos of the test
split of EuroSAT, all 2,465 of Caltech-101 and the demo's 500 of Fashion-MNIST, the same for every
method. Lines that are there are skipped.

Methods that backpropagate run under torch's autocast to bfloat16, in which they take half of the
time. A line of a processor without it says so: these methods run in float32 there, and its costs
are not compared with those on another processor. The settings of `tune-blocks` were chosen by
`run.py` beside this file, steps and rate of `clip-lora` by `lora.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines, show

from sharpzo import PromptClassifier
from sharpzo.machine import instructions

LINES = Lines(__file__, "against.jsonl", "dataset", "shots", "seed", "way")
DATASETS = {"eurosat": "EuroSAT", "demo": "Fashion-MNIST", "caltech101": "Caltech-101"}
SHOTS = (1, 4, 16)
PHOTOS = 2500
WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "default, views": {"settings": {"views": 4}},
    "ladder+image": {"method": "ladder+image"},
    "ladder+image, views": {"method": "ladder+image", "settings": {"views": 4}},
    "tune-blocks": {"method": "tune-blocks"},
    "tune-blocks, views": {"method": "tune-blocks", "settings": {"views": 4}},
    "clip-lora": {"method": "clip-lora"},
    "default, 224 pixels": {"image_size": 224},
}
BACKWARD = ("tune-blocks", "clip-lora")


def bfloat16() -> bool:
    """Whether the processor multiplies bfloat16; torch's emulation is fifty times slower."""
    return "bfloat16" in (instructions() or ())


def arithmetic(way: str) -> Any:
    """Autocast for the methods that backpropagate."""
    if WAYS[way].get("method") not in BACKWARD or not bfloat16():
        return nullcontext()
    import torch

    # Without autocast's cache, which would keep weights as they were before a step.
    return torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False)


def fit(data: Path, key: dict[str, Any], run: Path) -> None:
    """Fit from photos, in this process."""
    drawn = harness.draw(data, key["dataset"], key["seed"], key["shots"])
    options = {"image_size": 112, **WAYS[key["way"]]}
    classifier = PromptClassifier(
        options.pop("method", "ladder+tokens"),
        seed=key["seed"], threads=1, decoding="exact", **options,
    )  # fmt: skip
    with arithmetic(key["way"]):
        classifier.fit(drawn)
    classifier.save(run)


def evaluate(data: Path, key: dict[str, Any], run: Path, cache: Path) -> float:
    """Accuracy on the test photos."""
    test = harness.draw(data, key["dataset"], key["seed"], key["shots"]).test
    assert test is not None
    order = np.random.default_rng(0).permutation(len(test))[:PHOTOS]
    with arithmetic(key["way"]):
        return PromptClassifier.load(run, cache=cache).evaluate(test.take(np.sort(order))).accuracy


def measured(args: Any, key: dict[str, Any]) -> dict[str, Any]:
    """Fit in a process of its own, evaluate in another."""
    own = [sys.executable, __file__, "--data", str(args.data), "--cache", str(args.cache)]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        for part in ("fit", "evaluate"):
            command = [*own, "--part", part, "--key", json.dumps(key), "--run", str(run)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            printed = process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
            if status:
                raise SystemExit(f"{part} of {key} ended with {status}")
            if part == "fit":
                record = json.loads((run / "run.json").read_text("utf-8"))
                key = {
                    **key,
                    "seconds": round(used.ru_utime + used.ru_stime, 1),
                    "peak": round(used.ru_maxrss / 1024),
                    "notes": {name: record["notes"][name] for name in ("block_passes", "steps")
                              if name in record.get("notes", {})},
                }  # fmt: skip
    if not bfloat16():
        key["arithmetic"] = "float32"
    return {**key, "accuracy": round(float(printed), 4)}


def accuracies() -> str:
    """A row per set and number of photos, a column per way."""
    return harness.table(["photos", *_ways()], _rows("accuracy", 100, 1))


def differences() -> str:
    """What the default's views are ahead of each way that backpropagates, on the same draws: the
    mean with its 95 % interval (Student's t), for sets whose draws are all there."""
    found = {
        (line["dataset"], line["shots"], line["way"], line["seed"]): 100 * line["accuracy"]
        for line in LINES.read()
    }
    others = [way for way in _ways() if WAYS[way].get("method") in BACKWARD]
    rows = []
    for name, title in DATASETS.items():
        for shots in SHOTS:
            row = [f"{title}, {shots} per class"]
            for other in others:
                pairs = [[found.get((name, shots, way, seed)) for way in ("default, views", other)]
                         for seed in harness.SEEDS]  # fmt: skip
                ahead = [ours - theirs for ours, theirs in pairs
                         if ours is not None and theirs is not None]  # fmt: skip
                row.append(_interval(ahead) if len(ahead) == len(harness.SEEDS) else "–")
            rows.append(row)
    return harness.table(["photos", *(f"views − {other}" for other in others)], rows)


def _interval(values: list[float]) -> str:
    half = 4.303 * np.std(values, ddof=1) / np.sqrt(3)  # t of two degrees of freedom
    return f"{np.mean(values):+.1f} ± {half:.1f}"


def costs() -> str:
    """Processor seconds and peak memory of a fit, encoding the photos included."""
    seconds, peaks = (_rows(what, 1, 0, spread=False) for what in ("seconds", "peak"))
    rows = [
        [label, *("–" if s == "–" else f"{s} s, {p} MB" for s, p in zip(a, b, strict=True))]
        for (label, *a), (_, *b) in zip(seconds, peaks, strict=True)
    ]
    return harness.table(["photos", *_ways("seconds")], rows)


def _lines(what: str) -> list[dict[str, Any]]:
    """Those that count for accuracy, or for cost."""
    return [line for line in LINES.read() if what == "accuracy" or "arithmetic" not in line]


def _ways(what: str = "accuracy") -> list[str]:
    found = {line["way"] for line in _lines(what)}
    return [way for way in WAYS if way in found]


def _rows(what: str, factor: float, digits: int, spread: bool = True) -> list[list[str]]:
    rows = []
    for name, title in DATASETS.items():
        for shots in SHOTS:
            row = [f"{title}, {shots} per class"]
            for way in _ways(what):
                found = [
                    factor * line[what]
                    for line in _lines(what)
                    if (line["dataset"], line["shots"], line["way"]) == (name, shots, way)
                ]
                shown = show(found if spread else [np.mean(found)], digits) if found else "–"
                fewer = f" ({len(found)} of 3 draws)" if spread and 0 < len(found) < 3 else ""
                row.append(shown + fewer)
            rows.append(row)
    return rows


def main() -> None:
    parser = harness.parser(__doc__, DATASETS)
    parser.add_argument("--shots", type=int, nargs="+", default=list(SHOTS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--part", choices=["fit", "evaluate"])
    parser.add_argument("--key", type=json.loads)
    parser.add_argument("--run", type=Path)
    args = parser.parse_args()
    if args.part == "fit":
        fit(args.data, args.key, args.run)
        return
    if args.part == "evaluate":
        print(evaluate(args.data, args.key, args.run, args.cache))
        return
    if args.table or args.write:
        parts = {
            "against": accuracies(),
            "against-differences": differences(),
            "against-costs": costs(),
        }
        harness.publish("closed-forms.md", parts, args.write)
        return
    for way in args.ways:
        for seed in args.seeds:
            for shots in args.shots:
                for name in args.datasets:
                    if (name, shots, seed, way) not in LINES.done():
                        key = {"dataset": name, "shots": shots, "seed": seed, "way": way}
                        LINES.append(measured(args, key))


if __name__ == "__main__":
    main()
