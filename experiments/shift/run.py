"""Accuracy of each method on photos of a worse camera; does sharpness-awareness help there?

    python experiments/shift/run.py --data DATASETS
    python experiments/shift/run.py --data DATASETS --datasets demo
    python experiments/shift/run.py --table        # --write: into docs/shift.md

16 shots, the embedded model, searches of 5,000 forwards, seeds 1 to 3. A method is tuned once per
seed, on clean photos, and evaluated on the same test photos clean and under each of ``SHIFTS``: of
EuroSAT a fixed 2,000 of its 8,100, of Fashion-MNIST the demo's 500. A line of ``results.jsonl``
beside this file is one method and seed; lines that are there are skipped. The shifts and their
strengths were fixed before any accuracy was seen; no test photo chooses anything. (The
cell with views was added after the others.)

Photos are shifted at their own size, before the tower's preprocessing, and pass the image tower
once: the detours that ``ladder+image`` tuned are taken in the same pass and cached.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines, draw, table
from PIL import Image, ImageFilter

from sharpzo import Budget
from sharpzo.bench.summary import interval
from sharpzo.classifier import PromptClassifier
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.photo import Photo
from sharpzo.detour import detours
from sharpzo.rng import generator
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.types import Array

LINES = Lines(__file__, "results.jsonl", "dataset", "cell", "seed")
MOST = 2000  # test photos of a data set
FORWARDS = 5000
NAMES = {"eurosat": "eurosat", "demo": "fashion-mnist"}  # here -> in the tables
SHIFTS = {
    "blur": "Gaussian, its deviation a 64th of the shorter side (one pixel of EuroSAT)",
    "dark": "half the brightness",
    "noise": "Gaussian, deviation 10 of 255, each pixel and colour on its own",
    "jpeg": "quality 20",
}
# name -> method, preset, changed settings
CELLS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "zero-shot": ("zero-shot", None, {}),
    "linear-probe": ("linear-probe", None, {}),
    "proker": ("proker", None, {}),
    "ladder+gda": ("ladder+gda", None, {}),
    "ladder+image": ("ladder+image", None, {"tokens": 0.0, "training_views": 1}),
    "fgn": ("fgn", None, {}),
    "fgn, rho 1": ("fgn", None, {"search.rho": 1.0}),
    "fgn-csc": ("fgn-csc", None, {}),
    "fgn-csc, rho 1": ("fgn-csc", None, {"search.rho": 1.0}),
    "fgn-csc, 4 views": ("fgn-csc", None, {"views": 4}),
    "cma-es": ("cma-es", None, {}),
    "sharp-cma-es": ("sharp-cma-es", None, {}),
    "sharpzo, projected": ("sharpzo", "projected", {}),
    "coop as published": ("coop", "published", {}),
}
# what is compared, paired by seed: others with the default, augmented views with none, and
# aware of sharpness with not
PAIRS = (
    *((cell, "ladder+gda") for cell in ("linear-probe", "proker", "ladder+image", "fgn-csc")),
    ("fgn-csc, 4 views", "ladder+gda"),
    ("fgn-csc, 4 views", "fgn-csc"),
    ("fgn, rho 1", "fgn"),
    ("fgn-csc, rho 1", "fgn-csc"),
    ("sharp-cma-es", "cma-es"),
    ("sharpzo, projected", "cma-es"),
)


@dataclass(frozen=True, eq=False)
class Shifted(Photo):
    """A photo as a worse camera would have taken it; ``row`` draws its noise."""

    shift: str = "blur"
    row: int = 0

    def decode(self) -> Array:
        pixels = super().decode()
        if self.shift == "dark":
            return np.rint(pixels * 0.5).astype(np.uint8)
        if self.shift == "noise":
            noise = generator(1, "noise", step=self.row).normal(0, 10, pixels.shape)
            return np.rint(np.clip(pixels + noise, 0, 255)).astype(np.uint8)
        image = Image.fromarray(np.ascontiguousarray(pixels))
        if self.shift == "blur":
            image = image.filter(ImageFilter.GaussianBlur(min(image.size) / 64))
        else:
            file = io.BytesIO()
            image.save(file, "JPEG", quality=20)
            image = Image.open(file)
        return np.asarray(image)

    def digest(self) -> str:
        what = f"{super().digest()} {self.shift} {SHIFTS[self.shift]} {self.row}"
        return hashlib.sha256(what.encode()).hexdigest()


def shifted(test: LabelledPhotos) -> dict[str, LabelledPhotos]:
    """The test photos for all methods, clean and under every shift."""
    rows = np.sort(generator(1, "judged").permutation(len(test))[:MOST])
    clean = test.take(rows.tolist())
    return {"clean": clean} | {
        shift: LabelledPhotos(
            tuple(
                Shifted(photo.name, photo.path, photo.pixels, shift, row)
                for row, photo in enumerate(clean.photos)
            ),
            clean.labels,
            clean.class_names,
        )
        for shift in SHIFTS
    }


def tuned(args: argparse.Namespace, cell: str, drawn: Dataset, seed: int) -> PromptClassifier:
    method, preset, changes = CELLS[cell]
    return PromptClassifier(
        method, preset=preset, settings=changes, seed=seed, budget=Budget(FORWARDS), threads=1,
        cache=args.cache,
    ).fit(drawn)  # fmt: skip


def warm(args: argparse.Namespace, dataset: str) -> None:
    """Every test photo once through the tower, for all seeds' detours at once."""
    heads, splits = [], {}
    for seed in args.seeds:
        drawn = draw(args.data, dataset, seed)
        heads.append(tuned(args, "ladder+image", drawn, seed).fit_.head)
        splits = shifted(drawn.test)

    def report(what: str, done: int, total: int) -> None:
        if done % 400 == 0:
            print(dataset, what, done, total, file=sys.stderr, flush=True)

    checkpoint = Checkpoint.open(resolve(None))
    ways = detours(heads)
    encode(checkpoint, splits, threads=1, cache=args.cache, detours=ways, progress=report)


def run(args: argparse.Namespace, dataset: str, cell: str, seed: int) -> dict[str, Any]:
    drawn = draw(args.data, dataset, seed)
    splits = shifted(drawn.test)
    begin = time.perf_counter()
    classifier = tuned(args, cell, drawn, seed)
    seconds = time.perf_counter() - begin
    found = {name: classifier.evaluate(split) for name, split in splits.items()}
    return {
        "dataset": NAMES[dataset], "cell": cell, "seed": seed, "photos": len(splits["clean"]),
        "forwards": classifier.fit_.forwards, "steps": classifier.fit_.steps,
        "notes": {name: float(value) for name, value in classifier.fit_.notes.items()},
        "seconds": round(seconds, 1),
        "accuracy": {name: round(one.accuracy, 4) for name, one in found.items()},
        "calibration_error": {n: round(one.calibration_error, 4) for n, one in found.items()},
        "model": classifier.record_["model"]["sha256"][:12],
    }  # fmt: skip


def with_mean(values: dict[str, float]) -> dict[str, float]:
    """In percent, with the mean over shifts and what it lacks of clean photos."""
    found = {name: 100 * value for name, value in values.items()}
    found["all shifts"] = sum(found[shift] for shift in SHIFTS) / len(SHIFTS)
    found["change"] = found["all shifts"] - found["clean"]
    return found


def show(values: Iterable[float], sign: str = "") -> str:
    mean = interval([*values])
    return f"{mean.mean:{sign}.1f}" + ("" if mean.half is None else f" ± {mean.half:.1f}")


def accuracies(lines: list[dict[str, Any]]) -> str:
    """Accuracy, its change, and calibration error, clean and as a mean over the shifts."""
    rows = []
    for cell in (cell for cell in CELLS if any(x["cell"] == cell for x in lines)):
        some = [x for x in lines if x["cell"] == cell]
        values = [with_mean(x["accuracy"]) for x in some]
        fields = ("clean", *SHIFTS, "all shifts")
        row = [cell, *(show(one[field] for one in values) for field in fields)]
        row.append(show((one["change"] for one in values), "+"))
        errors = [with_mean(x["calibration_error"]) for x in some]
        row.append(" → ".join(
            f"{np.mean([one[field] for one in errors]):.1f}" for field in ("clean", "all shifts")
        ))  # fmt: skip
        rows.append(row)
    return table(["method", "clean", *SHIFTS, "all shifts", "change", "calibration error"], rows)


def differences(lines: list[dict[str, Any]]) -> str:
    """One method minus another, paired by seed."""
    rows = []
    for dataset in NAMES.values():
        for one, other in PAIRS:
            ours, theirs = (
                {x["seed"]: with_mean(x["accuracy"]) for x in lines
                 if (x["dataset"], x["cell"]) == (dataset, cell)}
                for cell in (one, other)
            )  # fmt: skip
            both = sorted(ours.keys() & theirs.keys())
            if both:
                row = [dataset, f"{one} minus {other}"]
                for field in ("clean", *SHIFTS, "all shifts", "change"):
                    row.append(show((ours[s][field] - theirs[s][field] for s in both), "+"))
                rows.append(row)
    return table(["data set", "", "clean", *SHIFTS, "all shifts", "change"], rows)


def main() -> None:
    parser = harness.parser(__doc__, ["eurosat"], CELLS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.table or args.write:
        lines = LINES.read()
        parts = {
            "shift": "\n".join(
                f"{dataset}:\n\n" + accuracies([x for x in lines if x["dataset"] == dataset])
                for dataset in NAMES.values() if any(x["dataset"] == dataset for x in lines)
            ),
            "shift-pairs": differences(lines),
        }  # fmt: skip
        harness.publish("shift.md", parts, args.write)
        return
    done = LINES.done()
    for dataset in args.datasets:
        cells = [(cell, seed) for cell in args.cells for seed in args.seeds]
        cells = [(c, s) for c, s in cells if (NAMES[dataset], c, s) not in done]
        if cells:
            warm(args, dataset)
        for cell, seed in cells:
            LINES.append(run(args, dataset, cell, seed))


if __name__ == "__main__":
    main()
