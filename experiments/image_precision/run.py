"""What the precision of the image tower does to the default method, on development photos.

    python experiments/image_precision/run.py --data DATASETS --cache FOLDER
    python experiments/image_precision/run.py --write      # the tables of docs/performance.md

Embedded model. A line of ``results.jsonl`` is a draw of a data set (of every fourth class of
Caltech-101 and of the groceries of ``experiments/image_size``) whose photos are encoded in one
precision: the accuracy of the default, fitted to it, on development photos (the test split is not
read), and of the rule for photos of no class, with the even classes known, the share of their
photos that it loses and of the odd classes' that it recognises. ``mixed`` are the same measures
where development photos are encoded in float32, as on a machine that lacks the precision.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).parents[1] / "image_size"))
sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines, show

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.evaluate import evaluate
from sharpzo.fitting.fitter import DEFAULT
from sharpzo.fitting.strangers import find_strangers
from sharpzo.methods import Task, find, fit
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Features, ImagePrecision

PRECISIONS: tuple[ImagePrecision, ...] = get_args(ImagePrecision)
SETS: dict[str, tuple[str, int, tuple[int, ...]]] = {  # title, pixels a side, photos per class
    "fashion-mnist": ("Fashion-MNIST", 112, (4, 16)),
    "eurosat": ("EuroSAT", 112, (4, 16)),
    "caltech101": ("25 classes of Caltech-101", 112, (16,)),
    "grocery": ("21 kinds of groceries", 224, (4,)),
}
LINES = Lines(__file__, "results.jsonl", "dataset", "shots", "seed", "precision")
DEVELOPMENT = 200  # of the groceries
Splits = Mapping[str, Features]


def photos_of(data: Path, name: str, shots: int, seed: int) -> dict[str, LabelledPhotos]:
    """What a draw is fitted to, and development photos that it does not hold."""
    if name == "grocery":
        from run import drawn  # of experiments/image_size

        found, rest = drawn(data, name, shots, seed)
    else:
        found, rest = harness.draw(data, name, seed, shots), harness.development(data, name, seed)
    splits = {"train": found.train, "dev": rest} | ({"val": found.val} if found.val else {})
    if name in ("caltech101", "grocery"):
        splits = {part: some_classes(split) for part, split in splits.items()}
    if name == "grocery":
        splits["dev"] = splits["dev"].take(np.arange(min(len(splits["dev"]), DEVELOPMENT)))
    return splits


def some_classes(photos: LabelledPhotos) -> LabelledPhotos:
    """Photos of every fourth class."""
    kept = photos.take(np.flatnonzero(photos.labels % 4 == 0))
    return LabelledPhotos(kept.photos, kept.labels // 4, photos.class_names[::4])


def measured(own: Splits, others: Splits, seed: int, tower: OnnxTextTower) -> dict[str, float]:
    """Measures of a fit to ``own`` on the development photos of ``others``."""
    method, dev = find(DEFAULT), others["dev"]
    head = fit(method, method.settings, Task(own["train"], own.get("val"), tower, seed)).head
    rule = find_strangers(of(own["train"], True))
    assert rule is not None
    lost, recognised = (
        float((rule.scores(of(dev, known)) < rule.threshold()).mean()) for known in (True, False)
    )
    found = {"accuracy": evaluate(head, dev).accuracy, "lost": lost, "recognised": recognised}
    return {name: round(value, 5) for name, value in found.items()}


def of(photos: Features, known: bool) -> Features:
    """Photos of the even classes, or of the odd ones."""
    return photos.take((photos.labels % 2 == 0) == known)


def line(splits: Mapping[str, Splits], key: dict[str, Any], tower: OnnxTextTower) -> dict[str, Any]:
    own, plain = splits[key["precision"]], splits["float32"]
    found = {**key, "n": len(own["dev"]), **measured(own, own, key["seed"], tower)}
    if key["precision"] != "float32":
        found["mixed"] = measured(own, plain, key["seed"], tower)
    return found


def column(name: str, shots: int, precision: str, measure: str, mixed: bool = False) -> str:
    """A measure in percent; of other precisions than float32 the difference to that, in points."""
    found = {
        (line["seed"], line["precision"]): line
        for line in LINES.read()
        if (line["dataset"], line["shots"]) == (name, shots)
    }
    values = []
    for (seed, one), own in found.items():
        if one != precision:
            continue
        value = (own["mixed"] if mixed else own)[measure]
        values.append(100 * (value - (found[seed, "float32"][measure] if one != "float32" else 0)))
    if not values:
        return "–"
    return (
        show(values) if precision == "float32" else show(values, 2, "+").replace("-0.00 ", "0.00 ")
    )


def tables() -> dict[str, str]:
    """Mean and standard deviation over seeds."""
    measured = {(line["dataset"], line["shots"]) for line in LINES.read()}
    cells = [
        (f"{title}, {size} pixels, {shots} per class", name, shots)
        for name, (title, size, many) in SETS.items()
        for shots in many
        if (name, shots) in measured
    ]
    fewer = PRECISIONS[1:]
    accuracy = [
        [title, column(name, shots, "float32", "accuracy")]
        + [column(name, shots, one, "accuracy", mixed) for mixed in (False, True) for one in fewer]
        for title, name, shots in cells
    ]
    rule = [
        [title]
        + [column(name, shots, one, what) for what in ("lost", "recognised") for one in PRECISIONS]
        for title, name, shots in cells
    ]
    heads = ["photos", *PRECISIONS, *(f"{one}, new photos in float32" for one in fewer)]
    rules = [f"{what}, {one}" for what in ("lost", "recognised") for one in PRECISIONS]
    return {
        "image precision": harness.table(heads, accuracy),
        "image precision, none": harness.table(["photos", *rules], rule),
    }


def main() -> None:
    parser = harness.parser(__doc__, tuple(SETS))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.table or args.write:
        harness.publish("performance.md", tables(), args.write)
        return
    for name in args.datasets:
        _, size, many = SETS[name]
        checkpoint = Checkpoint.open(resolve(None), None if size == 112 else size)
        for shots in many:
            for seed in args.seeds:
                keys = [
                    {"dataset": name, "shots": shots, "seed": seed, "precision": precision}
                    for precision in PRECISIONS
                ]
                missing = [key for key in keys if tuple(key.values()) not in LINES.done()]
                if not missing:
                    continue
                photos = photos_of(args.data, name, shots, seed)
                splits = {
                    precision: encode(
                        checkpoint, photos, threads=1, cache=args.cache, precision=precision
                    )
                    for precision in PRECISIONS
                }
                tower = OnnxTextTower(checkpoint, photos["train"].class_names, threads=1)
                for key in missing:
                    LINES.append(line(splits, key, tower))
                tower.close()


if __name__ == "__main__":
    main()
