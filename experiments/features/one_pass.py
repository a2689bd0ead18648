"""Which features of the frozen tower the default reads, chosen on held-out development photos.

    python experiments/features/one_pass.py --data DATASETS --cache FOLDER
    python experiments/features/one_pass.py --write      # the table of docs/closed-forms.md

Embedded model, one template, seeds 1 to 3, 1, 4 and 16 photos per class. A cell is what stands
beside the projected feature and its share (equation 1 of `methods/token_ladder.py`; a single token
stands there twice). A line of ``one_pass.jsonl`` beside this file is the accuracy of one cell on
the development photos of one draw, with its validation photos and without; the test split is not
read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import SEEDS, Lines

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.methods.token_ladder import TokenHead, TokenLadderSettings, fit_tokens
from sharpzo.metrics import accuracy, normalise
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Array, Features

DATASETS, SHOTS = ("fashion-mnist", "eurosat", "caltech101"), (1, 4, 16)
LINES = Lines(__file__, "one_pass.jsonl", "dataset", "shots", "seed", "cell")
CELLS: dict[str, tuple[str, float]] = {
    "projection alone": ("both", 0.0),
    "state": ("state", 1 / 3),
    "class token": ("class", 1 / 3),
    "mean token": ("mean", 1 / 3),
    "both": ("both", 1 / 3),
    "both, share 1/6": ("both", 1 / 6),
    "both, share 1/2": ("both", 1 / 2),
    "both, share 2/3": ("both", 2 / 3),
}


def reading(photos: Features, what: str) -> Features:
    """The photos with what a cell reads in place of their tokens."""
    assert photos.states is not None
    assert photos.tokens is not None
    one = {"state": photos.states, "class": photos.tokens[:, 0], "mean": photos.tokens[:, 1]}
    return photos if what == "both" else replace(photos, tokens=np.stack(2 * [one[what]], axis=1))


def draws(args: Any, name: str) -> tuple[LabelledPhotos, dict[tuple[int, int, str], Array]]:
    """All photos that any draw holds, each once, and which of them each draw holds."""
    known, labels, index, held = [], [], {}, {}
    for shots in (16, 4, 1):
        for seed in SEEDS:
            drawn = harness.draw(args.data, name, seed, shots)
            for part in ("train", "val"):
                split, rows = getattr(drawn, part), []
                for photo, label in zip(split.photos, split.labels, strict=True):
                    rows.append(index.setdefault(photo.digest(), len(known)))
                    if rows[-1] == len(known):
                        known.append(photo)
                        labels.append(int(label))
                held[shots, seed, part] = np.array(rows)
    return LabelledPhotos(tuple(known), np.array(labels), drawn.class_names), held


def development(held: dict[tuple[int, int, str], Array], shots: int, seed: int, many: int) -> Array:
    """Rows of the photos that neither this draw nor its sixteen shots hold."""
    own = [held[some, seed, part] for some in (shots, 16) for part in ("train", "val")]
    return np.setdiff1d(np.arange(many), np.concatenate(own))


def measured(
    photos: Features, text: Array, held: Any, shots: int, seed: int, cell: str
) -> Iterator[tuple[str, float]]:
    what, share = CELLS[cell]
    shown = reading(photos, what)
    train, val = (shown.take(held[shots, seed, part]) for part in ("train", "val"))
    rest = shown.take(development(held, shots, seed, len(photos)))
    for name, validation in (("validated", val), ("alone", None)):
        ladder, how = fit_tokens(train, text, validation, TokenLadderSettings(tokens=share))
        scores = TokenHead(ladder.head, how).scores(rest)
        yield name, round(accuracy(scores, rest.labels), 4)


def grid(
    what: str,
    cells: Iterable[str],
    lines: Sequence[Mapping[str, Any]],
    show: Callable[[list[Mapping[str, Any]]], str],
) -> str:
    """A table of a row per cell and a column per set and number of photos; ``show`` makes text of
    the lines of a place."""
    head = [what, *(f"{name}, {shots}" for name in DATASETS for shots in SHOTS)]
    rows = []
    for cell in cells:
        row = [cell]
        for name in DATASETS:
            for shots in SHOTS:
                key = name, shots, cell
                found = [
                    line for line in lines if (line["dataset"], line["shots"], line["cell"]) == key
                ]
                row.append(show(found) if found else "–")
        rows.append(row)
    return harness.table(head, rows)


def mean_of(column: str) -> Callable[[list[Mapping[str, Any]]], str]:
    """The mean of a column of shares, in percent."""
    return lambda found: f"{100 * np.mean([line[column] for line in found]):.1f}"


def table() -> str:
    """Means over seeds, a row per cell: with validation photos."""
    return grid("beside the projection", CELLS, LINES.read(), mean_of("validated"))


def main() -> None:
    parser = harness.parser(__doc__, DATASETS, CELLS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.table or args.write:
        harness.publish("closed-forms.md", {"one-pass": table()}, args.write)
        return
    done, checkpoint = LINES.done(), Checkpoint.open(resolve(None))
    for name in args.datasets:
        every, held = draws(args, name)
        photos = encode(checkpoint, {"all": every}, threads=1, cache=args.cache)["all"]
        tower = OnnxTextTower(checkpoint, every.class_names, threads=1)
        text = normalise(tower.untuned)
        tower.close()
        for shots in SHOTS:
            for seed in args.seeds:
                for cell in args.cells:
                    if (name, shots, seed, cell) not in done:
                        line = dict(measured(photos, text, held, shots, seed, cell))
                        key = {"dataset": name, "shots": shots, "seed": seed, "cell": cell}
                        LINES.append(key | line)


if __name__ == "__main__":
    main()
