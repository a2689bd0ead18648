"""Image towers of OpenAI's CLIP beside OpenCLIP in torch: processor time of the same photos.

    python benchmarks/image_towers.py            # needs open-clip-torch (docs/dependencies.md)

Weights are random, sizes real, one thread, float32. Calls alternate, so that what else the machine
does falls on both; a ratio above 1 says how many times as many photos per second ours computes.
Results go to ``results/image_towers.json`` beside this file.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.tower import OnnxImageTower

HERE = Path(__file__).parent
NAMES = ("RN50", "ViT-B-16-quickgelu")
PHOTOS, CALLS = 8, 9


def measure(name: str, folder: Path) -> dict[str, object]:
    """Seconds of processor time for `PHOTOS` photos, medians, and the ratio's spread."""
    import torch

    sys.path.insert(0, str(HERE.parent / "tests" / "towers"))
    from open_clip_models import library, randomise, save

    open_clip = library()
    torch.set_num_threads(1)
    model = randomise(open_clip.create_model(name))
    save(folder, open_clip.get_model_config(name), model.state_dict())
    tower = OnnxImageTower(Checkpoint.open(folder), threads=1)
    pixels = np.random.default_rng(0).normal(size=(PHOTOS, 3, 224, 224)).astype(np.float32)
    there = torch.from_numpy(pixels)
    times = np.empty((CALLS + 1, 3))
    with torch.inference_mode():
        for row in times:  # the first of each is not counted
            row[0] = time.process_time()
            tower.forward(pixels)
            row[1] = time.process_time()
            model.visual(there)
            row[2] = time.process_time()
    ours, theirs = np.diff(times[1:], axis=1).T
    ratios = theirs / ours
    return {
        "tower": name,
        "photos": PHOTOS,
        "sharpzo_s": round(float(np.median(ours)), 3),
        "open_clip_s": round(float(np.median(theirs)), 3),
        "ratio": round(float(np.median(ratios)), 2),
        "from": round(float(ratios.min()), 2),
        "to": round(float(ratios.max()), 2),
    }


def main() -> None:
    found = []
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(name, Path(folder) / name))
        print(json.dumps(found[-1]), flush=True)
    path = HERE / "results" / "image_towers.json"
    path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
