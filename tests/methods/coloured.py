"""Photos that differ in colour, and tasks of them with a checkpoint's towers."""

import numpy as np
from PIL import Image

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.photo import Photo
from sharpzo.methods import Task
from sharpzo.methods.registry import Images
from sharpzo.towers.features import encode
from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower
from towers.random_models import TEXT, VISION, save_clip, save_dual

NAMES = ["cat", "dog", "the_cat"]


def save_models(root):
    """Checkpoints of random towers: CLIP's with two activations, and DINOv2's."""
    vision = {**VISION, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    save_clip(root / "quick_gelu", TEXT, vision)
    save_clip(root / "gelu", {**TEXT, "hidden_act": "gelu"}, {**vision, "hidden_act": "gelu"})
    save_dual(root / "dinov2")
    return root


def photos(many, seed=0):
    """Photos of three classes that differ in colour."""
    draws = np.random.default_rng(seed)
    labels = np.arange(many) % 3
    pixels = draws.integers(0, 120, (many, 40, 40, 3))
    pixels[np.arange(many), :, :, labels] += 12
    return LabelledPhotos(
        tuple(Photo(f"{seed}-{i}", pixels=p.astype(np.uint8)) for i, p in enumerate(pixels)),
        labels, tuple(NAMES),
    )  # fmt: skip


def make_task(checkpoint, held=42):
    """Training photos, and ``held`` of validation."""
    train, validation = photos(18), photos(held, seed=1) if held else None
    splits = {"train": train} | ({"val": validation} if validation else {})
    features = encode(checkpoint, splits, threads=1)
    return Task(
        features["train"],
        features.get("val"),
        OnnxTextTower(checkpoint, NAMES, threads=1),
        images=Images(train, validation, lambda: OnnxImageTower(checkpoint, threads=1)),
    )


def along(head, task):
    """The training photos' features by way of the head's detour."""
    return head.detour.seen(task.train, task.images.open_tower(), task.images.train)


def save_photos(folder):
    """The training photos as files; five of them."""
    for photo, label in zip(photos(18).photos, photos(18).labels, strict=True):
        path = folder / NAMES[label] / f"{photo.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo.image()).save(path)
    return sorted(folder.rglob("*.png"))[:5]


def check_on(checkpoint, method, check, monkeypatch):
    """Run a check of the suite for methods with a checkpoint's towers in place of toys, which have
    no weights to give to torch."""
    monkeypatch.setattr(
        "sharpzo.testing.methods.ToyImageTower",
        lambda *given, **named: OnnxImageTower(checkpoint, threads=1),
    )
    check(method, OnnxTextTower(checkpoint, [*NAMES, "p"], threads=1))
