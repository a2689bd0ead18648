"""Augmented views of photos, by the transform of the few-shot literature.

RandomResizedCrop and a horizontal flip, as torchvision defines them: a crop of a share of the area
drawn from ``scale`` and an aspect ratio drawn log-uniformly from 3/4 to 4/3, resized bicubically
to a square. A view is a photo like any other, decoded late; its draw comes from a seed and its
place, so it can be rebuilt and cached.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.photo import Photo
from sharpzo.errors import InputError
from sharpzo.rng import generator
from sharpzo.types import Array


@dataclass(frozen=True, eq=False)
class View(Photo):
    """A crop of a photo, flipped or not, resized to ``side`` x ``side`` pixels."""

    seed: int = 1
    row: int = 0
    number: int = 0
    side: int = 224
    scale: tuple[float, float] = (0.08, 1.0)

    def decode(self) -> Array:
        """Return the pixels of the view, uint8 (side, side, 3)."""
        from PIL import Image

        pixels = super().decode()
        rng = generator(self.seed, "augment", step=self.row, direction=self.number)
        top, left, height, width = crop(pixels.shape[0], pixels.shape[1], self.scale, rng)
        image = Image.fromarray(pixels[top : top + height, left : left + width])
        image = image.resize((self.side, self.side), Image.Resampling.BICUBIC)
        turned = np.asarray(image)
        return turned[:, ::-1].copy() if rng.random() < 0.5 else turned

    def digest(self) -> str:
        """Return the SHA-256 of the photo's content and the draw."""
        draw = (self.seed, self.row, self.number, self.side, self.scale)
        return hashlib.sha256(f"{super().digest()} {draw}".encode()).hexdigest()


def augment(
    photos: LabelledPhotos,
    views: int,
    side: int,
    seed: int = 1,
    scale: tuple[float, float] = (0.08, 1.0),
) -> LabelledPhotos:
    """Return ``views`` augmented views of each of N photos, view-major: row v * N + i."""
    if views < 1:
        raise InputError(f"views is {views}; give 1 or more")
    made = tuple(
        View(photo.name, photo.path, photo.pixels, seed, i, v, side, scale)
        for v in range(views)
        for i, photo in enumerate(photos.photos)
    )
    return LabelledPhotos(made, np.tile(photos.labels, views), photos.class_names)


def crop(
    height: int, width: int, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a random crop; the centre if ten draws don't fit.

    >>> top, left, height, width = crop(60, 80, (0.25, 0.25), generator(1, "crop"))
    >>> abs(height * width - 1200) < 80
    True
    """
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return int(top), int(left), h, w
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w
