"""The photos of pretraining and evaluation, and their image features, computed once and cached."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import dinov2
import make_demo
from sharpzo.data.coop_layout import read_coop
from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.few_shot import draw

SEED = 1  # of the draws of evaluation
CHUNK = 1024  # photos per cache file: an interrupted run loses at most half a minute
Encoder = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Photos:
    """Photos with a label each: a label is a WordNet offset (`n01440764`) or a class number."""

    name: str
    files: Sequence[Path | np.ndarray]
    labels: Sequence[str | int]


@dataclass(frozen=True)
class Task:
    """A classification task as in CoOp: class names and three draws of photos."""

    name: str
    class_names: list[str]
    template: str
    train: Photos
    val: Photos
    test: Photos


def tiny_imagenet(root: Path, seed: int, held_out: int = 10) -> tuple[Photos, Photos, Photos]:
    """Return train, validation (`held_out` photos per class, drawn) and test (its val/ folder)."""
    rng = random.Random(seed)
    splits: list[list[tuple[Path, str]]] = [[], [], []]
    for folder in sorted((root / "train").iterdir()):
        files = sorted(folder.rglob("*.JPEG"))
        rng.shuffle(files)
        splits[1] += [(f, folder.name) for f in files[:held_out]]
        splits[0] += [(f, folder.name) for f in files[held_out:]]
    for folder in sorted((root / "val").iterdir()):
        splits[2] += [(f, folder.name) for f in sorted(folder.rglob("*.JPEG"))]
    names = ("tiny-train", "tiny-val", "tiny-test")
    train, val, test = (
        Photos(name, [f for f, _ in pairs], [label for _, label in pairs])
        for name, pairs in zip(names, splits, strict=True)
    )
    return train, val, test


def held_out(root: Path, count: int) -> list[str]:
    """Return the offsets of the classes that a --hold-out-classes run never sees."""
    classes = sorted(p.name for p in (root / "train").iterdir())
    return sorted(random.Random(40).sample(classes, count))


def imagenet(root: Path) -> Photos:
    """Return one photo of each of the 1,000 classes; file names are `<offset>_<name>.JPEG`."""
    files = sorted(root.glob("n*.JPEG"))
    return Photos("imagenet", files, [f.name[:9] for f in files])


def coop_task(root: Path, name: str, template: str, shots: int, tests: int | None = None) -> Task:
    """Return a data set of CoOp's layout with its published split and few-shot draw (seed `SEED`).

    `tests` photos of the test split are drawn for a quicker look; without it, all of them.
    """
    few = draw(read_coop(root, name), shots, SEED)
    test, val = few.test, few.val
    if test is None or val is None:
        raise ValueError(f"{root}/{name} has no validation or no test split")
    if tests and tests < len(test):
        test = test.take(random.Random(SEED).sample(range(len(test)), tests))

    def photos(part: str, split: LabelledPhotos) -> Photos:
        files = [photo.path for photo in split.photos if photo.path is not None]
        return Photos(f"{name}-{part}", files, split.labels.tolist())

    return Task(
        name, list(few.class_names), template,
        photos("train", few.train), photos("val", val), photos(f"test-{len(test)}", test),
    )  # fmt: skip


FASHION = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
           "Ankle boot"]  # fmt: skip


def fashion_mnist(root: Path, template: str, shots: int, tests: int) -> Task:
    """Return Fashion-MNIST: `shots` + 4 drawn train photos per class, the first `tests` tests."""
    images, labels = make_demo.read(root, "train")
    test_images, test_labels = make_demo.read(root, "t10k")
    rng = random.Random(SEED)
    drawn = [rng.sample(np.flatnonzero(labels == c).tolist(), shots + 4) for c in range(10)]
    train = [i for d in drawn for i in d[:shots]]
    val = [i for d in drawn for i in d[shots:]]

    def photos(part: str, rows: list[int]) -> Photos:
        return Photos(f"fashion-mnist-{part}", list(images[rows]), labels[rows].tolist())

    test = Photos(
        f"fashion-mnist-test-{tests}",
        list(test_images[:tests]),
        test_labels[:tests].astype(int).tolist(),
    )
    return Task(
        "fashion-mnist", FASHION, template, photos("train", train), photos("val", val), test
    )


def features(photos: Photos, encoder: Encoder, cache: Path, batch: int = 32) -> np.ndarray:
    """Return the class tokens of `photos`, (N, 384) float32, from the cache where it has them."""
    cache.mkdir(parents=True, exist_ok=True)
    parts, began = [], time.time()
    for start in range(0, len(photos.files), CHUNK):
        file = cache / f"{photos.name}-{start:06d}.npz"
        if not file.exists():
            rows = []
            for i in range(start, min(start + CHUNK, len(photos.files)), batch):
                stop = min(i + batch, start + CHUNK)
                rows.append(encoder(np.stack([_pixels(f) for f in photos.files[i:stop]])))
            unfinished = file.with_suffix(".unfinished")
            with open(unfinished, "wb") as out:
                np.savez(out, features=np.concatenate(rows))
            unfinished.rename(file)
            print(f"{file.stem}: {time.time() - began:.0f} s", flush=True)
        parts.append(np.load(file)["features"])
    return np.concatenate(parts)


def _pixels(photo: Path | np.ndarray) -> np.ndarray:
    if isinstance(photo, np.ndarray):
        return dinov2.pixels(Image.fromarray(photo))
    with Image.open(photo) as image:
        return dinov2.pixels(image)
