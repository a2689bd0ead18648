"""Whether exported files agree with predict on real photos, their sizes, and ms per photo.

    python benchmarks/exported.py --data EUROSAT --dataset eurosat        # writes results/
    python benchmarks/exported.py --data CALTECH --dataset caltech101 --shots 4
    python benchmarks/exported.py --data EUROSAT --dataset eurosat --random-vit --photos 64

The run: the default method, ``--shots`` photos per class, seed 1; photos: of the test split, drawn
with seed 1. ``--random-vit`` takes random weights of ViT-B/16's size, not the embedded model.
Milliseconds are those of one thread, means over all photos: of predict on all of them, which
decodes them and passes them through the tower in batches of 16; of a file one photo at a time,
without decoding. ``--openvino`` measures its files, too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from memory import write_model

from sharpzo import PromptClassifier
from sharpzo.data.few_shot import draw
from sharpzo.data.loading import read
from sharpzo.export.agreement import compare
from sharpzo.export.bundle import write_model_file
from sharpzo.export.classifier_graph import build_classifier
from sharpzo.fitting.strangers import LOST
from sharpzo.fitting.trained import load

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--random-vit", action="store_true")
    parser.add_argument("--openvino", action="store_true")
    args = parser.parse_args()
    whole = read(args.data, args.dataset)
    drawn = draw(whole, args.shots, 1)
    assert whole.test is not None
    photos = random.Random(1).sample(list(whole.test.photos), min(args.photos, len(whole.test)))
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        model = None
        if args.random_vit:
            model = Path(scratch) / "vit"
            write_model(model, "ViT-B/16")
        labels = [drawn.class_names[k] for k in drawn.train.labels]
        classifier = PromptClassifier(model=model, threads=1)
        run = classifier.fit(list(drawn.train.photos), labels).save(Path(scratch) / "run")
        trained = load(run, model=model, cache=Path(scratch) / "cache")
        begin = time.perf_counter()
        trained.answer(photos, LOST)  # later, from the cache
        predicted = 1e3 * (time.perf_counter() - begin) / len(photos)
        ways = [("onnx", one) for one in ("float32", "float16", "int8")]
        if args.openvino and find_spec("openvino"):
            ways += [("openvino", "float32"), ("openvino", "float16")]
        for format, precision in ways:
            graph = build_classifier(trained, lost=LOST, precision=precision)
            folder = Path(scratch) / f"{format}-{precision}"
            folder.mkdir()
            ask = write_model_file(graph, trained, folder, format)
            seconds = 0.0

            def timed(photo: np.ndarray) -> tuple[np.ndarray, float | None]:
                nonlocal seconds
                begin = time.perf_counter()
                found = ask(photo)  # noqa: B023
                seconds += time.perf_counter() - begin
                return found

            found = compare(trained, timed, graph.threshold, photos, LOST, args.dataset)
            size = sum(file.stat().st_size for file in folder.iterdir())
            row = {"format": format, "precision": precision, "mb": round(size / 1e6, 1),
                   "ms": round(1e3 * seconds / len(photos), 1), **found.record()}  # fmt: skip
            rows.append(row)
            print(row, flush=True)
    result = {
        "data": args.dataset, "model": "random ViT-B/16" if args.random_vit else "embedded",
        "predict_ms": round(predicted, 1), "files": rows, "machine": platform.processor(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("onnxruntime", "numpy", "pillow")},
    }  # fmt: skip
    name = f"exported-{args.dataset}{'-vit' if args.random_vit else ''}.json"
    (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
