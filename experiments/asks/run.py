"""What people ask of a classifier: none of these, and classes of unequal numbers of photos.

    python experiments/asks/run.py --data DATASETS
    python experiments/asks/run.py --table        # of the results beside this file

Embedded model, 16 photos per class, no validation photos, up to 1,000 test photos. The rules and
their constants were chosen on held-out development photos; this reads the test split.

* ``strangers``: half of the classes are known (the first, the second, the even, the odd half). How
  well photos of the others are told from photos of the known (area under the ROC curve), how many
  known photos the default threshold loses and how many strangers it recognises. With
  counter-examples: four photos of each class of one half of the strangers, tested on those
  (``same``) and on the classes of the other half (``unseen``). ``others``: strangers are photos of
  the other data sets.
* ``unequal``: half of the classes have only 2 (or 8) photos; the default with equations 3 and 4 of
  ``methods/ladder.py`` and without them.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines, draw, show, table

from sharpzo.evaluate import evaluate
from sharpzo.fitting.fitter import DEFAULT
from sharpzo.fitting.strangers import find_strangers
from sharpzo.methods import Task, find, fit, ladder
from sharpzo.metrics import separation
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Array, Features

DATASETS = ("fashion-mnist", "eurosat", "caltech101")
LINES = Lines(__file__, "results.jsonl", "cell", "dataset", "known", "seed")
HALVES = ("first", "second", "even", "odd")
TEST = 1000


def half(classes: int, which: str) -> Array:
    every, middle = np.arange(classes), (classes + 1) // 2
    cut = {"first": every < middle, "second": every >= middle, "even": every % 2 == 0}
    return np.flatnonzero(cut.get(which, every % 2 == 1))


def of(photos: Features, classes: Array, most: int | None = None) -> Features:
    rows = [np.flatnonzero(photos.labels == k)[:most] for k in classes]
    return photos.take(np.sort(np.concatenate(rows)))


def measure_strangers(
    train: Features, test: Features, known: Array, others: Features
) -> dict[str, Any]:
    """Measures of the rule, alone and with counter-examples."""
    unknown = np.setdiff1d(np.arange(len(train.class_names)), known)
    shown, hidden = unknown[::2], unknown[1::2]
    alone = find_strangers(of(train, known))
    helped = find_strangers(of(train, known), of(train, shown, 4))
    assert alone is not None
    assert helped is not None
    line: dict[str, Any] = {
        "others": separation(*(alone.scores(p) for p in (of(test, known), others)))
    }
    for name, rule in (("alone", alone), ("helped", helped)):
        familiar = rule.scores(of(test, known))
        line[f"{name}_lost"] = float((familiar < rule.threshold()).mean())
        for which, classes in (("all", unknown), ("same", shown), ("unseen", hidden)):
            strange = rule.scores(of(test, classes))
            line[f"{name}_{which}"] = separation(familiar, strange)
            line[f"{name}_{which}_recognised"] = float((strange < rule.threshold()).mean())
    return line


def unequal(
    train: Features, test: Features, poor: Array, many: int, tower: Any, seed: int
) -> dict[str, Any]:
    """Recall of the poor and the rich, balanced accuracy, calibration error, both ways."""
    rich = np.setdiff1d(np.arange(len(train.class_names)), poor)
    few = [np.flatnonzero(train.labels == k)[:many] for k in poor]
    task = train.take(np.sort(np.concatenate([*few, np.flatnonzero(np.isin(train.labels, rich))])))
    method, line = find(DEFAULT), {}
    raised = ladder.balance, ladder.excess_variance
    for name in ("with", "without"):
        if name == "without":
            ladder.balance = lambda own, labels, counts: np.zeros(len(counts))
            ladder.excess_variance = lambda counts: np.zeros(len(counts))
        result = evaluate(fit(method, method.settings, Task(task, None, tower, seed)).head, test)
        recalls = np.array([np.nan if v is None else v for v in result.per_class.values()])
        line |= {
            f"{name}_poor": float(np.nanmean(recalls[poor])),
            f"{name}_rich": float(np.nanmean(recalls[rich])),
            f"{name}_balanced": result.balanced_accuracy,
            f"{name}_calibration": result.calibration_error,
        }
    ladder.balance, ladder.excess_variance = raised
    return line


def tables() -> None:
    lines = LINES.read()
    names = list(dict.fromkeys(line["dataset"] for line in lines))

    def row(dataset: str, cell: str, known: str, *fields: str) -> list[str]:
        some = [x for x in lines if (x["dataset"], x["cell"], x["known"]) == (dataset, cell, known)]
        factor = [1 if "recognised" not in f and f in PLAIN else 100 for f in fields]
        return [dataset, known] + [
            show([k * x[f] for x in some], 3 if k == 1 else 1)
            for f, k in zip(fields, factor, strict=True)
        ]

    fields = ("alone_all", "alone_lost", "alone_all_recognised", "others",
              "helped_same", "alone_unseen", "helped_unseen", "helped_lost")  # fmt: skip
    rows = [row(n, "strangers", h, *fields) for n in names for h in HALVES]
    print(table(("data set", "known", *fields), rows))
    fields = tuple(f"{w}_{f}" for f in ("poor", "rich", "balanced", "calibration")
                   for w in ("without", "with"))  # fmt: skip
    cells = ("unequal 2", "unequal 8")
    found = [[c, *row(n, c, h, *fields)] for c in cells for n in names for h in HALVES[:2]]
    print(table(("cell", "data set", "poor", *fields), found))


PLAIN = {f"{name}_{which}" for name in ("alone", "helped") for which in ("all", "same", "unseen")}
PLAIN |= {"others"}


def main() -> None:
    parser = harness.parser(__doc__, DATASETS)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        return tables()
    checkpoint, done = Checkpoint.open(resolve(None)), LINES.done()
    read: dict[str, dict[int, dict[str, Features]]] = {}
    for name in args.datasets:
        for seed in args.seeds:
            drawn = draw(args.data, name, seed)
            assert drawn.test is not None
            some = np.random.default_rng(0).permutation(len(drawn.test))[:TEST]
            splits = {"train": drawn.train, "test": drawn.test.take(some)}
            encoded = encode(checkpoint, splits, threads=1, cache=args.cache)
            read.setdefault(name, {})[seed] = encoded
            print(name, seed, {k: len(v) for k, v in encoded.items()}, file=sys.stderr, flush=True)
    for name, seeds in read.items():
        for seed, splits in seeds.items():
            train, test = splits["train"], splits["test"]
            tower = OnnxTextTower(checkpoint, train.class_names, threads=1)
            rest = [seeds[seed]["test"] for other, seeds in read.items() if other != name]
            states = np.concatenate([one.states for one in rest if one.states is not None])
            others = Features(states, np.zeros(len(states), np.int64), ("none",), states=states)
            for which in HALVES:
                known = half(len(train.class_names), which)
                measures = {"strangers": partial(measure_strangers, train, test, known, others)}
                for many in (2, 8) if which in HALVES[:2] else ():
                    measures[f"unequal {many}"] = partial(
                        unequal, train, test, known, many, tower, seed
                    )
                for cell, measure in measures.items():
                    key = (cell, name, which, seed)
                    if key not in done:
                        LINES.append(dict(zip(LINES.key, key, strict=True)) | measure())
            tower.close()


if __name__ == "__main__":
    main()
