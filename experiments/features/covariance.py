"""The covariance of the middle patches' tokens in place of their deviation, in the default.

    python experiments/features/covariance.py --data DATASETS --cache FOLDER
    python experiments/features/covariance.py --write      # the table of docs/closed-forms.md

Embedded model, one template, seeds 1 to 3, with validation photos. The second row of equation 1 of
`methods/token_ladder.py` is the upper triangle of the covariance along so many random orthogonal
directions (drawn by the seed), 351 to 3,240 numbers for 384. A line of ``covariance.jsonl`` beside
this file is one fit; accuracy is that on held-out development photos, the test split is not read.
The tokens are kept in FOLDER. Needs torch.
"""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines
from one_pass import development, draws, grid, mean_of
from other_views import PLACES

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.methods.token_ladder import TokenLadderSettings, fit_ladder
from sharpzo.metrics import accuracy, normalise
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.patches import depth, middle
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower
from sharpzo.types import Array, Features

LINES = Lines(__file__, "covariance.jsonl", "dataset", "shots", "seed", "cell")
CELLS = {
    "deviation": 0,
    **{f"covariance along {n} directions": n for n in (26, 48, 80)},
}
BATCH = 16


@dataclass(frozen=True)
class Photos:
    """All photos of a set: features, and the middle patches' tokens (N, T, S)."""

    features: Features
    tokens: Array

    @classmethod
    def of(cls, checkpoint: Checkpoint, every: LabelledPhotos, folder: Path) -> Photos:
        path = folder / f"middle-{every.digest()[:16]}.npz"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            vectors, tokens = _read(checkpoint, every)
            np.savez(path, vectors=vectors, tokens=tokens)
        found = np.load(path)
        return cls(Features(found["vectors"], every.labels, every.class_names), found["tokens"])

    def rows(self, directions: int, seed: int) -> tuple[Array, Array]:
        """Mean (N, S) and the row beside it, each without its mean and of length 1."""
        tokens = self.tokens.astype(np.float32)
        away = tokens - tokens.mean(axis=1, keepdims=True)
        if not directions:
            return _own(tokens.mean(axis=1)), _own(tokens.std(axis=1))
        draws = np.random.default_rng(seed).standard_normal((tokens.shape[2],) * 2)
        along = away @ np.linalg.qr(draws)[0][:, :directions].astype(np.float32)
        product = along.swapaxes(1, 2) @ along
        one, other = np.triu_indices(directions)
        triangle = product[:, one, other] * np.where(one == other, 1, np.sqrt(2))
        return _own(tokens.mean(axis=1)), normalise(triangle)


def _own(rows: Array) -> Array:
    return normalise(rows - rows.mean(axis=1, keepdims=True))


def _read(checkpoint: Checkpoint, every: LabelledPhotos) -> tuple[Array, Array]:
    import torch

    from sharpzo.towers.torch_image import TorchImageTower

    vectors, kept, net = [], [], None
    with closing(OnnxImageTower(checkpoint, threads=1)) as tower, torch.inference_mode():
        for first in range(0, len(every), BATCH):
            some = every.take(np.arange(first, min(first + BATCH, len(every))))
            pixels = torch.tensor(tower.pixels(some.decoded()))
            net = net or TorchImageTower(checkpoint, *pixels.shape[2:])
            before = depth(net.layers)
            tokens = net.through(net.embed(pixels), 0, before)
            side = pixels.shape[2] // checkpoint.image.patch
            kept.append(tokens[:, middle(side, side, 1)].numpy().astype(np.float16))
            vectors.append(normalise(net.states(tokens, before).numpy() @ tower.projection.T))
    return np.concatenate(vectors), np.concatenate(kept)


def measured(
    photos: Photos, text: Array, parts: dict[str, Array], directions: int, seed: int
) -> float:
    """Accuracy of one fit on the rows of ``rest``."""
    settings, x = TokenLadderSettings(), photos.features.vectors
    away = [
        normalise(row - row[parts["train"]].mean(axis=0)) for row in photos.rows(directions, seed)
    ]
    z = np.concatenate([x, *(np.sqrt(1 / 2) * row for row in away)], axis=1) * np.sqrt(1 / 2)
    names = np.pad(text / np.sqrt(1 / 2), ((0, 0), (0, z.shape[1] - text.shape[1])))
    # The solution lies in the span of photos and names.
    basis = np.linalg.qr(np.concatenate([z[parts["train"]], names]).T.astype(np.float64))[0]
    seen = Features(z @ basis, photos.features.labels, photos.features.class_names)
    train, val, rest = (seen.take(parts[part]) for part in ("train", "val", "rest"))
    width = x.shape[1] + 2 * photos.tokens.shape[2]  # the expert's weight is the default's
    ladder = fit_ladder(
        train, names @ basis, val,
        replace(settings, gaussian=settings.gaussian * width / basis.shape[1]),
        lambda some: some.vectors[:, None], 0.28,
    )  # fmt: skip
    return accuracy(ladder.head.scores(rest), rest.labels)


def main() -> None:
    parser = harness.parser(__doc__, ("fashion-mnist", "eurosat"), CELLS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.table or args.write:
        cells = grid("beside the mean", CELLS, LINES.read(), mean_of("accuracy"), PLACES)
        harness.publish("closed-forms.md", {"covariance": cells}, args.write)
        return
    checkpoint = Checkpoint.open(resolve(None))
    for name in args.datasets:
        every, held = draws(args, name)
        photos = Photos.of(checkpoint, every, args.cache)
        with closing(OnnxTextTower(checkpoint, every.class_names, threads=1)) as tower:
            text = normalise(tower.untuned)
        for shots in (shots for place, shots in PLACES if place == name):
            for seed in args.seeds:
                parts = {part: held[shots, seed, part] for part in ("train", "val")}
                parts["rest"] = development(held, shots, seed, len(every))
                for cell in args.cells:
                    key: dict[str, Any] = {
                        "dataset": name, "shots": shots, "seed": seed, "cell": cell,
                    }  # fmt: skip
                    if tuple(key.values()) not in LINES.done():
                        right = measured(photos, text, parts, CELLS[cell], seed)
                        LINES.append(key | {"accuracy": round(right, 4)})


if __name__ == "__main__":
    main()
