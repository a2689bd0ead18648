"""What decoding photos small costs in accuracy, on photos that are large.

    python experiments/image_size/decoding.py --data DATASETS
    python experiments/image_size/decoding.py --write      # the table of docs/your-photos.md

DATASETS holds ``grocery/`` as `run.py` beside this file says. EuroSAT's and Caltech-101's photos
are decoded whole either way, so the groceries are enlarged six times, to 2,088 pixels a side, with
grain, and saved as JPEG of quality 92: each photo of a draw and of 300 development photos. The
default on the embedded model at its own 112 pixels, 4 photos per class. A line of
``decoding.jsonl`` is one fit.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines, show
from PIL import Image
from run import drawn

from sharpzo import PromptClassifier
from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.photo import Photo

LINES = Lines(__file__, "decoding.jsonl", "decoding", "seed")
WAYS = ("exact", "reduced")
TIMES, PHOTOS, SHOTS = 6, 300, 4


def enlarged(photos: LabelledPhotos, folder: Path, what: str) -> LabelledPhotos:
    """The photos as large JPEG files."""
    folder = folder / what
    folder.mkdir()
    made = []
    for i, photo in enumerate(photos.photos):
        image = Image.fromarray(photo.decode())
        large = image.resize([TIMES * side for side in image.size], Image.Resampling.LANCZOS)
        grain = np.random.default_rng(i).normal(0, 4, (large.height, large.width, 1))
        pixels = np.clip(np.asarray(large, np.float32) + grain, 0, 255).astype(np.uint8)
        path = folder / f"{i}.jpg"
        Image.fromarray(pixels).save(path, quality=92)
        made.append(Photo(photo.name, path))
    return LabelledPhotos(tuple(made), photos.labels, photos.class_names)


def measured(data: Path, seed: int, ways: Sequence[str]) -> list[dict[str, Any]]:
    """A fit by each way of the same files."""
    found, rest = drawn(data, "grocery", SHOTS, seed)
    with tempfile.TemporaryDirectory() as name:
        folder, lines = Path(name), []
        parts = {"train": found.train, "val": found.val}
        large = {what: part and enlarged(part, folder, what) for what, part in parts.items()}
        held = enlarged(rest.take(np.arange(PHOTOS)), folder, "held")
        for way in ways:
            classifier = PromptClassifier(seed=seed, threads=1, decoding=way, image_size=112)  # type: ignore[arg-type]
            classifier.fit(replace(found, **large))
            accuracy = classifier.evaluate(held).accuracy
            lines.append({"decoding": way, "seed": seed, "accuracy": round(accuracy, 4)})
    return lines


def table() -> str:
    """Accuracy of both ways, and the difference by draw."""
    found = {(line["decoding"], line["seed"]): 100 * line["accuracy"] for line in LINES.read()}
    seeds = sorted({seed for _, seed in found})
    by_way = [[found[way, seed] for seed in seeds] for way in WAYS]
    difference = [small - whole for whole, small in zip(*by_way, strict=True)]
    row = ["groceries enlarged to 2,088 pixels", *map(show, by_way), show(difference, sign="+")]
    return harness.table(["photos", *(f"{way} %" for way in WAYS), "difference"], [row])


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.table or args.write:
        harness.publish("your-photos.md", {"decoding": table()}, args.write)
        return
    for seed in args.seeds:
        todo = [way for way in WAYS if (way, seed) not in LINES.done()]
        for line in measured(args.data, seed, todo) if todo else []:
            LINES.append(line)


if __name__ == "__main__":
    main()
