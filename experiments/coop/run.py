"""How the default learning rate of ``coop`` was chosen: validation accuracy on the demo photos.

    python experiments/coop/run.py            # a minute of CPU time
    python experiments/coop/run.py --table

The Fashion-MNIST demo draw of seed 1 (160 training, 40 validation photos), embedded model, 60
epochs: one seed, so a photo or two decide between the middle rates; the training loss breaks no
tie, it falls with the rate. The test photos are not read. Each cell appends one line to
``results.jsonl``; cells that are there already are skipped.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness
import numpy as np
from harness import Lines

from sharpzo.methods import Task, find, fit
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxTextTower

LINES = Lines(__file__, "results.jsonl", "learning_rate", "seed")
RATES, SEEDS, EPOCHS = (0.002, 0.02, 0.06, 0.2), (1,), 60


def run() -> None:
    done = LINES.done()
    checkpoint, method = Checkpoint.open(resolve()), find("coop")
    for seed in SEEDS:
        left = [rate for rate in RATES if (rate, seed) not in done]
        if not left:
            continue
        demo = harness.load_demo(seed)
        assert demo.val is not None
        photos = encode(checkpoint, {"train": demo.train, "val": demo.val}, threads=1)
        for rate in left:
            settings = method.configure(None, {"learning_rate": rate, "epochs": EPOCHS})
            tower = OnnxTextTower(checkpoint, demo.class_names, threads=1)
            fitted = fit(method, settings, Task(photos["train"], photos["val"], tower, seed))
            tower.close()
            line = {
                "learning_rate": rate,
                "seed": seed,
                "epochs": EPOCHS,
                "token_distance": tower.token_distance,
                "validation_accuracy": fitted.validation_accuracy,
                "training_loss": fitted.notes["training_loss"],
                "seconds": round(fitted.seconds, 1),
            }
            LINES.append(line)


def table() -> None:
    for rate in RATES:
        found = [line for line in LINES.read() if line["learning_rate"] == rate]
        if found:
            accuracy = [100 * line["validation_accuracy"] for line in found]
            loss = [line["training_loss"] for line in found]
            print(f"| {rate} | {np.mean(accuracy):.1f} | {np.mean(loss):.3f} | {len(found)} |")


if __name__ == "__main__":
    parser = harness.parser(__doc__)
    parser.add_argument("--table", action="store_true")
    table() if parser.parse_args().table else run()
