"""How well `sharpzo check` finds flipped labels and planted copies, beside cleanlab.

    python experiments/check/run.py --data DATASETS [--write]

Of a draw of 16 shots, training and validation photos together, 5 % of the labels become another
class, three times per seed. cleanlab (`pip install cleanlab`) reads the same states: probabilities
by logistic regression in five folds, then `find_label_issues` as it comes. 24 of the photos are
planted again: as JPEG of quality 60, at 60 % of the size, brighter, mirrored.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from io import BytesIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from harness import Lines, draw, parser, publish, show, table
from PIL import Image

from sharpzo.audit import find_copies, find_suspects
from sharpzo.data.photo import Photo
from sharpzo.metrics import normalise
from sharpzo.towers.open import Towers
from sharpzo.towers.runtime import Runtime
from sharpzo.types import Array

SETS = ("eurosat", "demo", "caltech101")
FLIPPED, DRAWS, PLANTED = 0.05, 3, 24
NAMES = {"demo": "Fashion-MNIST", "eurosat": "EuroSAT", "caltech101": "Caltech-101"}


def main() -> None:
    args = parser(__doc__, SETS)
    args.add_argument("--write", action="store_true")
    given = args.parse_args()
    lines = Lines(__file__, "results.jsonl", "data_set", "seed")
    for name in given.datasets:
        for seed in given.seeds:
            if (name, seed) not in lines.done():
                lines.append({"data_set": name, "seed": seed, **run(given, name, seed)})
    publish("your-photos.md", {"check": summary(lines.read())}, given.write)


def run(given, name: str, seed: int) -> dict:
    drawn = draw(given.data, name, seed)
    towers = Towers(None, Runtime(threads=1))
    splits = {"train": drawn.train, "val": drawn.val}
    found = towers.encode(splits, lambda *done: None, given.cache, ())
    states = np.concatenate([found[part].states for part in splits])
    truth = np.concatenate([found[part].labels for part in splits])
    classes = len(drawn.class_names)
    scores = defaultdict(list)
    for k in range(DRAWS):
        generator = np.random.default_rng([seed, k])
        rows = generator.choice(len(truth), round(FLIPPED * len(truth)), replace=False)
        labels = truth.copy()
        labels[rows] = (labels[rows] + generator.integers(1, classes, len(rows))) % classes
        ours, _, _ = find_suspects(states, labels, np.bincount(labels, minlength=classes))
        for who, listed in (
            ("ours", [s.row for s in ours]),
            ("cleanlab", cleanlab(states, labels)),
        ):
            hit = len(set(rows.tolist()) & set(listed))
            scores[f"{who}_precision"].append(hit / max(len(listed), 1))
            scores[f"{who}_recall"].append(hit / len(rows))
    return {what: float(np.mean(many)) for what, many in scores.items()} | copies(drawn.train, seed)


def cleanlab(states: Array, labels: Array) -> list[int]:
    from cleanlab.filter import find_label_issues
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    x = normalise(states - states.mean(axis=0)) * np.sqrt(states.shape[1])
    model = LogisticRegression(max_iter=1000)
    probabilities = cross_val_predict(model, x, labels, cv=5, method="predict_proba")
    return find_label_issues(
        labels, probabilities, return_indices_ranked_by="self_confidence"
    ).tolist()


def copies(split, seed: int) -> dict[str, int]:
    photos = [Photo(one.name, pixels=one.decode()) for one in split.photos]
    generator = np.random.default_rng(seed)
    rows = generator.choice(len(photos), PLANTED, replace=False).tolist()
    planted = [
        Photo(f"copy {k}", pixels=changed(photos[row].pixels, k)) for k, row in enumerate(rows)
    ]
    every = [*photos, *planted]
    groups = [set(one.rows) for one in find_copies(every, [one.digest() for one in every])]
    pairs = [{row, len(photos) + k} for k, row in enumerate(rows)]
    return {
        "planted": PLANTED,
        "planted_found": sum(any(pair <= group for group in groups) for pair in pairs),
        "other_groups": sum(max(group) < len(photos) for group in groups),
    }


def changed(pixels: Array, k: int) -> Array:
    image = Image.fromarray(pixels)
    if k % 4 == 0:
        image.save(file := BytesIO(), "JPEG", quality=60)
        return np.asarray(Image.open(file).convert("RGB"))
    if k % 4 == 1:
        return np.asarray(image.resize((int(0.6 * image.width), int(0.6 * image.height))))
    if k % 4 == 2:
        return np.clip(1.15 * pixels + 5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels[:, ::-1])


def summary(lines: list[dict]) -> str:
    rows = []
    for name in SETS:
        mine = [line for line in lines if line["data_set"] == name]
        cells = [
            show([100 * line[f"{who}_{what}"] for line in mine], 0)
            for who in ("ours", "cleanlab")
            for what in ("precision", "recall")
        ]
        found, planted = (sum(line[what] for line in mine) for what in ("planted_found", "planted"))
        others = sum(line["other_groups"] for line in mine)
        rows.append([NAMES[name], *cells, f"{found} of {planted}", str(others)])
    head = ["photos", "precision %", "recall %", "cleanlab: precision %", "recall %",
            "planted copies found", "other copies named"]  # fmt: skip
    return table(head, rows)


if __name__ == "__main__":
    main()
