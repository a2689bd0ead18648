"""What tuning the last image block adds to the default, chosen on held-out development photos.

    python experiments/features/image_side.py --data DATASETS --cache FOLDER
    python experiments/features/image_side.py --write      # the table of docs/closed-forms.md

Embedded model, one template, seeds 1 to 3, with validation photos. A cell is ``ladder+image`` with
some settings changed. A line of ``image_side.jsonl`` beside this file is one fit: the accuracy on
development photos of the default (``plain``) and with the tuned block (``tuned``), and the steps
that the validation photos chose. The test split is not read. FOLDER keeps the tokens before the
last block, 50 kB per view of a photo; of Caltech-101 500 photos, drawn once, stand for all
development photos.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines
from one_pass import development, draws, grid

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.methods import find
from sharpzo.methods.image_ladder import Shown, TunedHead, fit_image_ladder
from sharpzo.methods.last_block import Seen
from sharpzo.methods.token_ladder import TokenHead, fit_tokens
from sharpzo.metrics import accuracy, normalise
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower
from sharpzo.types import Array, Features

DATASETS, SHOTS = ("fashion-mnist", "eurosat", "caltech101"), (1, 4, 16)
LINES = Lines(__file__, "image_side.jsonl", "dataset", "shots", "seed", "cell")
CELLS: dict[str, dict[str, Any]] = {
    "projection alone, one view": {"tokens": 0.0, "training_views": 1},
    "one view": {"training_views": 1},
    "two views": {"training_views": 2},
    "four views": {"training_views": 4},
}
VIEWS = ("mirror", "middle", "mirrored middle")
FEW = 500  # photos of Caltech-101 that stand for all


@dataclass(frozen=True)
class Pool:
    """Rows (ascending) of all photos, through one view: before the last block, and features."""

    rows: Array
    seen: Seen
    features: Features

    def take(self, rows: Array) -> tuple[Seen, Features]:
        at = np.searchsorted(self.rows, rows)
        assert np.array_equal(self.rows[at], rows)
        return self.seen.take(at), self.features.take(at)


def pool(
    folder: Path, name: str, view: str, photos: LabelledPhotos, rows: Array, tower: OnnxImageTower
) -> Pool:
    """These rows through a view, read from the folder if they lie there."""
    kept = folder / f"traced-{name}-{view or 'whole'}-{len(rows)}.npz"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        some = photos.take(rows)
        some = some.seen(view) if view else some
        parts = []
        for first in range(0, len(rows), 8):
            chunk = some.take(np.arange(first, min(first + 8, len(rows))))
            tokens, summaries = tower.trace(tower.pixels(chunk.decoded()))
            parts.append((tokens.astype(np.float16), summaries))
        tokens, summaries = (np.concatenate(one) for one in zip(*parts, strict=True))
        np.savez(kept, rows=rows, tokens=tokens, summaries=summaries)
    found = np.load(kept)
    tokens, summaries = found["tokens"], found["summaries"]
    assert np.array_equal(found["rows"], rows)
    normal = np.empty(tokens.shape, np.float16)
    first = summaries[:, 1]
    for begin in range(0, len(rows), 64):
        part = slice(begin, begin + 64)
        normal[part] = Seen.of(tokens[part].astype(np.float32), tower.last_block.eps).normal
    features = Features(
        normalise(summaries[:, 0] @ tower.projection.T), photos.labels[rows], photos.class_names,
        patches=summaries[:, 3:],
    )  # fmt: skip
    return Pool(rows, Seen(normal, first), features)


def measured(
    tower: OnnxImageTower, pools: dict[str, Pool], text: Array, scale: float,
    held: dict[tuple[int, int, str], Array], rest: Array, shots: int, seed: int, cell: str,
) -> dict[str, Any]:  # fmt: skip
    """One fit and its accuracy on the photos of ``rest``."""
    settings = find("ladder+image").configure(None, CELLS[cell])
    rows = held[shots, seed, "train"]
    views = VIEWS[: max(1, min(settings.training_views, settings.rows // len(rows))) - 1]
    parts = [pools[view].take(rows)[0] for view in ("", *views)]
    seen = Seen(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("normal", "first")))
    train = Shown(pools[""].take(rows)[1], seen, views)
    validation, left = (
        Shown(features, some)
        for some, features in map(pools[""].take, (held[shots, seed, "val"], rest))
    )
    ladder, reading = fit_tokens(train.features, text, validation.features, settings)
    plain = TokenHead(ladder.head, reading)
    begin = time.process_time()
    fitted = None
    if len(validation.features) >= settings.evidence:
        fitted = fit_image_ladder(tower, train, validation, text, scale, settings, seed)
    seconds = time.process_time() - begin
    right = accuracy(plain.scores(left.features), left.features.labels)
    tuned, steps = right, 0
    if fitted is not None:
        head = fitted.head
        assert isinstance(head, TunedHead)
        states = head.detour.states(tower.last_block, left.seen)
        by = {head.detour.digest: normalise(states @ tower.projection.T)}
        tuned = accuracy(head.scores(replace(left.features, detours=by)), left.features.labels)
        steps = int(fitted.notes["chosen_steps"])
    return {
        "plain": round(right, 4), "tuned": round(tuned, 4), "steps": steps,
        "seconds": round(seconds, 1),
    }  # fmt: skip


def table() -> str:
    """Means over seeds: the default, and the change by cell."""

    def change(found: list[Mapping[str, Any]]) -> str:
        before, after = (
            np.mean([100 * line[what] for line in found]) for what in ("plain", "tuned")
        )
        return f"{before:.1f} → {after:.1f} ({len(found)})"

    return grid("cell", CELLS, LINES.read(), change)


def main() -> None:
    parser = harness.parser(__doc__, DATASETS, CELLS)
    parser.add_argument("--shots", type=int, nargs="+", default=list(SHOTS))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.table or args.write:
        harness.publish("closed-forms.md", {"image-side": table()}, args.write)
        return
    done, checkpoint = LINES.done(), Checkpoint.open(resolve(None))
    with closing(OnnxImageTower(checkpoint, threads=1)) as tower:
        for name in args.datasets:
            every, held = draws(args, name)
            many = len(every)
            stand = np.arange(many)
            if name == "caltech101":
                stand = np.sort(np.random.default_rng(0).permutation(many)[:FEW])
            with closing(OnnxTextTower(checkpoint, every.class_names, threads=1)) as names:
                text, scale = normalise(names.untuned), names.logit_scale
            keys = [(shots, seed) for shots in args.shots for seed in args.seeds]
            parts = {
                part: [held[shots, seed, part] for shots, seed in keys] for part in ("train", "val")
            }
            learnt = np.unique(np.concatenate(parts["train"]))
            whole = np.unique(np.concatenate([learnt, *parts["val"], stand]))
            pools = {"": pool(args.cache, name, "", every, whole, tower)}
            pools |= {v: pool(args.cache, name, v, every, learnt, tower) for v in VIEWS}
            for shots, seed in keys:
                rest = np.intersect1d(development(held, shots, seed, many), stand)
                for cell in args.cells:
                    if (name, shots, seed, cell) not in done:
                        key = {"dataset": name, "shots": shots, "seed": seed, "cell": cell}
                        line = measured(tower, pools, text, scale, held, rest, shots, seed, cell)
                        LINES.append(key | line)


if __name__ == "__main__":
    main()
