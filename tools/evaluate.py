"""Measure the embedded model: zero-shot and 16-shot linear probes; write `metrics.json`.

    python tools/evaluate.py --model src/sharpzo/assets/model --work DIR --tiny-imagenet DIR \
        --datasets DIR --fashion-mnist DIR --wordnet DIR

The folder is loaded with `transformers`, without this package; its preprocessor settings are those
of `dinov2.pixels`. Caltech-101 and EuroSAT (in `--datasets`) have CoOp's splits and draws, at one
seed. Validation chooses the C of a probe and nothing else.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoTokenizer, VisionTextDualEncoderModel

import dinov2
import photos
import wordnet

SHOTS = 16
PHOTO = "a photo of a {}."
SATELLITE = "a centered satellite photo of {}."
PROBE_C = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]


class Model:
    """The folder as two functions to unit features."""

    def __init__(self, folder: Path, cache: Path) -> None:
        loaded: Any = VisionTextDualEncoderModel.from_pretrained(
            folder, output_loading_info=True, dtype=torch.float32
        )
        self.model, report = loaded
        if report["missing_keys"] or report["unexpected_keys"]:
            raise ValueError(f"{folder} does not match transformers: {report}")
        self.model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.cache = cache

    def images(self, chosen: photos.Photos) -> np.ndarray:
        """Return (N, D) unit features; class tokens come from the cache where it has them."""
        tower = self.model.vision_model
        raw = photos.features(chosen, lambda b: dinov2.encode(tower, b), self.cache)
        rows = raw @ self.model.visual_projection.weight.detach().numpy().T
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    @torch.inference_mode()
    def texts(self, names: list[str], template: str) -> np.ndarray:
        """Return (K, D) unit features of names in a template."""
        ids = self.tokenizer([template.format(n) for n in names], padding=True, return_tensors="pt")
        pooled = self.model.text_model(**ids).pooler_output
        rows = self.model.text_projection(pooled).numpy()
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def accuracy(images: np.ndarray, texts: np.ndarray, labels: np.ndarray) -> float:
    """Return top-1 in percent."""
    return round(100 * float(((images @ texts.T).argmax(1) == labels).mean()), 1)


def probe(model: Model, task: photos.Task, test: np.ndarray) -> tuple[float, float]:
    """Return a linear probe's test accuracy in percent and the C that validation chose."""
    train, val = model.images(task.train), model.images(task.val)
    fits = [
        LogisticRegression(C=c, max_iter=2000).fit(train, task.train.labels) for c in PROBE_C
    ]  # fmt: skip
    best = max(range(len(fits)), key=lambda i: fits[i].score(val, task.val.labels))
    return round(100 * float(fits[best].score(test, task.test.labels)), 1), PROBE_C[best]


def tiny(model: Model, root: Path, seed: int, nouns: dict, only: list[str]) -> dict[str, float]:
    """Return zero-shot on photos of Tiny-ImageNet never trained on; `only`: held-out classes."""
    _, val, test = photos.tiny_imagenet(root, seed)
    classes = sorted(set(test.labels))
    texts = model.texts([nouns[c].lemmas[0] for c in classes], PHOTO)
    found = {}
    for part in (val, test):
        images, labels = model.images(part), np.array([classes.index(o) for o in part.labels])
        if not only:
            found[f"{part.name}, 200 classes"] = accuracy(images, texts, labels)
            continue
        inside = np.isin(part.labels, only)
        rows = [classes.index(o) for o in only]
        among = np.array([rows.index(x) for x in labels[inside]])
        key = f"{part.name}, {len(only)} classes never seen"
        found[f"{key}, among {len(only)}"] = accuracy(images[inside], texts[rows], among)
        found[f"{key}, among 200"] = accuracy(images[inside], texts, labels[inside])
    return found


def main() -> None:
    """Measure what the arguments name, and merge it into the model's `metrics.json`."""
    parser = argparse.ArgumentParser(description="Measure the embedded model.")
    for name in ("model", "work", "wordnet", "tiny-imagenet"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("datasets", "fashion-mnist", "metrics"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="that of pretrain.py")
    parser.add_argument("--hold-out-classes", type=int, default=0, help="that of pretrain.py")
    parser.add_argument("--tests", type=int, default=2000,
                        help="test photos of EuroSAT and Fashion-MNIST")  # fmt: skip
    args = parser.parse_args()
    model = Model(args.model, args.work / "features")
    nouns = wordnet.read(args.wordnet)

    only = photos.held_out(args.tiny_imagenet, args.hold_out_classes)
    found: dict[str, object] = {**tiny(model, args.tiny_imagenet, args.seed, nouns, only)}
    tasks = []
    if args.datasets:
        tasks.append(photos.coop_task(args.datasets, "caltech101", PHOTO, SHOTS))
        tasks.append(photos.coop_task(args.datasets, "eurosat", SATELLITE, SHOTS, args.tests))
    if args.fashion_mnist:
        tasks.append(photos.fashion_mnist(args.fashion_mnist, PHOTO, SHOTS, args.tests))
    for task in tasks:
        images, labels = model.images(task.test), np.array(task.test.labels)
        result, c = probe(model, task, images)
        found[task.name] = {
            "zero-shot": accuracy(images, model.texts(task.class_names, task.template), labels),
            f"{SHOTS}-shot linear probe": result, "probe C": c, "draw seed": photos.SEED,
            "test photos": len(labels), "template": task.template,
        }  # fmt: skip
    file = args.metrics or args.model / "metrics.json"
    old = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**old, **found}, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
