"""The demo photos inside the package: 28 x 28 product photos of Fashion-MNIST."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.photo import as_photo
from sharpzo.errors import InputError

SEEDS = (1, 2, 3)
# Fashion-MNIST's names in lower case, which is how CLIP meets them; "T-shirt/top" and "Ankle boot"
# in words that fit into "a photo of a {}."
CLASS_NAMES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def load_demo(seed: int = 1) -> Dataset:
    """Return a draw of Fashion-MNIST: 16 training, 4 validation and 50 test photos per class.

    The photos are greyscale on black, handed out as RGB: uint8 (28, 28, 3). The test photos are
    the same for each seed. `sharpzo.data.few_shot.draw` takes fewer shots from it.

    Raises `InputError` for a seed other than 1, 2 and 3.

    >>> demo = load_demo(seed=1)
    >>> len(demo.train), len(demo.val), len(demo.test)
    (160, 40, 500)
    """
    if seed not in SEEDS:
        raise InputError(f"the demo has no draw of seed {seed}; give 1, 2 or 3")
    from safetensors.numpy import load

    content = load((files("sharpzo") / "assets" / "demo" / "photos.safetensors").read_bytes())

    def split(name: str) -> LabelledPhotos:
        rows = content[name]
        photos = tuple(
            as_photo(content["photos"][row], f"demo photo {content['rows'][row]}") for row in rows
        )
        return LabelledPhotos(photos, content["labels"][rows].astype(np.int64), CLASS_NAMES)

    return Dataset(
        CLASS_NAMES,
        split(f"train-{seed}"),
        split(f"val-{seed}"),
        split("test"),
        source=f"Fashion-MNIST, draw {seed} of the demo photos",
    )
