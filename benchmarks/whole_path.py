"""From 160 photos of a phone to a classifier and to 100 answers: `sharpzo` beside other ways.

    python benchmarks/whole_path.py                   # writes results/whole-path.json
    python benchmarks/whole_path.py --photos FOLDER   # keeps the photos there, or takes them
    python benchmarks/whole_path.py --ways sharpzo    # this way anew, beside the other results
    python benchmarks/whole_path.py --cold            # cold start alone: results/cold-start.json

Photos: those of the demo, enlarged to 4032 x 3024 with grain, as JPEG of quality 92 (2.5 MB each).
Every way is a process of its own with one thread, without a cache, and has the same weights
(embedded model, 112 x 112 pixels unless another size is named, float32):

* ``sharpzo``: `fit` and `predict` as a user types them; ``exact`` with `--decoding exact`;
* ``torch``: transformers' processor (Pillow) and model, batches of 16, scikit-learn's
  LogisticRegression, as few-shot baselines do;
* ``onnxruntime``: Pillow, NumPy and one session of the same graph by hand, and the same regression.

Wall and processor seconds and peak memory from outside (memory.py), in one run: read the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from memory import RUN, watch
from PIL import Image

from sharpzo.data.demo import load_demo

RESULT = Path(__file__).parent / "results" / "whole-path.json"
SIZE = 4032, 3024
BATCH = 16
# What is left of an answer without sharpzo: one photo through the written graph.
BY_HAND = """
import sys
import sharpzo  # turns the reports of ONNX Runtime off
import numpy as np
from importlib import import_module
from PIL import Image
ort = import_module("onnxruntime")
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
image = Image.open(sys.argv[2]).convert("RGB").resize((112, 112), Image.Resampling.BICUBIC)
pixels = (np.asarray(image, np.float32) / 255 - 0.5) / 0.25
session.run(["states"], {"pixels": pixels.transpose(2, 0, 1)[None]})
"""


def write_photos(folder: Path) -> None:
    demo, draws = load_demo(1), np.random.default_rng(0)
    grain = draws.integers(-9, 10, (SIZE[1] // 2, SIZE[0] // 2, 1), np.int16)
    grain = grain.repeat(2, 0).repeat(2, 1)
    for split, many in (("train", range(160)), ("test", range(0, 500, 5))):
        photos = getattr(demo, split)
        for i in many:
            name = photos.class_names[photos.labels[i]]
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            large = Image.fromarray(photos.photos[i].decode()).resize(SIZE)
            moved = np.roll(grain, (i, 3 * i), (0, 1))
            pixels = np.clip(np.asarray(large) + moved, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / split / name / f"{i}.jpg", quality=92)


def listed(folder: Path) -> tuple[list[Path], list[str]]:
    paths = sorted(folder.glob("*/*.jpg"))
    return paths, [path.parent.name for path in paths]


def by_hand(way: str, photos: Path) -> None:
    """What a script would do; prints the accuracy and the seconds of its stages."""
    begin = time.perf_counter()
    stages = {}

    def done(stage: str) -> None:
        nonlocal begin
        stages[stage], begin = round(time.perf_counter() - begin, 2), time.perf_counter()

    from sharpzo.towers.checkpoint import resolve

    folder = resolve(None)
    if way == "torch":
        import torch
        from transformers import BitImageProcessorPil, VisionTextDualEncoderModel

        torch.set_num_threads(1)
        processor = BitImageProcessorPil.from_pretrained(folder)
        model = VisionTextDualEncoderModel.from_pretrained(folder, dtype=torch.float32).eval()

        def features(paths: list[Path]) -> np.ndarray:
            pixels = processor([Image.open(path).convert("RGB") for path in paths],
                               return_tensors="pt")["pixel_values"]  # fmt: skip
            with torch.inference_mode():
                found = model.vision_model(pixel_values=pixels).pooler_output
                return model.visual_projection(found).numpy()
    else:
        from sharpzo.towers.checkpoint import Checkpoint
        from sharpzo.towers.image import build_image, read_projection
        from sharpzo.towers.runtime import Session

        checkpoint = Checkpoint.open(folder)
        session = Session(build_image(checkpoint, 112, 112), 1)
        projection = read_projection(checkpoint)
        mean = np.float32([0.485, 0.456, 0.406])
        std = np.float32([0.229, 0.224, 0.225])

        def one(path: Path) -> np.ndarray:
            image = Image.open(path).convert("RGB")
            scale = 112 / min(image.size)
            wide, high = (int(side * scale) for side in image.size)
            left, top = (wide - 112) // 2, (high - 112) // 2
            image = image.resize((wide, high), Image.Resampling.BICUBIC)
            pixels = np.asarray(image.crop((left, top, left + 112, top + 112)), np.float32)
            return ((pixels / 255 - mean) / std).transpose(2, 0, 1)

        def features(paths: list[Path]) -> np.ndarray:
            pixels = np.stack([one(path) for path in paths])
            return session.run(["states"], {"pixels": pixels})[0] @ projection.T

    from sklearn.linear_model import LogisticRegression

    def encoded(paths: list[Path]) -> np.ndarray:
        found = [features(paths[i : i + BATCH]) for i in range(0, len(paths), BATCH)]
        rows = np.concatenate(found)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    done("load")
    paths, labels = listed(photos / "train")
    train = encoded(paths)
    done("encode 160")
    head = LogisticRegression(C=100, max_iter=1000).fit(train, labels)
    done("fit")
    paths, labels = listed(photos / "test")
    accuracy = float((head.predict(encoded(paths)) == np.array(labels)).mean())
    done("predict 100")
    print(json.dumps({"accuracy": accuracy, "stages": stages}))


def sharpzo(photos: Path, extra: list[str], side: int = 112) -> dict:
    with tempfile.TemporaryDirectory() as scratch:
        run, test = Path(scratch) / "run", listed(photos / "test")
        _, fit = watch([*RUN, "fit", str(photos / "train"), "--out", str(run), "--threads", "1",
                        "--image-size", str(side), "--no-cache", "--json", *extra])  # fmt: skip
        said, predict = watch([*RUN, "predict", str(run), str(photos / "test"), "--no-cache",
                               "--json"])  # fmt: skip
    rows = json.loads(said.strip().splitlines()[-1])
    right = [Path(row["path"]).parent.name == row["label"] for row in rows]
    assert len(rows) == len(test[0])
    total = {name: round(fit[name] + predict[name], 1) for name in ("seconds", "processor_seconds")}
    peak = max(fit["peak_mb"], predict["peak_mb"])
    return {**total, "peak_mb": peak, "accuracy": float(np.mean(right)),
            "stages": {"fit": fit, "predict": predict}}  # fmt: skip


def script(way: str, photos: Path) -> dict:
    printed, measured = watch([sys.executable, __file__, "--way", way, "--photos", str(photos)])
    found = json.loads(printed.strip().splitlines()[-1])
    return {**{n: measured[n] for n in ("seconds", "processor_seconds", "peak_mb")}, **found}


def cold(photo: Path, run: Path, many: int = 10) -> dict:
    """Processor and wall seconds of commands that a person waits for, medians of ten.

    Modules are compiled, as those of a package that pip has installed.
    """
    subprocess.run([*RUN, "predict", str(run), str(photo)], check=True, capture_output=True)
    (graph,) = Path(os.environ["XDG_CACHE_HOME"]).rglob("model.onnx")
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import sharpzo": [sys.executable, "-c", "import sharpzo"],
        "sharpzo --help": [*RUN, "--help"],
        "sharpzo predict RUN PHOTO": [*RUN, "predict", str(run), str(photo), "--json"],
        "ONNX Runtime and Pillow by hand": [sys.executable, "-c", BY_HAND, str(graph), str(photo)],
    }
    found = {}
    for name, command in commands.items():
        walls, spent = [], []
        for _ in range(many + 1):
            if "predict" in name:  # no photo is in the cache of features
                photo.write_bytes(photo.read_bytes() + b"\0")
            before, begin = _children(), time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            walls.append(time.perf_counter() - begin)
            spent.append(_children() - before)
        found[name] = {
            "seconds": round(statistics.median(walls[1:]), 3),
            "least": round(min(walls[1:]), 3),
            "processor_seconds": round(statistics.median(spent[1:]), 3),
            "least_processor_seconds": round(min(spent[1:]), 3),
        }
        print(name, found[name], flush=True)
    return found


def _children() -> float:
    """Processor seconds of child processes that have ended."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def cold_start(scratch: Path) -> None:
    """The commands on a run of two photos per class."""
    os.environ.update(XDG_CACHE_HOME=str(scratch / "cache"),
                      PYTHONPYCACHEPREFIX=str(scratch / "compiled"))  # fmt: skip
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    demo, names = load_demo(1).train, set()
    for i, label in enumerate(demo.labels):
        folder = scratch / "photos" / demo.class_names[label]
        folder.mkdir(parents=True, exist_ok=True)
        if len(names & {(label, 0), (label, 1)}) < 2:
            names.add((label, len(names & {(label, 0)})))
            Image.fromarray(demo.photos[i].decode()).resize((640, 480)).save(folder / f"{i}.jpg")
    run, photo = scratch / "run", scratch / "photo.jpg"
    subprocess.run([*RUN, "fit", str(scratch / "photos"), "--out", str(run), "--threads", "1",
                    "--image-size", "112"], check=True, capture_output=True)  # fmt: skip
    photo.write_bytes(next((scratch / "photos").glob("*/*.jpg")).read_bytes())
    report = {
        "cpu": platform.processor() or platform.machine(), "load": os.getloadavg()[0],
        "command": "python benchmarks/whole_path.py --cold", "commands": cold(photo, run),
    }  # fmt: skip
    (RESULT.parent / "cold-start.json").write_text(json.dumps(report, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=None)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--ways", nargs="+", default=None)
    parser.add_argument("--way", default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    if args.way:
        by_hand(args.way, args.photos)
        return
    with tempfile.TemporaryDirectory() as scratch:
        if args.cold:
            cold_start(Path(scratch))
            return
        photos = args.photos or Path(scratch) / "photos"
        if not photos.is_dir():
            write_photos(photos)
        report = {
            "cpu": platform.processor() or platform.machine(), "load": os.getloadavg()[0],
            "command": "python benchmarks/whole_path.py",
            "ways": json.loads(RESULT.read_text("utf-8"))["ways"] if args.ways else {},
            **{name: version(name) for name in ("onnxruntime", "torch", "transformers")},
        }  # fmt: skip
        for way, work in {
            "sharpzo": lambda: sharpzo(photos, []),
            "sharpzo, ladder+gda": lambda: sharpzo(photos, ["--method", "ladder+gda"]),
            "sharpzo, 224 pixels": lambda: sharpzo(photos, [], 224),
            "sharpzo, exact": lambda: sharpzo(photos, ["--decoding", "exact"]),
            "torch": lambda: script("torch", photos),
            "onnxruntime": lambda: script("onnxruntime", photos),
        }.items():
            if args.ways and way not in args.ways:
                continue
            report["ways"][way] = work()
            print(way, report["ways"][way], flush=True)
            RESULT.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
