"""At how many pixels a side the image tower should see photos: the default on development photos.

    python experiments/image_size/run.py --data DATASETS --cache FOLDER
    python experiments/image_size/run.py --write      # the table of docs/your-photos.md

Embedded model, whose own size is 112 pixels a side, in three sets of small photos (Fashion-MNIST
has 28 pixels a side, EuroSAT 64, Caltech-101 128) and one of photos that were taken with a
smartphone in shops: 81 kinds of fruit, vegetables and cartons, 348 pixels a side (Grocery Store
Dataset, MIT licence). ``DATASETS/grocery`` is a clone of
https://github.com/marcusklasson/GroceryStoreDataset, of which the training split alone is read; a
line of ``results.jsonl`` is the default, fitted to 4 photos per class and evaluated on at most 600
development photos of its draw.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines, show

from sharpzo import PromptClassifier
from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.few_shot import draw
from sharpzo.data.photo import Photo

PHOTOS = {
    "grocery": "groceries in shops, 348 pixels a side",
    "caltech101": "Caltech-101, 128",
    "eurosat": "EuroSAT, 64",
    "fashion-mnist": "Fashion-MNIST, 28",
}
DATASETS = tuple(PHOTOS)
SIZES, SHOTS, DEVELOPMENT = (112, 224), (4,), 600
LINES = Lines(__file__, "results.jsonl", "dataset", "shots", "seed", "size")


def grocery(data: Path) -> Dataset:
    """The training split, of which draws are made."""
    folder = data / "grocery" / "dataset"
    names = [
        line.split(",")[0].replace("-", " ")
        for line in (folder / "classes.csv").read_text().splitlines()[1:]
    ]
    rows = [line.split(", ") for line in (folder / "train.txt").read_text().splitlines()]
    photos = tuple(Photo(path, folder / path) for path, *_ in rows)
    labels = np.array([int(fine) for _, fine, _ in rows])
    train = LabelledPhotos(photos, labels, tuple(names))
    return Dataset(train.class_names, train, None, None, "Grocery Store Dataset")


def drawn(data: Path, name: str, shots: int, seed: int) -> tuple[Dataset, LabelledPhotos]:
    """A draw, and development photos that it does not hold."""
    if name != "grocery":
        found, rest = harness.draw(data, name, seed, shots), harness.development(data, name, seed)
    else:
        whole = grocery(data)
        found = draw(whole, shots, seed)
        parts = [part for part in (found.train, found.val) if part]
        held = {photo.path for part in parts for photo in part.photos}
        out = [i for i, photo in enumerate(whole.train.photos) if photo.path not in held]
        rest = whole.train.take(np.array(out))
    order = np.random.default_rng(seed).permutation(len(rest))[:DEVELOPMENT]
    return found, rest.take(order)


def measured(data: Path, cache: Path, key: dict[str, Any]) -> dict[str, Any]:
    photos, rest = drawn(data, key["dataset"], key["shots"], key["seed"])
    classifier = PromptClassifier(
        seed=key["seed"], threads=1, cache=cache, image_size=key["size"], decoding="exact"
    )
    accuracy = classifier.fit(photos).evaluate(rest).accuracy
    return {**key, "accuracy": round(accuracy, 4), "n": len(rest)}


def table() -> str:
    """A row per set and shots, a column per size."""
    rows = []
    for name in DATASETS:
        for shots in SHOTS:
            row = [f"{PHOTOS[name]}, {shots} per class"]
            for size in SIZES:
                found = [
                    100 * line["accuracy"]
                    for line in LINES.read()
                    if (line["dataset"], line["shots"], line["size"]) == (name, shots, size)
                ]
                row.append(show(found) if found else "–")
            rows.append(row)
    return harness.table(["photos", *(f"{size} pixels" for size in SIZES)], rows)


def main() -> None:
    parser = harness.parser(__doc__, DATASETS)
    parser.add_argument("--shots", type=int, nargs="+", default=list(SHOTS))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.table or args.write:
        harness.publish("your-photos.md", {"image-size": table()}, args.write)
        return
    for name in args.datasets:
        for shots in args.shots:
            for seed in args.seeds:
                for size in SIZES:
                    if (name, shots, seed, size) not in LINES.done():
                        key = {"dataset": name, "shots": shots, "seed": seed, "size": size}
                        LINES.append(measured(args.data, args.cache, key))


if __name__ == "__main__":
    main()
