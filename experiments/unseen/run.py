"""Does ``projection`` keep classes that it never saw? CoOp's base-to-new protocol.

    python experiments/unseen/run.py --data DATASETS

The first half of the classes (by label) has 16 photos each, the second half none. Accuracy on the
test photos of each half among the names of that half, before and after tuning on the first.
Results are printed and written to ``results.jsonl`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sharpzo.methods.projection import ProjectionSettings, fit_projection
from sharpzo.metrics import accuracy, normalise
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Features

sys.path.insert(0, str(Path(__file__).parent.parent / "spine"))
from run import features  # the same photos and cached features


def half(photos: Features, first: int, last: int) -> Features:
    rows = (photos.labels >= first) & (photos.labels < last)
    names = photos.class_names[first:last]
    return Features(photos.vectors[rows], photos.labels[rows] - first, names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("datasets/features"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    args.shots, args.model, args.threads = 16, None, 1
    checkpoint = Checkpoint.open(resolve(None))
    lines = []
    for args.dataset in ("eurosat", "caltech101"):
        for seed in args.seeds:
            splits = features(args, seed)
            names = splits["train"].class_names
            middle = (len(names) + 1) // 2
            tower = OnnxTextTower(checkpoint, names, threads=1)
            states = tower.states(tower.start[None])[0]
            base, new = half(splits["test"], 0, middle), half(splits["test"], middle, len(names))
            tuned = fit_projection(
                states[:middle],
                tower.projection,
                tower.logit_scale,
                half(splits["train"], 0, middle),
                half(splits["val"], 0, middle),
                ProjectionSettings(),
            )
            before = normalise(states @ tower.projection.T)
            after = normalise(states @ (tower.projection + tuned.left @ tuned.right).T)
            line: dict[str, object] = {"dataset": args.dataset, "seed": seed}
            for name, text in (("zero_shot", before), ("projection", after)):
                line[f"{name}_base"] = accuracy(base.vectors @ text[:middle].T, base.labels)
                line[f"{name}_new"] = accuracy(new.vectors @ text[middle:].T, new.labels)
            lines.append(line | {"model": checkpoint.fingerprint[:12]})
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in line.items()})
    out = Path(__file__).parent / "results.jsonl"
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
