"""The forecast for twice the photos, against what twice the photos give.

    python experiments/asks/forecast.py --data DATASETS --cache FOLDER
    python experiments/asks/forecast.py --write          # the table of docs/trust.md

Embedded model, default method, no validation photos. Of the 16 photos per class of a draw, one half
is fitted, and the forecast made of it; then all 16 are. The gain is that on the test split. Of each
draw three halves are taken. The rule and its constant were chosen on held-out development photos.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines, draw, show, table

from sharpzo.fitting import forecast as module
from sharpzo.fitting.fitter import DEFAULT
from sharpzo.fitting.forecast import forecast
from sharpzo.methods import Task, find, fit
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Features

DATASETS, HALVES = ("fashion-mnist", "eurosat", "caltech101"), 3
LINES = Lines(__file__, "forecast.jsonl", "dataset", "seed", "half")


def measure(train: Features, test: Features, tower: Any, seed: int, half: int) -> dict[str, float]:
    """The forecast of a half of the training photos, and the accuracy of the half and of all."""
    method = find(DEFAULT)
    rows = module._parts(train.labels, 2, seed, 100 + half) == 0
    part = train.take(np.flatnonzero(rows))
    found = forecast(method, method.settings, part, tower, seed)
    assert found is not None
    line = {"forecast": found["gain"]}
    for name, photos in (("half", part), ("whole", train)):
        head = fit(method, method.settings, Task(photos, None, tower, seed)).head
        line[f"{name}_accuracy"] = float((head.scores(test).argmax(axis=1) == test.labels).mean())
    return line


def pages() -> dict[str, str]:
    """A row per draw: forecast and gain of the first half, and means over the halves."""
    lines, rows = LINES.read(), []
    for name in DATASETS:
        for seed in harness.SEEDS:
            some = [x for x in lines if (x["dataset"], x["seed"]) == (name, seed)]
            if not some:
                continue
            said = [100 * x["forecast"] for x in some]
            gains = [100 * (x["whole_accuracy"] - x["half_accuracy"]) for x in some]
            off = [one - other for one, other in zip(said, gains, strict=True)]
            mean = f"{np.mean(off):+.1f}"
            rows.append([name, str(seed), show(said), show(gains), mean,
                         ", ".join(f"{one:+.1f}" for one in off)])  # fmt: skip
    head = ("data set", "draw", "forecast", "gain", "difference of the means", "by half")
    return {"forecast": table(head, rows)}


def main() -> None:
    parser = harness.parser(__doc__, DATASETS)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.write or args.table:
        return harness.publish("trust.md", pages(), args.write)
    checkpoint, done = Checkpoint.open(resolve(None)), LINES.done()
    for name in args.datasets:
        for seed in args.seeds:
            keys = [(name, seed, half) for half in range(HALVES)]
            if done.issuperset(keys):
                continue
            drawn = draw(args.data, name, seed)
            splits = {"train": drawn.train, "test": drawn.test}
            encoded = encode(checkpoint, splits, threads=1, cache=args.cache)
            tower = OnnxTextTower(checkpoint, drawn.class_names, threads=1)
            for key in keys:
                if key not in done:
                    found = measure(encoded["train"], encoded["test"], tower, seed, key[2])
                    LINES.append(dict(zip(LINES.key, key, strict=True)) | found)
            tower.close()


if __name__ == "__main__":
    main()
