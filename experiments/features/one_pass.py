"""What of the frozen tower the default reads, chosen on held-out development photos.

    python experiments/features/one_pass.py --data DATASETS --cache FOLDER
    python experiments/features/one_pass.py --write      # the table of docs/closed-forms.md

Embedded model, one template, seeds 1 to 3, 1, 4 and 16 photos per class, with validation photos. A
cell is the two rows that stand beside the projected feature in equation 1 of
`methods/token_ladder.py`, and their share: the state, the class token, or mean or deviation of the
tokens of patches after so many of the twelve blocks, of all patches or the middle half of both
sides. A line of ``one_pass.jsonl`` beside this file is one fit; accuracy is that on held-out
development photos, the test split is not read. What the cells read is kept in FOLDER. Needs torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from sharpzo.towers.patches import middle
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower
from sharpzo.types import Array, Features

DATASETS, SHOTS = ("fashion-mnist", "eurosat", "caltech101"), (1, 4, 16)
PLACES = [(name, shots) for name in DATASETS for shots in SHOTS]
LINES = Lines(__file__, "one_pass.jsonl", "dataset", "shots", "seed", "cell")
DEPTHS = range(4, 12)
BATCH = 16


@dataclass(frozen=True)
class Cell:
    """Two rows of ``ROWS`` and a share."""

    rows: tuple[str, str]
    share: float = 1 / 2

    @property
    def name(self) -> str:
        """As the table says it."""
        if not self.share:
            return "nothing"
        one, other = self.rows
        both = one if one == other else f"{one}, {other}"
        return f"{both}, share {self.share:.2f}"


def row(region: str, what: str, depth: int) -> str:
    return f"{what} of {region} after {depth}"


ROWS = ["state", "class token after 11", *(
    row(region, what, depth)
    for depth in DEPTHS for region in ("all", "the middle") for what in ("mean", "deviation")
)]  # fmt: skip
CELLS = {
    cell.name: cell
    for cell in (
        Cell(("state", "state"), 0.0),
        Cell(("state", "state"), 1 / 3),
        Cell(("class token after 11", row("all", "mean", 11)), 1 / 3),
        Cell(("class token after 11", row("all", "mean", 11))),
        Cell(("class token after 11", row("all", "mean", 8))),
        Cell((row("all", "mean", 8), row("all", "deviation", 8))),
        Cell((row("the middle", "mean", 8), row("all", "deviation", 8))),
        *(
            Cell((row("the middle", "mean", depth), row("the middle", "deviation", depth)))
            for depth in DEPTHS
        ),
        Cell((row("the middle", "mean", 8), row("the middle", "deviation", 8)), 1 / 3),
        Cell((row("the middle", "mean", 8), row("the middle", "deviation", 8)), 2 / 3),
    )
}


def read(checkpoint: Checkpoint, photos: LabelledPhotos) -> Iterator[Array]:
    """``ROWS`` of batches of photos (B, R, S)."""
    import torch

    from sharpzo.towers.torch_image import TorchImageTower

    tower = OnnxImageTower(checkpoint, threads=1)
    height, width = tower.pixels(photos.take([0]).decoded()).shape[2:]
    net, patch = TorchImageTower(checkpoint, height, width), checkpoint.image.patch
    places = {"all": slice(1, None), "the middle": middle(height // patch, width // patch, 1)}
    torch.set_num_threads(1)
    for first in range(0, len(photos), BATCH):
        some = photos.take(np.arange(first, min(first + BATCH, len(photos))))
        with torch.inference_mode():
            x, done = net.embed(torch.tensor(tower.pixels(some.decoded()))), 0
            found = {}
            for depth in DEPTHS:
                x, done = net.through(x, done, depth), depth
                for region, where in places.items():
                    tokens = x[:, where]
                    found[row(region, "mean", depth)] = tokens.mean(dim=1)
                    found[row(region, "deviation", depth)] = tokens.std(dim=1, correction=0)
            found["class token after 11"] = x[:, 0]
            found["state"] = net.states(x, 11)
            yield torch.stack([found[name] for name in ROWS], dim=1).numpy()


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


def grid(
    what: str,
    cells: Iterable[str],
    lines: Sequence[Mapping[str, Any]],
    show: Callable[[list[Mapping[str, Any]]], str],
    places: Sequence[tuple[str, int]] = PLACES,
) -> str:
    """A table of a row per cell and a column per set and number of photos; ``show`` makes text of
    the lines of a place."""
    head = [what, *(f"{name}, {shots}" for name, shots in places)]
    rows = []
    for cell in cells:
        row = [cell]
        for place in places:
            key = *place, cell
            found = [
                line for line in lines if (line["dataset"], line["shots"], line["cell"]) == key
            ]
            row.append(show(found) if found else "–")
        rows.append(row)
    return harness.table(head, rows)


def mean_of(column: str) -> Callable[[list[Mapping[str, Any]]], str]:
    """The mean of a column of shares, in percent."""
    return lambda found: f"{100 * np.mean([line[column] for line in found]):.1f}"


def rows_of(args: Any, checkpoint: Checkpoint, name: str, photos: LabelledPhotos) -> Array:
    """What `read` gives of all photos, kept in the cache's folder."""
    path = args.cache / f"patches-{name}-{photos.digest()[:16]}.npy"
    if not path.exists():
        args.cache.mkdir(parents=True, exist_ok=True)
        np.save(path, np.concatenate(list(read(checkpoint, photos))))
    return np.load(path, mmap_mode="r")


def measured(
    found: Array, every: LabelledPhotos, projection: Array, text: Array, held: Any, key: Any
) -> float:
    """Accuracy on development photos of one fit."""
    cell = CELLS[key["cell"]]
    rows = found[:, [ROWS.index(one) for one in cell.rows]]
    shown = Features(
        normalise(found[:, 0] @ projection.T), every.labels, every.class_names, patches=rows
    )
    shots, seed = key["shots"], key["seed"]
    train, val = (shown.take(held[shots, seed, part]) for part in ("train", "val"))
    rest = shown.take(development(held, shots, seed, len(shown)))
    ladder, how = fit_tokens(train, text, val, TokenLadderSettings(tokens=cell.share))
    return accuracy(TokenHead(ladder.head, how).scores(rest), rest.labels)


def main() -> None:
    parser = harness.parser(__doc__, DATASETS, CELLS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.table or args.write:
        cells = grid("beside the projection", CELLS, LINES.read(), mean_of("accuracy"))
        harness.publish("closed-forms.md", {"one-pass": cells}, args.write)
        return
    checkpoint = Checkpoint.open(resolve(None))
    for name in args.datasets:
        every, held = draws(args, name)
        found = rows_of(args, checkpoint, name, every)
        tower = OnnxTextTower(checkpoint, every.class_names, threads=1)
        text = normalise(tower.untuned)
        tower.close()
        projection = OnnxImageTower(checkpoint).projection
        for shots in SHOTS:
            for seed in args.seeds:
                for cell in args.cells:
                    key = {"dataset": name, "shots": shots, "seed": seed, "cell": cell}
                    if tuple(key.values()) not in LINES.done():
                        right = measured(found, every, projection, text, held, key)
                        LINES.append(key | {"accuracy": round(right, 4)})


if __name__ == "__main__":
    main()
