"""What an iteration of FGN costs beside its forwards, in processor time.

    python benchmarks/fgn_overhead.py            # prints, writes results/fgn_overhead.json

Default settings, 16 made-up photos per class, two linearisations with their rounds, one context for
all classes and class-specific ones; the embedded model and a tower of ViT-B/16's text size with
random weights. ``--classes`` gives other numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from itertools import product
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from tangents import class_names, random_tower

from sharpzo.metrics import normalise
from sharpzo.optim import GaussNewton
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.tuning.contexts import WholeContext
from sharpzo.tuning.objective import TangentObjective, feature_loss
from sharpzo.types import Features

RESULT = Path(__file__).parent / "results" / "fgn_overhead.json"


def overhead(folder: Path, classes: int, specific: bool) -> dict[str, float]:
    """Processor seconds of two linearisations: the tower's, and everything else."""
    names = class_names(classes)
    tower = OnnxTextTower(Checkpoint.open(folder), names, threads=1, specific=specific)
    text = normalise(tower.forward(tower.start[None])[0])
    labels = np.repeat(np.arange(classes), 16)
    draws = np.random.default_rng(0).normal(size=(len(labels), text.shape[1]))
    vectors = normalise(text[labels] + 0.1 * draws).astype(np.float32)
    train = Features(vectors, labels, tower.class_names)
    contexts = WholeContext(tower.start, tower.token_distance)
    objective = TangentObjective(tower, train, contexts)
    groups = classes if specific else 1
    loss = feature_loss(train, tower.logit_scale)
    search = GaussNewton(contexts.dim, loss, seed=1, groups=groups)
    search.ask().answer(objective)  # builds the session
    begin, inside = time.process_time(), 0.0
    while search.notes["linearisations"] < 2 or search.step < 2 * search.settings.reuse:
        request = search.ask()
        asked = time.process_time()
        answer = request.answer(objective)
        inside += time.process_time() - asked
        search.tell(*answer)
    whole = time.process_time() - begin
    return {
        "tower_s": round(inside, 3),
        "other_s": round(whole - inside, 3),
        "other_share": round((whole - inside) / inside, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--add", action="store_true", help="to the lines that are written there")
    args = parser.parse_args()
    machine = {"cpu": platform.processor() or platform.machine(), "threads": 1}
    lines: list[dict[str, object]] = json.loads(RESULT.read_text())["lines"] if args.add else []
    with tempfile.TemporaryDirectory() as scratch:
        towers = {"embedded": resolve(None), "ViT-B/16 size": random_tower(Path(scratch) / "b", 12)}
        for name, folder in towers.items():
            for classes, specific in product(args.classes, (False, True)):
                line = {"tower": name, "classes": classes, "specific": specific}
                lines.append(line | overhead(folder, classes, specific))
                print(lines[-1], flush=True)
                RESULT.write_text(json.dumps({**machine, "lines": lines}, indent=1))


if __name__ == "__main__":
    main()
