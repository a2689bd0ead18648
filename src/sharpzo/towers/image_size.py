"""At how many pixels a side an image tower sees photos, where its positions can be resampled."""

from __future__ import annotations

import numpy as np

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.errors import InputError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.families import image_family
from sharpzo.towers.preprocess import Preprocessing

LARGEST = 640  # the attention of a photo of 1,024 pixels a side takes gigabytes
_LOOKED_AT = 100  # photos whose headers say how large they are


def check_image_size(checkpoint: Checkpoint) -> None:
    """Raise `InputError` for photos of a size that the image tower cannot be made for."""
    size, config = checkpoint.image_size, checkpoint.image
    if size is None:
        return
    if not image_family(checkpoint).resizable:
        raise InputError(
            f"image_size is {size}, but the image tower of {checkpoint.folder} (family "
            f"{config.family!r}) takes photos of one size; leave it out"
        )
    patch = config.patch
    if size % patch or not patch <= size <= LARGEST:
        raise InputError(
            f"image_size is {size}; give a multiple of {patch} (the model's patches) up to "
            f"{LARGEST // patch * patch}, such as {max(224 // patch, 1) * patch}"
        )


def suited_size(checkpoint: Checkpoint, photos: LabelledPhotos) -> int | None:
    """Return twice the model's own size where most photos have as many pixels as the latter, and
    the tower was trained with positions for it; None: its own.

    Photos of such sizes are told apart much better for four times the work, those with fewer pixels
    hardly (docs/your-photos.md).
    """
    config, made = checkpoint.image, Preprocessing.open(checkpoint)
    (height, own), size = made.size, 2 * made.size[1]
    # What only crops, or makes no squares, is not made for another size (`Preprocessing.at`).
    if not image_family(checkpoint).resizable or height != own or made.resize is None:
        return None
    if size % config.patch or size > config.image_size:
        return None
    step = -(-len(photos) // _LOOKED_AT) or 1
    sides = [photo.shorter_side() for photo in photos.photos[::step]]
    usable = [side for side in sides if side]  # damaged photos have none, and are not read
    return size if usable and np.median(usable) >= own else None
