"""What more blocks, and the classifier's own left-out error, could bring to `ladder+image`.

    python experiments/features/deeper.py --data DATASETS --cache FOLDER
    python experiments/features/deeper.py --write      # the table of docs/closed-forms.md

`ladder+image` descends along the exact gradient of its last block, with class offsets moved beside.
Here torch gives the exact gradient of factors in the last block or in the last four, which no
method of forward passes can better, of one of two losses on the training photos:

    offsets    cross-entropy of factors.py's equation 2, offsets and their penalty with it
    left out   cross-entropy of each photo's score by ridge regression on the others, solved anew in
               every step (variable projection; no offsets are searched)

Both see a photo through one of four views per step, in turn. Factors, rates, steps and their choice
by validation photos are those of `ladder+image`. Embedded model, one template; a line of
``deeper.jsonl`` beside this file is one fit: accuracy on 400 held-out development photos of the
default (``plain``), at the chosen steps (``tuned``) and after the last (``end``). The test split is
not read. Needs torch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
import torch
from harness import Lines
from one_pass import development, draws, grid
from torch.nn import functional

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.methods.factors import PARTS, least_offsets
from sharpzo.methods.image_ladder import ImageLadderSettings
from sharpzo.methods.token_ladder import Reading, TokenHead, fit_tokens
from sharpzo.metrics import accuracy, cross_entropy, normalise
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.patches import middle, spread
from sharpzo.towers.torch_image import TorchImageTower
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower
from sharpzo.types import Array, Features

LINES = Lines(__file__, "deeper.jsonl", "dataset", "shots", "seed", "cell")
PLACES = (("eurosat", 16), ("fashion-mnist", 16), ("eurosat", 4))
CELLS = {
    f"{many}, {loss}": (blocks, loss)
    for many, blocks in (("last block", 1), ("last four blocks", 4))
    for loss in ("offsets", "left out")
}
VIEWS = ("", "mirror", "middle", "mirrored middle")
FIRST = 8  # what is kept of a photo: the tokens that enter this block
SETTINGS = ImageLadderSettings()
SHARPNESS = 20.0  # of scores, as in ladder.py
BATCH, MANY = 32, 400


class Tower(TorchImageTower):
    """The image tower with factors in its last blocks."""

    def __init__(self, checkpoint: Checkpoint, side: int, blocks: int, seed: int) -> None:
        self.factors: dict[tuple[int, str], tuple[Any, Any, float]] = {}
        self._draws = torch.Generator().manual_seed(seed)
        layers = checkpoint.image.layers
        super().__init__(
            checkpoint, side, side, tuned=layers - blocks,
            branches=lambda n: {part: self._branch(n, part) for part in PARTS}
            if n >= layers - blocks else {},
        )  # fmt: skip
        for (layer, part), (low, high, _) in list(self.factors.items()):
            weight = self.parameters[f"{layer}.{part}.weight"]
            low.data = torch.randn(
                SETTINGS.rank, weight.shape[1], generator=self._draws
            ) / weight.shape[1] ** 0.5  # fmt: skip
            high.data = torch.zeros(weight.shape[0], SETTINGS.rank)
            size = float(weight.std() * min(weight.shape) ** 0.5)
            self.factors[layer, part] = low, high, size

    def _branch(self, layer: int, part: str) -> Any:
        low, high = (torch.nn.Parameter(torch.zeros(0)) for _ in range(2))
        self.factors[layer, part] = low, high, 1.0

        def added(x: torch.Tensor) -> torch.Tensor:
            low, high, size = self.factors[layer, part]
            return size * functional.linear(functional.linear(x, low), high)

        return added

    @property
    def tuned(self) -> list[Any]:
        """Both factors of every matrix."""
        return [one for low, high, _ in self.factors.values() for one in (low, high)]


class Photos:
    """All photos of a set before block `FIRST`, through each view, and what never changes."""

    def __init__(self, checkpoint: Checkpoint, photos: LabelledPhotos, folder: Path) -> None:
        self.every, self.tokens = photos, {}
        with torch.inference_mode():
            for view in VIEWS:
                self.tokens[view] = self._kept(checkpoint, view, folder)

    def _kept(self, checkpoint: Checkpoint, view: str, folder: Path) -> Array:
        name = f"before-{FIRST}-{view.replace(' ', '-') or 'whole'}-{self.every.digest()[:16]}.npy"
        path = folder / name
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            images = OnnxImageTower(checkpoint, threads=1)
            photos, parts, net = self.every.seen(view) if view else self.every, [], None
            for rows in chunks(np.arange(len(photos))):
                pixels = torch.tensor(images.pixels(photos.take(rows).decoded()))
                net = net or TorchImageTower(checkpoint, *pixels.shape[2:])
                parts.append(net.through(net.embed(pixels), 0, FIRST).numpy().astype(np.float16))
            np.save(path, np.concatenate(parts))
        return np.load(path, mmap_mode="r")

    def take(self, rows: Array, view: str = "") -> torch.Tensor:
        return torch.from_numpy(self.tokens[view][rows].astype(np.float32))

    def features(
        self, net: TorchImageTower, projection: Array, rows: Array, view: str = ""
    ) -> Features:
        """Features of photos whose last blocks are the net's."""
        vectors, patches = [], []
        side = round((self.tokens[""].shape[1] - 1) ** 0.5)
        with torch.no_grad():
            for some in chunks(rows):
                tokens = self.take(some, view)
                vectors.append(normalise(net.states(tokens, FIRST).numpy() @ projection.T))
                patches.append(spread(tokens.numpy()[:, middle(side, side, 1)]))
        return Features(
            np.concatenate(vectors), self.every.labels[rows], self.every.class_names,
            patches=np.concatenate(patches),
        )  # fmt: skip


def chunks(rows: Array) -> Iterator[Array]:
    for first in range(0, len(rows), BATCH):
        yield rows[first : first + BATCH]


def left_out(x: Any, text: Any, own: Any, labels: Any, penalty: Any, share: float) -> Any:
    """Scores (N, K) of photos x (N, D), each by ridge regression on the others: its text's line and
    offsets on (sqrt(1 - share) x, own)."""
    wanted = functional.one_hot(labels, len(text)).float()
    cosines = x @ text.T
    away = cosines - cosines.mean()
    base = wanted.mean() + away * ((away * wanted).sum() / (away**2).sum())
    rows = torch.cat([(1 - share) ** 0.5 * x, own], dim=1)
    inverse = torch.linalg.inv(rows @ rows.T + penalty * torch.eye(len(rows)))
    return wanted - (inverse @ (wanted - base)) / inverse.diagonal()[:, None]


def descend(
    net: Tower, loss: str, photos: Photos, rows: Array, train: Features, text: Array, scale: float,
    projection: Array,
) -> Iterator[int]:  # fmt: skip
    """Change the net's factors step by step."""
    reading = Reading.of(train, SETTINGS.tokens)
    owns = [
        torch.from_numpy(reading.rows(seen)[:, 0, text.shape[1] :]).float()
        for seen in (photos.features(net, projection, rows, view) for view in VIEWS)
    ]
    share, labels = reading.share, torch.from_numpy(train.labels).long()
    names, matrix = torch.from_numpy(text).float(), torch.from_numpy(np.array(projection))
    offsets = torch.nn.Parameter(torch.from_numpy(
        least_offsets(train.vectors, train.labels, text, scale, SETTINGS.offset_penalty)
    ))  # fmt: skip
    groups = [{"params": net.tuned, "lr": SETTINGS.rate}]
    if loss == "offsets":
        groups.append({"params": [offsets], "lr": SETTINGS.rate / 5})
    x = torch.from_numpy(train.vectors)
    wanted = functional.one_hot(labels, len(text))
    penalties = [10.0**power for power in (-2, -1.5, -1, -0.5, 0, 0.5, 1)]
    errors = [
        float(((left_out(x, names, owns[0], labels, one, share) - wanted) ** 2).mean())
        for one in penalties
    ]
    penalty = penalties[int(np.argmin(errors))]
    adam = torch.optim.Adam(groups)
    for step in range(max(SETTINGS.steps)):
        place = step % len(VIEWS)
        seen = photos.take(rows, VIEWS[place])
        x = functional.normalize(net.states(seen, FIRST) @ matrix.T, dim=-1)
        if loss == "offsets":
            logits = scale * x @ (names + offsets).T
            more = SETTINGS.offset_penalty * (offsets**2).sum()
        else:
            logits = SHARPNESS * left_out(x, names, owns[place], labels, penalty, share)
            more = 0.0
        adam.zero_grad()
        (functional.cross_entropy(logits, labels) + more).backward()
        adam.step()
        yield step + 1


def measured(
    checkpoint: Checkpoint, photos: Photos, parts: dict[str, Array], text: Array, scale: float,
    projection: Array, side: int, seed: int, cell: str,
) -> dict[str, Any]:  # fmt: skip
    """One fit and its accuracy."""
    blocks, loss = CELLS[cell]
    net = Tower(checkpoint, side, blocks, seed)

    def now() -> tuple[dict[str, Features], float, float]:
        found = {name: photos.features(net, projection, rows) for name, rows in parts.items()}
        ladder, reading = fit_tokens(found["train"], text, found["val"], SETTINGS)
        head = TokenHead(ladder.head, reading)
        least = cross_entropy(head.scores(found["val"]), found["val"].labels)
        return found, float(least), accuracy(head.scores(found["rest"]), found["rest"].labels)

    found, least, plain = now()
    right, steps, end, begin = plain, 0, plain, time.process_time()
    rows = parts["train"]
    for made in descend(net, loss, photos, rows, found["train"], text, scale, projection):
        if made in SETTINGS.steps:
            _, error, end = now()
            if error < least:
                least, right, steps = error, end, made
    return {
        "plain": round(plain, 4), "tuned": round(right, 4), "end": round(end, 4), "steps": steps,
        "seconds": round(time.process_time() - begin),
    }  # fmt: skip


def table() -> str:
    """Means over seeds."""

    def change(found: list[Mapping[str, Any]]) -> str:
        plain, tuned, end = (
            100 * np.mean([line[what] for line in found]) for what in ("plain", "tuned", "end")
        )
        return f"{plain:.1f} → {tuned:.1f}, {end:.1f} ({len(found)})"

    return grid("cell", CELLS, LINES.read(), change, PLACES)


def main() -> None:
    parser = harness.parser(__doc__, cells=CELLS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.table or args.write:
        harness.publish("closed-forms.md", {"deeper": table()}, args.write)
        return
    torch.set_num_threads(1)
    checkpoint, known = Checkpoint.open(resolve(None)), {}
    for seed in args.seeds:
        for name, shots in PLACES:
            if name not in known:
                every, held = draws(args, name)
                names = OnnxTextTower(checkpoint, every.class_names, threads=1)
                text, scale = normalise(names.untuned), names.logit_scale
                names.close()
                known[name] = Photos(checkpoint, every, args.cache), held, text, scale
            photos, held, text, scale = known[name]
            images = OnnxImageTower(checkpoint, threads=1)
            side = images.pixels(photos.every.take([0]).decoded()).shape[2]
            rest = development(held, shots, seed, len(photos.every))
            rest = np.sort(np.random.default_rng(0).permutation(rest)[:MANY])
            parts = {part: held[shots, seed, part] for part in ("train", "val")} | {"rest": rest}
            for cell in args.cells:
                key = {"dataset": name, "shots": shots, "seed": seed, "cell": cell}
                if tuple(key.values()) not in LINES.done():
                    line = measured(
                        checkpoint, photos, parts, text, scale, images.projection, side, seed, cell
                    )
                    LINES.append(key | line)


if __name__ == "__main__":
    main()
