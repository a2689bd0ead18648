"""Views of the training photos alone: what they add to the default where a new photo passes once.

    python experiments/features/training_views.py --data DATASETS --cache FOLDER
    python experiments/features/training_views.py --table

Embedded model, one template, seeds 1 to 3, with validation photos, held-out development photos. The
views of a training photo are rows of the default's least squares; validation and development photos
are seen as they are. A line of ``training_views.jsonl`` beside this file is one fit. The committed
lines read features in bfloat16 (OpenVINO).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines
from one_pass import DATASETS, development, draws, grid, mean_of

from sharpzo.data.photo import FIXED_VIEWS
from sharpzo.methods.ladder import fit_ladder
from sharpzo.methods.token_ladder import Reading, TokenHead, TokenLadderSettings
from sharpzo.metrics import accuracy, normalise
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Array, Features

LINES = Lines(__file__, "training_views.jsonl", "dataset", "shots", "seed", "cell")
SHOTS = (1, 4, 16)
CELLS = {"none": (), "mirror": ("mirror",), "all": ("mirror", "middle", "mirrored middle")}


def measured(train: Features, val: Features, rest: Features, text: Array, cell: str) -> float:
    """Accuracy on ``rest`` of the default with a cell's views of training photos as rows."""
    settings = TokenLadderSettings()
    shown = Reading.of(train, settings.tokens, CELLS[cell])
    alone = replace(shown, views=())

    def read(photos: Features) -> Array:
        return (shown if photos.by_view else alone).rows(photos).astype(np.float64)

    val, rest = (replace(photos, by_view={}) for photos in (val, rest))
    ladder = fit_ladder(train, shown.text(text.astype(np.float64)), val, settings, read)
    scores = TokenHead(ladder.head, alone).scores(rest)
    return round(accuracy(scores, rest.labels), 4)


def run(
    name: str, photos: Features, held: dict[tuple[int, int, str], Array], text: Array, args: Any
) -> None:
    """All fits of a data set that are not there yet."""
    done = LINES.done()
    for shots in SHOTS:
        for seed in args.seeds:
            train, val = (photos.take(held[shots, seed, part]) for part in ("train", "val"))
            rest = photos.take(development(held, shots, seed, len(photos)))
            for cell in args.cells:
                if (name, shots, seed, cell) not in done:
                    right = measured(train, val, rest, text, cell)
                    LINES.append({
                        "dataset": name, "shots": shots, "seed": seed, "cell": cell,
                        "accuracy": right,
                    })  # fmt: skip


def table() -> str:
    """Means over seeds, a row per cell."""
    return grid("views", CELLS, LINES.read(), mean_of("accuracy"))


def main() -> None:
    parser = harness.parser(__doc__, DATASETS, CELLS)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        print(table())
        return
    checkpoint = Checkpoint.open(resolve(None))
    for name in args.datasets:
        every, held = draws(args, name)
        photos = encode(
            checkpoint, {"all": every}, threads=1, cache=args.cache, fixed_views=list(FIXED_VIEWS)
        )["all"]
        tower = OnnxTextTower(checkpoint, every.class_names, threads=1)
        run(name, photos, held, normalise(tower.untuned), args)
        tower.close()


if __name__ == "__main__":
    main()
