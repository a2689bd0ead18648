"""Does what was tuned on some classes help the names of others? Halves of classes, many of them.

    python experiments/ladder/unseen.py --data DATASETS
    python experiments/ladder/table.py

Half of the classes has photos; accuracy on photos of the other half among its names, minus
zero-shot. The test split is not read: photos are those of all three draws of 16 shots (training and
validation) that the fit has not seen. Halves: CoOp's, the same swapped, random ones.

* ``projection``: the method, a change of the text projection that all names share;
* ``norm``: gains and biases of the text tower's final norm, the same loss, penalty by validation;
* ``kernel w``: equation 1 of methods/ladder.py with offsets that spread to names of like states,
  d(h) = sum_k g_k exp(-|h - h_k|**2 / 2 (w s)**2), s the root mean square distance between the
  trained names; w = 0 gives a name without photos its text, which is what ``ladder`` does;
* ``kernel by classes``: of these widths the one with the best mean over classes left out in thirds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import SEEDS, Lines
from run import DATASETS

from sharpzo.descent import minimise
from sharpzo.methods.choose import choose
from sharpzo.methods.projection import ProjectionSettings, fit_projection
from sharpzo.metrics import accuracy, normalise, softmax
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Array, Features

LINES = Lines(__file__, "unseen.jsonl")
WIDTHS = (0.0, 0.2, 0.35, 0.5, 0.7)
PENALTY = 0.3


def part(split: Features, classes: Array) -> Features:
    """The photos of some classes, which are counted anew."""
    place = np.full(len(split.class_names), -1)
    place[classes] = np.arange(len(classes))
    rows = place[split.labels] >= 0
    names = tuple(split.class_names[k] for k in classes)
    return Features(split.vectors[rows].astype(np.float64), place[split.labels[rows]], names)


def distances(a: Array, b: Array) -> Array:
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)


class Spread:
    """Ridge regression whose offsets spread along a kernel of text states, for any width."""

    def __init__(self, train: Features, unit: Array, states: Array) -> None:
        self.latent, self.basis = np.linalg.eigh(train.vectors.T @ train.vectors)
        left = np.eye(len(unit))[train.labels] - train.vectors @ unit.T
        self.along = self.basis.T @ (train.vectors.T @ left)
        self.states, k = states, len(states)
        self.square = distances(states, states).sum() / (k * (k - 1))

    def __call__(self, width: float, states: Array) -> Array:
        """Offsets (M, D) of names with these states, none of them trained."""
        if width == 0:
            return np.zeros((len(states), len(self.basis)))
        scale = 2 * width**2 * self.square
        values, vectors = np.linalg.eigh(np.exp(-distances(self.states, self.states) / scale))
        shrunk = self.along @ vectors / (self.latent[:, None] * np.maximum(values, 0) + PENALTY)
        return np.exp(-distances(states, self.states) / scale) @ (self.basis @ shrunk @ vectors.T).T


def by_classes(train: Features, unit: Array, states: Array, seed: int) -> float:
    """The width of the best mean gain over classes left out, six times in thirds."""
    rng, gains = np.random.default_rng(seed), []
    k = len(unit)
    for _ in range(6):
        for out in np.array_split(rng.permutation(k), max(1, min(3, k // 2))):
            rest = np.setdiff1d(np.arange(k), out)
            if len(out) < 2 or len(rest) < 2:
                continue
            spread = Spread(part(train, rest), unit[rest], states[rest])
            held = part(train, out)
            right = [
                accuracy(held.vectors @ (unit[out] + spread(w, states[out])).T, held.labels)
                for w in WIDTHS
            ]
            gains.append(np.subtract(right, right[0]))
    return WIDTHS[int(np.mean(gains, axis=0).argmax())] if gains else 0.0


def tuned_norm(train: Features, val: Features, states: Array, tower: Any, lengths: Array) -> Array:
    """Gains and biases (2, H) of the final norm, relative to what they are."""
    scale, w = tower.logit_scale, tower.projection.astype(np.float64)
    one_hot = np.eye(len(states))[train.labels]

    def text(moves: Array) -> Array:
        return (states * (1 + moves[0]) + moves[1]) @ w.T / lengths

    def path() -> Any:
        moves = np.zeros((2, states.shape[1]))
        for penalty in np.logspace(0, -5, 11):

            def loss(m: Array, penalty: float = penalty) -> tuple[float, Array]:
                probabilities = softmax(scale * train.vectors @ text(m).T)
                error = scale / len(one_hot) * (probabilities - one_hot)
                back = (error.T @ train.vectors) @ w / lengths
                slope = np.stack([(back * states).sum(0), back.sum(0)])
                value = (
                    penalty * (m**2).sum()
                    - np.log((probabilities * one_hot).sum(1) + 1e-300).mean()
                )
                return float(value), slope + 2 * penalty * m

            moves = minimise(loss, moves)
            yield moves, scale * val.vectors @ text(moves).T

    return choose(path(), val.labels)


def main() -> None:
    parser = harness.parser(__doc__, DATASETS)
    parser.add_argument("--shots", type=int, nargs="+", default=[16])
    parser.add_argument("--halves", nargs="+", default=["coop", "swapped", "1", "2", "3", "4"])
    args = parser.parse_args()
    checkpoint = Checkpoint.open(resolve(None))
    for dataset in args.datasets:
        draws, digests = {}, {}
        for shots in {16, *args.shots}:
            for seed in SEEDS:
                drawn = harness.draw(args.data, dataset, seed, shots)
                kept = {"train": drawn.train, "val": drawn.val}
                draws[shots, seed] = encode(checkpoint, kept, threads=1, cache=args.cache)
                for what, split in kept.items():
                    digests[shots, seed, what] = [photo.digest() for photo in split.photos]
        names = drawn.class_names
        tower = OnnxTextTower(checkpoint, names, threads=1)
        states = tower.states(tower.start[None])[0].astype(np.float64)
        raw = states @ tower.projection.astype(np.float64).T
        lengths, unit = np.linalg.norm(raw, axis=1, keepdims=True), normalise(raw)
        for shots in args.shots:
            for halves in args.halves:
                order = np.arange(len(names))
                if halves.isdigit():
                    order = np.random.default_rng(int(halves)).permutation(len(names))
                base, new = np.split(order, [(len(names) + 1) // 2])
                if halves == "swapped":
                    base, new = new, base
                for seed in SEEDS:
                    own = draws[shots, seed]
                    train, val = part(own["train"], base), part(own["val"], base)
                    seen = {*digests[shots, seed, "train"], *digests[shots, seed, "val"]}
                    known, others = others_of(draws, digests, seen, base, new)
                    zero = accuracy(others.vectors @ unit[new].T, others.labels)
                    line: dict[str, Any] = {
                        "dataset": dataset, "halves": halves, "shots": shots, "seed": seed,
                        "photos": len(others), "zero_shot": zero,
                        "zero_shot_base": accuracy(known.vectors @ unit[base].T, known.labels),
                    }  # fmt: skip
                    fitted = fit_projection(
                        states[base], tower.projection, tower.logit_scale, train, val,
                        ProjectionSettings(),
                    )  # fmt: skip
                    moved = raw + states @ fitted.right.T @ fitted.left.T
                    line["projection"] = gain(others, moved[new] / lengths[new], zero)
                    line["projection_base"] = accuracy(fitted.head.scores(known), known.labels)
                    moves = tuned_norm(train, val, states[base], tower, lengths[base])
                    normed = (states * (1 + moves[0]) + moves[1]) @ tower.projection.T / lengths
                    line["norm"] = gain(others, normed[new], zero)
                    line["norm_base"] = accuracy(known.vectors @ normed[base].T, known.labels)
                    spread = Spread(train, unit[base], states[base])
                    for width in WIDTHS[1:]:
                        text = unit[new] + spread(width, states[new])
                        line[f"kernel {width}"] = gain(others, text, zero)
                    chosen = by_classes(train, unit[base], states[base], seed)
                    text = unit[new] + spread(chosen, states[new])
                    line["kernel by classes"] = gain(others, text, zero)
                    line |= {"width_by_classes": chosen, "model": checkpoint.fingerprint[:12]}
                    LINES.append(line)
        tower.close()


def gain(photos_of: Features, text: Array, zero: float) -> float:
    return accuracy(photos_of.vectors @ text.T, photos_of.labels) - zero


def others_of(
    draws: Any, digests: Any, seen: set[str], base: Array, new: Array
) -> tuple[Features, Features]:
    """Photos of the base classes that the fit has not seen, and all photos of the new classes."""
    vectors, labels, met = [], [], set()
    for seed in SEEDS:
        for what in ("train", "val"):
            split = draws[16, seed][what]
            for digest, vector, label in zip(
                digests[16, seed, what], split.vectors, split.labels, strict=True
            ):
                if digest not in met and (digest not in seen or label in new):
                    met.add(digest)
                    vectors.append(vector)
                    labels.append(label)
    every = Features(np.array(vectors), np.array(labels), draws[16, 1]["train"].class_names)
    return part(every, base), part(every, new)


if __name__ == "__main__":
    main()
