"""What decoding photos beside the image tower gains over decoding them before each batch.

    python benchmarks/decoding.py            # prints a line, writes results/decoding.json

JPEG photos of 500 x 375 pixels (noise, blurred) and the embedded model, batches of 16, one thread
of the tower. Both ways in turns, medians of ``--rounds``, as a ratio of seconds: a gain in seconds
needs a second core that is free, so a busy machine shows less of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from sharpzo.data.photo import as_photo
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.tower import OnnxImageTower

RESULT = Path(__file__).parent / "results" / "decoding.json"
BATCH = 16


def write_photos(folder: Path, count: int) -> list[Path]:
    draws, paths = np.random.default_rng(0), []
    for i in range(count):
        noise = Image.fromarray(draws.integers(0, 256, (375, 500, 3), dtype=np.uint8))
        paths.append(folder / f"{i}.jpg")
        noise.filter(ImageFilter.GaussianBlur(3)).save(paths[-1], quality=90)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    tower = OnnxImageTower(Checkpoint.open(resolve(None)), batch=BATCH, threads=1)
    times: dict[str, list[float]] = {"beside": [], "before": [], "decoding": []}
    with tempfile.TemporaryDirectory() as scratch:
        photos = [as_photo(path) for path in write_photos(Path(scratch), args.photos)]
        tower.states([photos[0].decode()])  # compiles the graph

        def beside() -> None:
            tower.states(photo.decode() for photo in photos)

        def decoding() -> None:
            for i in range(0, len(photos), BATCH):
                tower.pixels(photo.decode() for photo in photos[i : i + BATCH])

        def before() -> None:
            for i in range(0, len(photos), BATCH):
                tower.forward(tower.pixels(photo.decode() for photo in photos[i : i + BATCH]))

        for _ in range(args.rounds):
            for work in (beside, before, decoding):
                begin = time.perf_counter()
                work()
                times[work.__name__].append(time.perf_counter() - begin)
    pairs = [a / b for a, b in zip(times["beside"], times["before"], strict=True)]
    shares = [a / b for a, b in zip(times["decoding"], times["before"], strict=True)]
    line = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "onnxruntime": version("onnxruntime"),
        "command": "python benchmarks/decoding.py " + " ".join(sys.argv[1:]),
        "photos": args.photos,
        "beside_over_before": round(statistics.median(pairs), 3),
        "least": round(min(pairs), 3),
        "most": round(max(pairs), 3),
        "decoding_over_before": round(statistics.median(shares), 3),
    }
    print(line)
    RESULT.write_text(json.dumps(line, indent=1) + "\n")


if __name__ == "__main__":
    main()
