"""What else could tell photos of no class, on held-out development photos.

    python experiments/asks/trials.py --data DATASETS --cache FOLDER
    python experiments/asks/trials.py --write      # the table of docs/trust.md

Embedded model, 16 photos per class, seeds 1 to 3. Of a data set half of the classes are known:
twelve halves, the four of ``run.py`` and eight drawn at random. A line of ``trials.jsonl`` beside
this file is the area under the ROC curve of every cell on the development photos of one draw and
half; the test split is not read. Cells are scores that are larger for photos of known classes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "features"))
import harness
import numpy as np
from harness import SEEDS, Lines, table
from one_pass import development, draws
from run import HALVES, half

from sharpzo.fitting import strangers
from sharpzo.fitting.strangers import Distance
from sharpzo.methods.cached import read_text
from sharpzo.metrics import normalise, separation
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Array, Features

DATASETS, RANDOM = ("fashion-mnist", "eurosat"), 8
LINES = Lines(__file__, "trials.jsonl", "dataset", "seed", "half")
Score = tuple[Array, Array]  # of new photos, and of the training photos, each left out


class Rule:
    """Equations 1 and 2 of `strangers.py` on rows x (N, S) with labels y, for rows e (M, S)."""

    def __init__(self, x: Array, y: Array, e: Array, shrinkage: float = 10.0) -> None:
        self.x, self.y, self.e = x, y, e
        counts = np.bincount(y)
        self.means = np.array([x[y == k].mean(axis=0) for k in range(len(counts))])
        before, strangers.SHRINKAGE = strangers.SHRINKAGE, shrinkage
        self.near = Distance(x - self.means[y], self.means, counts)
        far = Distance(x - x.mean(axis=0), x.mean(axis=0)[None], np.array([len(x)]))
        strangers.SHRINKAGE = before
        self.nearness = -self.near(e), -self.near.left_out(x, y)
        self.farness = far(e), far.left_out(x, np.zeros(len(x), int))
        self.score = mixed((1, self.nearness), (0.5, self.farness))

    def by_class(self, power: float) -> Score:
        """Distances divided by what is usual in each class."""
        usual = np.array([-self.nearness[1][self.y == k].mean() for k in range(len(self.means))])
        squares = self.near._squares(self.e) / (1 + 1 / self.near.counts)
        return -(squares / usual**power).min(axis=1), self.nearness[1] / usual[self.y] ** power

    def energy(self) -> Score:
        """The Gaussians' summed density in place of the nearest one's."""
        scale = -2 * self.nearness[1].mean() / len(self.means)
        squares = self.near._squares(self.e) / (1 + 1 / self.near.counts)
        return pooled(-squares / scale), self.nearness[1] / scale

    def nearest(self, many: int) -> Score:
        """The mean distance from the nearest training photos, by the metric of equation 1."""

        def white(rows: Array) -> Array:
            along = rows @ self.near.axes.T
            across = (rows - along @ self.near.axes) / np.sqrt(self.near.ridge)
            inside = along / np.sqrt(self.near.latent + self.near.ridge)
            return np.concatenate([across, inside], axis=1)

        x, e = white(self.x), white(self.e)
        new, own = squares(e, x), squares(x, x)
        np.fill_diagonal(own, np.inf)
        new, own = (np.sort(found, axis=1)[:, :many].mean(axis=1) for found in (new, own))
        return -new, -own

    def outside(self) -> Score:
        """The residual outside the directions of nine tenths of the training photos' variance."""
        middle = self.x.mean(axis=0)
        _, sizes, axes = np.linalg.svd(self.x - middle, full_matrices=False)
        axes = axes[: np.searchsorted(np.cumsum(sizes**2) / (sizes**2).sum(), 0.9) + 1]
        parts = [rows - middle - (rows - middle) @ axes.T @ axes for rows in (self.e, self.x)]
        new, own = (-np.linalg.norm(part, axis=1) for part in parts)
        return new, own

    def ridge(self) -> tuple[Score, Score]:
        """The best score of ridge regression to one-hot labels, and its lead."""
        middle, targets = self.x.mean(axis=0), np.eye(len(self.means))[self.y]
        x, level = self.x - middle, targets.mean(axis=0)
        inverse = np.linalg.inv(x.T @ x + 0.3 * np.eye(x.shape[1]))
        slopes = inverse @ x.T @ (targets - level)
        hat = (x @ inverse * x).sum(axis=1) + 1 / len(x)
        own = targets - (targets - x @ slopes - level) / (1 - hat)[:, None]
        new = (self.e - middle) @ slopes + level
        two = [np.sort(found, axis=1)[:, -2:] for found in (new, own)]
        best, lead = (
            [rule(t) for t in two] for rule in (lambda t: t[:, 1], lambda t: t[:, 1] - t[:, 0])
        )
        return (best[0], best[1]), (lead[0], lead[1])

    def learned(self) -> Score:
        """Nearness, farness and the nearest three, weighed by Fisher's discriminant between known
        photos and those of each known class, left out in turn."""
        known, strange = [], []
        for k in range(len(self.means)):
            stays = self.y != k
            part = Rule(self.x[stays], np.searchsorted(np.unique(self.y[stays]), self.y[stays]),
                        self.x[~stays])  # fmt: skip
            scores = [standard(one) for one in (part.nearness, part.farness, part.nearest(3))]
            strange.append(np.stack([new for new, _ in scores], axis=1))
            known.append(np.stack([own for _, own in scores], axis=1))
        a, b = np.concatenate(known), np.concatenate(strange)
        weights = np.linalg.solve(np.cov(a.T) + np.cov(b.T), a.mean(axis=0) - b.mean(axis=0))
        scores = [self.nearness, self.farness, self.nearest(3)]
        return mixed(*zip(weights, scores, strict=True))


def squares(a: Array, b: Array) -> Array:
    return (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T


def pooled(logits: Array) -> Array:
    """The logarithm of the sum of exponentials over the last axis."""
    top = logits.max(axis=1)
    return top + np.log(np.exp(logits - top[:, None]).sum(axis=1))


def standard(score: Score) -> Score:
    new, own = score
    return (new - own.mean()) / own.std(), (own - own.mean()) / own.std()


def mixed(*terms: tuple[float, Score]) -> Score:
    """A weighted sum of scores, each standardised over the training photos."""
    parts = [(weight * new, weight * own) for weight, score in terms
             for new, own in [standard(score)]]  # fmt: skip
    return sum(new for new, _ in parts), sum(own for _, own in parts)  # type: ignore[return-value]


def cells(train: Features, photos: Features, text: Array, known: Array) -> dict[str, Score]:
    """Every cell; ``known`` are classes of the text (K, D), which the labels of ``train`` count."""
    y = np.searchsorted(known, train.labels)
    spaces = {"states": (normalise(train.states), normalise(photos.states)),
              "projection": (train.vectors, photos.vectors)}  # fmt: skip
    for k, name in enumerate(("class token", "mean token")):
        a, b = (normalise(p.tokens[:, k] - p.tokens[:, k].mean(axis=1, keepdims=True))
                for p in (train, photos))  # fmt: skip
        middle = a.mean(axis=0)
        spaces[name] = normalise(a - middle), normalise(b - middle)
    spaces = {name: (a.astype(float), b.astype(float)) for name, (a, b) in spaces.items()}
    x, e = spaces["states"]
    rule = Rule(x, y, e)
    three = [np.concatenate([spaces[name][i] for name in ("states", "class token", "mean token")],
                            axis=1) / 3**0.5 for i in (0, 1)]  # fmt: skip
    other = {name: Rule(a, y, b).score for name, (a, b) in spaces.items() if name != "states"}
    best, lead = rule.ridge()
    cosines = [p.vectors @ text.T for p in (photos, train)]
    unknown = np.setdiff1d(np.arange(len(text)), known)
    nearest_name = tuple(c[:, known].max(axis=1) for c in cosines)
    oracle = tuple(pooled(50 * c[:, known]) - pooled(50 * c[:, unknown]) for c in cosines)
    return {
        "the rule": rule.score,
        "states and tokens in one vector": Rule(three[0], y, three[1]).score,
        "the rule beside both tokens": mixed(
            (1, rule.score), (0.25, other["class token"]), (0.25, other["mean token"])
        ),
        "the rule beside the projection": mixed((1, rule.score), (0.5, other["projection"])),
        "a tenth of the shrinkage": Rule(x, y, e, 1.0).score,
        "ten times the shrinkage": Rule(x, y, e, 100.0).score,
        "summed density of the Gaussians": rule.energy(),
        "nearest photo": rule.nearest(1),
        "nearest three photos": rule.nearest(3),
        "nearest five photos": rule.nearest(5),
        "the rule beside the nearest three": mixed((1, rule.score), (1, rule.nearest(3))),
        "distances by the scatter of a class": rule.by_class(1.0),
        "distances by its root": rule.by_class(0.5),
        "residual outside the main directions": rule.outside(),
        "the rule beside that residual": mixed((1, rule.score), (0.5, rule.outside())),
        "weights by leaving classes out": rule.learned(),
        "ridge regression, best score": best,
        "ridge regression, its lead": lead,
        "cosine with the nearest name": nearest_name,  # type: ignore[dict-item]
        "the rule beside that cosine": mixed((1, rule.score), (0.5, nearest_name)),  # type: ignore[arg-type]
        "names of the strangers given": oracle,  # type: ignore[dict-item]
        "the rule beside those names": mixed((1, rule.score), (1, oracle)),  # type: ignore[arg-type]
    }


def halves(classes: int) -> Iterable[tuple[str, Array]]:
    yield from ((name, half(classes, name)) for name in HALVES)
    rng = np.random.default_rng(0)
    for number in range(1, RANDOM + 1):
        yield f"random {number}", np.sort(rng.permutation(classes)[: (classes + 1) // 2])


def tables(write: bool) -> None:
    lines = LINES.read()
    names = list(dict.fromkeys(line["dataset"] for line in lines))

    def shown(dataset: str, cell: str, which: str | None = None) -> str:
        some = [line["auroc"][cell] for line in lines
                if line["dataset"] == dataset and which in (None, line["half"])]  # fmt: skip
        return f"{np.mean(some):.3f}"

    head = [f"{name}{what}" for name in names for what in (", all", ", second half")]
    rows = [
        [cell, *(shown(name, cell, which) for name in names for which in (None, "second"))]
        for cell in lines[0]["auroc"]
    ]
    harness.publish("trust.md", {"trials": table(("score", *head), rows)}, write)


def main() -> None:
    parser = harness.parser(__doc__, DATASETS)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.write:
        return tables(True)
    checkpoint, done = Checkpoint.open(resolve(None)), LINES.done()
    for name in args.datasets:
        photos, held = draws(args, name)
        found: Any = encode(checkpoint, {"all": photos}, threads=1, cache=args.cache)["all"]
        tower = OnnxTextTower(checkpoint, photos.class_names, threads=1)
        text = read_text(tower).features
        tower.close()
        for seed in SEEDS:
            train = found.take(held[16, seed, "train"])
            rest = found.take(development(held, 16, seed, len(photos)))
            for which, known in halves(len(photos.class_names)):
                if (name, seed, which) in done:
                    continue
                is_known = np.isin(rest.labels, known)
                of_these = train.take(np.flatnonzero(np.isin(train.labels, known)))
                scores = cells(of_these, rest, text, known)
                auroc = {cell: round(separation(new[is_known], new[~is_known]), 4)
                         for cell, (new, _) in scores.items()}  # fmt: skip
                LINES.append({"dataset": name, "seed": seed, "half": which, "auroc": auroc})


if __name__ == "__main__":
    main()
