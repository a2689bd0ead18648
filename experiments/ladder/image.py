"""What the image side of the ladder is worth: ``ladder+image`` against ``ladder+gda``.

    python experiments/ladder/image.py --data DATASETS --cache FOLDER
    python experiments/ladder/table.py

Embedded model, one template, seeds 1 to 3. Photos pass the image tower once, up to its last block;
what comes of it is kept in the folder (50 kB per photo, about 1 GB in all). A cell is (protocol,
data set, shots, seed) and appends a line to ``image.jsonl`` beside this file; cells that are there
already are skipped. Both methods are fitted to the same features and evaluated twice: on the
held-out development photos, on which settings were chosen, and on the test split, which chooses
nothing.

* ``all``: every class has photos.
* ``base-to-new``: the first half of the classes has 16 photos each. Accuracy on the base photos
  among base names, on the new photos among new names, and on both among all.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import SEEDS, Lines
from run import DATASETS
from safetensors.numpy import load_file, save_file

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.methods import find
from sharpzo.methods.factors import Factors
from sharpzo.methods.image_ladder import Shown, TunedHead, fit_image_ladder, named, see
from sharpzo.methods.ladder import fit_ladder, other_names
from sharpzo.methods.last_block import Seen
from sharpzo.metrics import accuracy, calibration_error, cross_entropy, normalise, softmax
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower
from sharpzo.types import Array, Features

KEY = ("protocol", "dataset", "shots", "seed")
LINES = Lines(__file__, "image.jsonl", *KEY)
SETTINGS = find("ladder+image").configure(None, {"tokens": 0.0, "training_views": 1})


@dataclass(frozen=True)
class Pool:
    """Photos before the last block, their features, and which of them a draw holds."""

    shown: Shown
    held: dict[str, Array]

    def take(self, rows: Array, classes: range | None = None) -> Shown:
        """Some of the photos, those of some classes only, which are then counted anew."""
        features, seen = self.shown.features, self.shown.seen
        if classes is not None:
            rows = rows[np.isin(features.labels[rows], list(classes))]
            names = features.class_names[classes.start : classes.stop]
            part = features.take(rows)
            part = replace(part, labels=part.labels - classes.start, class_names=names)
            return Shown(part, seen.take(rows))
        return Shown(features.take(rows), seen.take(rows))


def pool(cache: Path, name: str, split: LabelledPhotos, tower: OnnxImageTower) -> Shown:
    """Every photo of a split once through the tower, read from the cache if it lies there."""
    kept = cache / f"{name}.safetensors"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        seen = see(tower, split)
        save_file({"normal": seen.normal, "first": seen.first, "labels": split.labels}, kept)
    found = load_file(kept)
    assert np.array_equal(found["labels"], split.labels)
    seen = Seen(found["normal"], found["first"])
    vectors = normalise(Factors({}).states(tower.last_block, seen) @ tower.projection.T)
    return Shown(Features(vectors, split.labels, split.class_names), seen)


def draws(args: argparse.Namespace, dataset: str) -> tuple[LabelledPhotos, dict[str, Array], Any]:
    """All photos that any draw holds, each once; which of them each draw holds; the test split."""
    known, labels, index = [], [], {}
    held: dict[str, list[int]] = {}
    for shots in (16, 4, 1):
        for seed in SEEDS:
            draw = harness.draw(args.data, dataset, seed, shots)
            for what in ("train", "val"):
                split = getattr(draw, what)
                for photo, label in zip(split.photos, split.labels, strict=True):
                    if (digest := photo.digest()) not in index:
                        index[digest] = len(known)
                        known.append(photo)
                        labels.append(int(label))
                    held.setdefault(f"{shots}.{seed}.{what}", []).append(index[digest])
    every = LabelledPhotos(tuple(known), np.array(labels), draw.class_names)
    return every, {key: np.array(rows) for key, rows in held.items()}, draw.test


class Both:
    """``ladder+gda`` and ``ladder+image``, fitted to the same photos."""

    def __init__(
        self, tower: OnnxImageTower, train: Shown, held: Shown, text: Array, scale: float, seed: int
    ) -> None:
        self._tower = tower
        begin = time.perf_counter()
        plain = fit_ladder(train.features, text, held.features, SETTINGS)
        between = time.perf_counter()
        self.tuned = None
        if len(held.seen) >= SETTINGS.evidence:
            self.tuned = fit_image_ladder(tower, train, held, text, scale, SETTINGS, seed)
        self.seconds = between - begin, time.perf_counter() - between
        self.plain = {**plain.arrays(), **plain.head.arrays()}
        self.heads = plain.head, self.tuned.head if self.tuned else plain.head

    def renamed(self, text: Array, rows: Array) -> tuple[Any, Any]:
        plain = other_names(self.plain, text, rows)
        if self.tuned is None:
            return plain, plain
        kept = {**self.tuned.arrays, **self.tuned.head.arrays()}
        return plain, named(kept, text, rows)

    def scores(self, heads: tuple[Any, Any], shown: Shown) -> tuple[Array, Array]:
        features = shown.features
        if isinstance(heads[1], TunedHead):
            detour, tower = heads[1].detour, self._tower
            moved = normalise(detour.states(tower.last_block, shown.seen) @ tower.projection.T)
            features = replace(features, detours={detour.digest: moved})
        return heads[0].scores(features), heads[1].scores(features)


def measures(logits: Array, labels: Array) -> dict[str, float]:
    probabilities = softmax(logits.astype(np.float64))
    return {
        "accuracy": accuracy(logits, labels),
        "cross_entropy": float(cross_entropy(logits, labels)),
        "calibration_error": calibration_error(probabilities, labels),
    }


def measure_all(both: Both, shown: Shown) -> dict[str, Any]:
    scores = both.scores(both.heads, shown)
    names = ("plain", "tuned")
    return {n: measures(s, shown.features.labels) for n, s in zip(names, scores, strict=True)}


def measure_halves(both: Both, base: Shown, new: Shown, text: Array, middle: int) -> dict[str, Any]:
    """``base`` and ``new`` count their own classes; ``text`` is that of all names."""
    none, known = np.full(len(text) - middle, -1), np.arange(middle)
    others = both.renamed(text[middle:], none)
    every = both.renamed(text, np.concatenate([known, none]))
    lines: dict[str, dict[str, float]] = {"plain": {}, "tuned": {}}
    for field, heads, shown, shift in (
        ("base", both.heads, base, 0),
        ("new", others, new, 0),
        ("base_among_all", every, base, 0),
        ("new_among_all", every, new, middle),
    ):
        for name, logits in zip(("plain", "tuned"), both.scores(heads, shown), strict=True):
            lines[name][field] = accuracy(logits, shown.features.labels + shift)
    return lines


def main() -> None:
    parser = harness.parser(__doc__, DATASETS)
    parser.add_argument("--shots", type=int, nargs="+", default=[16, 4, 1])
    args = parser.parse_args()
    done = LINES.done()
    checkpoint = Checkpoint.open(resolve(None))
    tower = OnnxImageTower(checkpoint, threads=1)
    for dataset in args.datasets:
        cells = [("all", dataset, shots, seed) for shots in args.shots for seed in SEEDS]
        cells += [("base-to-new", dataset, 16, seed) for seed in SEEDS if 16 in args.shots]
        cells = [cell for cell in cells if cell not in done]
        if not cells:
            continue
        every, held, test = draws(args, dataset)
        drawn = Pool(pool(args.cache, f"{dataset}-draws", every, tower), held)
        tested = Pool(pool(args.cache, f"{dataset}-test", test, tower), {})
        reader = OnnxTextTower(checkpoint, every.class_names, threads=1)
        text, scale = normalise(reader.forward(reader.start[None])[0]), reader.logit_scale
        reader.close()
        middle = (len(text) + 1) // 2
        first, second = range(middle), range(middle, len(text))
        for cell in cells:
            protocol, _, shots, seed = cell
            halved = protocol == "base-to-new"
            train, val = (held[f"{shots}.{seed}.{what}"] for what in ("train", "val"))
            rest = np.setdiff1d(np.arange(len(every)), np.concatenate([train, val]))
            known = first if halved else None
            both = Both(
                tower, drawn.take(train, known), drawn.take(val, known),
                text[:middle] if halved else text, scale, seed,
            )  # fmt: skip
            line: dict[str, Any] = dict(zip(KEY, cell, strict=True))
            line |= {
                "steps": int(both.tuned.notes["chosen_steps"]) if both.tuned else 0,
                "made": both.tuned.steps if both.tuned else None,
                "seconds": [round(s, 2) for s in both.seconds],
                "training_photos": len(train), "validation_photos": len(val),
            }  # fmt: skip
            for where, source, rows in (
                ("others", drawn, rest),
                ("test", tested, np.arange(len(test))),
            ):
                if halved:
                    sides = source.take(rows, first), source.take(rows, second)
                    line[where] = measure_halves(both, *sides, text, middle)
                else:
                    line[where] = measure_all(both, source.take(rows))
            LINES.append(line | {"model": checkpoint.fingerprint[:12]})


if __name__ == "__main__":
    main()
