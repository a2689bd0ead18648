"""A hundred photos of the demo added one by one, against one fit; then forgotten again.

    python experiments/asks/adds.py

Prints the largest difference of the coefficients. Without validation photos, default method.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np
from harness import parser

from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.demo import load_demo
from sharpzo.fitting.fitter import Fitter
from sharpzo.fitting.growth import add, forget
from sharpzo.fitting.trained import Trained

FIRST = 60


def apart(one: Trained, other: Trained) -> float:
    """The largest difference of what the two classify with."""
    names = [name for name in one.arrays if not name.startswith("kept/")]
    return max(float(np.abs(one.arrays[n] - other.arrays[n]).max()) for n in names)


def main() -> None:
    args = parser(__doc__).parse_args()

    def fitted(split: LabelledPhotos) -> Trained:
        data = Dataset(split.class_names, split, None, None, source="the demo")
        return Fitter(cache=args.cache, threads=1).fit(data)

    photos = load_demo().train
    photos = photos.take(np.random.default_rng(0).permutation(len(photos)))
    part, later = fitted(photos.take(range(FIRST))), photos.take(range(FIRST, len(photos)))
    grown: Trained = part
    for photo, label in zip(later.photos, later.labels, strict=True):
        grown = add(grown, [photo], [later.class_names[label]]).trained
    print(f"{len(later)} adds against one fit: {apart(grown, fitted(photos)):.1e}")
    print(f"forgotten again: {apart(forget(grown, later.photos).trained, part):.1e}")


if __name__ == "__main__":
    main()
