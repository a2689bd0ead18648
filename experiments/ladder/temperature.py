"""What the prior on the temperature of ``ladder+gda`` is worth where few photos choose it.

    python experiments/ladder/temperature.py --data DATASETS
    python experiments/ladder/table.py

The same head with and without the prior: without it, validation photos choose by cross-entropy
alone, and where there are none the temperature is 1. Two, five or all classes of a draw of 1, 4 or
16 photos per class; seeds 1 to 3. A line of ``temperature.jsonl`` holds the calibration error on
the development photos and, among the photos of the other data sets, which belong to no class,
the share with a probability above 99.9 %. The test split is not read.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from run import DATASETS

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.methods import find
from sharpzo.methods.ladder import fit_ladder
from sharpzo.metrics import accuracy, calibration_error, normalise, softmax
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Array, Features

OUT = Path(__file__).parent / "temperature.jsonl"
SHOTS, SEEDS, CLASSES = (1, 4, 16), (1, 2, 3), (2, 5, None)
PRIOR = find("ladder+gda").settings
FLAT = {True: replace(PRIOR, prior=1e6), False: replace(PRIOR, temperatures=(1.0,))}


@dataclass(frozen=True)
class Pool:
    """Every photo that any draw of a data set holds, once; its text; the photos of each draw."""

    features: Features
    text: Array
    draws: dict[tuple[int, int, str], Array]


def pool(args: argparse.Namespace, checkpoint: Checkpoint, dataset: str) -> Pool:
    known, labels, place, draws = [], [], {}, {}
    names: tuple[str, ...] = ()
    for shots in SHOTS:
        for seed in SEEDS:
            draw = harness.draw(args.data, dataset, seed, shots)
            names = draw.class_names
            for part in ("train", "val"):
                split, rows = getattr(draw, part), []
                for photo, label in zip(split.photos, split.labels, strict=True):
                    rows.append(place.setdefault(photo.digest(), len(known)))
                    if rows[-1] == len(known):
                        known.append(photo)
                        labels.append(int(label))
                draws[shots, seed, part] = np.array(rows)
    every = LabelledPhotos(tuple(known), np.array(labels), names)
    features = encode(checkpoint, {"all": every}, threads=1, cache=args.cache)["all"]
    tower = OnnxTextTower(checkpoint, names, threads=1)
    text = normalise(tower.forward(tower.start[None])[0])
    tower.close()
    return Pool(features, text, draws)


def some(features: Features, rows: Array, classes: Array) -> Features:
    """Rows of some classes, counted anew."""
    rows = rows[np.isin(features.labels[rows], classes)]
    names = tuple(features.class_names[k] for k in classes)
    labels = np.searchsorted(classes, features.labels[rows])
    return Features(features.vectors[rows], labels, names)


def measure(
    pools: dict[str, Pool], dataset: str, shots: int, seed: int, many: int | None
) -> Iterator[dict[str, Any]]:
    """With and without validation photos, with and without the prior; ``many`` classes or all."""
    own = pools[dataset]
    count = len(own.text)
    rng = np.random.default_rng(seed)
    classes = np.sort(rng.choice(count, many, replace=False)) if many else np.arange(count)
    rows = {part: own.draws[shots, seed, part] for part in ("train", "val")}
    others = np.setdiff1d(np.arange(len(own.features)), np.concatenate(list(rows.values())))
    train, held = (some(own.features, rows[part], classes) for part in ("train", "val"))
    shown = some(own.features, others, classes)
    strangers = [p.features.vectors for name, p in pools.items() if name != dataset]
    for validated in (True, False):
        for rule, settings in (("flat", FLAT[validated]), ("prior", PRIOR)):
            fitted = fit_ladder(train, own.text[classes], held if validated else None, settings)
            head = fitted.head
            logits = head.scores(shown)
            sure = np.concatenate([v @ head.weight.T + head.bias for v in strangers])
            yield {
                "dataset": dataset, "shots": shots, "seed": seed, "classes": many or count,
                "validated": validated, "rule": rule, "temperature": fitted.temperature,
                "accuracy": accuracy(logits, shown.labels),
                "calibration_error": calibration_error(softmax(logits), shown.labels),
                "strangers": float((softmax(sure).max(axis=1) > 0.999).mean()),
            }  # fmt: skip


def main() -> None:
    parser = harness.parser(__doc__, DATASETS)
    args = parser.parse_args()
    checkpoint = Checkpoint.open(resolve(None))
    pools = {dataset: pool(args, checkpoint, dataset) for dataset in DATASETS}
    with OUT.open("w") as file:
        for dataset in DATASETS:
            for many in CLASSES:
                for shots in SHOTS:
                    for seed in SEEDS:
                        for line in measure(pools, dataset, shots, seed, many):
                            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
