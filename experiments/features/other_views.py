"""Other views of a photo than `--views` has: turns, a wider or narrower cut, more of them.

    python experiments/features/other_views.py --data DATASETS --cache FOLDER
    python experiments/features/other_views.py --write      # the table of docs/closed-forms.md

Embedded model, one template, seeds 1 to 3, with validation photos. A cell is the default with a set
of views beside the photo as it is, all of them in training and for new photos; a photo is made
wider by repeating its edges. A line of ``other_views.jsonl`` beside this file is one fit: accuracy
on held-out development photos, and the squared error of training photos that are left out with
their views. The test split is not read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines
from one_pass import development, draws, grid, mean_of

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.photo import Photo
from sharpzo.methods.token_ladder import Reading, TokenHead, TokenLadderSettings, fit_ladder
from sharpzo.metrics import accuracy, normalise
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Array, Features

DATASETS, SHOTS = ("fashion-mnist", "eurosat"), (4, 16)
PLACES = [(name, shots) for name in DATASETS for shots in SHOTS]
LINES = Lines(__file__, "other_views.jsonl", "dataset", "shots", "seed", "cell")


def middle(share: float) -> Callable[[Array], Array]:
    """The middle of both sides; with a share above 1 the photo with its edges repeated."""

    def seen(pixels: Array) -> Array:
        away = [round(abs(1 - share) * side / 2) for side in pixels.shape[:2]]
        if share > 1:
            return np.pad(pixels, [(n, n) for n in away] + [(0, 0)], mode="edge")
        return pixels[away[0] : len(pixels) - away[0], away[1] : pixels.shape[1] - away[1]]

    return seen


def turned(quarters: int) -> Callable[[Array], Array]:
    return lambda pixels: np.rot90(pixels, quarters)


SEEN = {
    "80 %": middle(0.8), "90 %": middle(0.9), "115 %": middle(1.15), "130 %": middle(1.3),
    **{f"turn {n}": turned(n) for n in (1, 2, 3)},
}  # fmt: skip


def both(*views: str) -> tuple[str, ...]:
    """The mirror, and these as they are and mirrored."""
    return ("mirrored", *(seen for view in views for seen in (view, f"mirrored {view}")))


TURNS = tuple(f"turn {n}" for n in (1, 2, 3))
CELLS = {
    "none": (),
    "mirror": ("mirrored",),
    "115 %": ("115 %",),
    "mirror, 80 %, mirrored 80 %": both("80 %"),
    "mirror, 90 %, mirrored 90 %": both("90 %"),
    "mirror, 115 %, mirrored 115 %": both("115 %"),
    "mirror, 130 %, mirrored 130 %": both("130 %"),
    "mirror, 80 %, 115 %": ("mirrored", "80 %", "115 %"),
    "80 % and 115 %, all mirrored too": both("80 %", "115 %"),
    "three turns, all mirrored too": both(*TURNS),
    "three turns and 80 %, all mirrored too": both(*TURNS, "80 %"),
}


def through(photos: LabelledPhotos, view: str) -> LabelledPhotos:
    """The photos as a view shows them."""
    mirrored, made = view.startswith("mirrored"), SEEN.get(view.removeprefix("mirrored").strip())

    def seen(photo: Photo) -> Photo:
        pixels = photo.decode()
        pixels = made(pixels) if made else pixels
        pixels = pixels[:, ::-1] if mirrored else pixels
        return Photo(photo.name, None, np.ascontiguousarray(pixels))

    return replace(photos, photos=tuple(seen(photo) for photo in photos.photos))


def measured(train: Features, val: Features, rest: Features, text: Array, cell: str) -> list[float]:
    """Accuracy on ``rest``, and the error of training photos that are left out."""
    settings = TokenLadderSettings()
    reading = Reading.of(train, settings.tokens, CELLS[cell])

    def read(photos: Features) -> Array:
        return reading.rows(photos).astype(np.float64)

    ladder = fit_ladder(train, reading.text(text.astype(np.float64)), val, settings, read, 0.28)
    right = accuracy(TokenHead(ladder.head, reading).scores(rest), rest.labels)
    return [round(right, 4), round(ladder.left_out, 4)]


def main() -> None:
    parser = harness.parser(__doc__, DATASETS, CELLS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.table or args.write:
        cells = grid("views beside the photo", CELLS, LINES.read(), mean_of("accuracy"), PLACES)
        harness.publish("closed-forms.md", {"other-views": cells}, args.write)
        return
    done, checkpoint = LINES.done(), Checkpoint.open(resolve(None))
    for name in args.datasets:
        every, held = draws(args, name)
        wanted = sorted({view for cell in args.cells for view in CELLS[cell]})
        splits = {"": every} | {view: through(every, view) for view in wanted}
        shown = encode(checkpoint, splits, threads=1, cache=args.cache)
        photos = replace(shown[""], by_view={view: shown[view] for view in wanted})
        with closing(OnnxTextTower(checkpoint, every.class_names, threads=1)) as tower:
            text = normalise(tower.untuned)
        for shots in SHOTS:
            for seed in args.seeds:
                train, val = (photos.take(held[shots, seed, part]) for part in ("train", "val"))
                rest = photos.take(development(held, shots, seed, len(photos)))
                for cell in args.cells:
                    if (name, shots, seed, cell) not in done:
                        right, error = measured(train, val, rest, text, cell)
                        LINES.append({
                            "dataset": name, "shots": shots, "seed": seed, "cell": cell,
                            "accuracy": right, "left_out": error,
                        })  # fmt: skip


if __name__ == "__main__":
    main()
