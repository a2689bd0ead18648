"""How copies of photos with hardly any contrast can be found.

    python experiments/check/flat.py --data DATASETS

The first 120 photos of EuroSAT's sea whose grey levels vary by less than 2 of 255, each planted
again as JPEG of quality 60, at 60 % of the size, brighter and mirrored. A copy is found if it is
more alike than any two different photos are; features are those of 60 photos. Seen:

| compared by | JPEG again | smaller | brighter | mirrored |
| --- | --- | --- | --- | --- |
| grey thumbnails of 16 pixels, as other photos | 27 % | 48 % | 60 % | 98 % |
| colours, 16 pixels | 22 % | 58 % | 98 % | 100 % |
| colours, 32 pixels (chosen) | 26 % | 84 % | 100 % | 100 % |
| colours, 64 pixels | 28 % | 94 % | 100 % | 100 % |
| mean colour | 0 % | 100 % | 0 % | 100 % |
| mean colour and colours, 32 pixels | 46 % | 100 % | 0 % | 100 % |
| features of the image tower (60 photos) | 0 % | 17 % | 42 % | 23 % |
| features, relative to the nearest other photo | 2 % | 77 % | 70 % | 90 % |

The least correlation, 0.75, is above the highest of 7,140 pairs of different photos (0.69).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from harness import parser, table
from PIL import Image
from run import changed

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.photo import Photo
from sharpzo.metrics import normalise
from sharpzo.towers.open import Towers
from sharpzo.towers.runtime import Runtime
from sharpzo.types import Array

MANY, PALE, FEATURES = 120, 2.0, 60


def main() -> None:
    given = parser(__doc__).parse_args()
    photos: list[Array] = []
    for path in sorted((given.data / "eurosat" / "2750" / "SeaLake").glob("*.jpg")):
        image = Image.open(path)
        if np.std(image.convert("L").resize((16, 16), Image.Resampling.BILINEAR)) < PALE:
            photos.append(np.asarray(image.convert("RGB")))
        if len(photos) == MANY:
            break
    forms = [photos, *([changed(one, k) for one in photos] for k in range(4))]
    rows = [
        [f"{name}, {side} pixels", *found(lambda k, m=mode, s=side: thumbs(forms, k, m, s))]
        for name, mode, side in (("grey", "L", 16), *(("colours", "RGB", s) for s in (16, 32, 64)))
    ]
    means = np.array([[one.mean(axis=(0, 1)) for one in form] for form in forms])

    def apart(k: int, many: int = MANY) -> Array:
        return np.abs(means[0, :many, None] - means[k, None, :many]).max(axis=-1)

    rows.append(["mean colour", *found(lambda k: -apart(k))])
    both = found(lambda k: thumbs(forms, k, "RGB", 32) - apart(k) / 4)
    rows.append(["mean colour and colours, 32 pixels", *both])
    states = encoded([form[:FEATURES] for form in forms])
    near = np.sort(states[0] @ states[0].T - 2 * np.eye(FEATURES))[:, -1:]
    rows.append(["features", *found(lambda k: states[0] @ states[k].T)])
    rows.append(["features, relative", *found(lambda k: states[0] @ states[k].T - near)])
    print(table(["compared by", "JPEG again", "smaller", "brighter", "mirrored"], rows))


def found(alike) -> list[str]:
    """The share of copies of each kind that are more alike than any two different photos."""
    others = alike(0)
    most = others[~np.eye(len(others), dtype=bool)].max()
    return [f"{100 * (np.diag(alike(k)) > most).mean():.0f} %" for k in range(1, 5)]


def thumbs(forms: list[list[Array]], k: int, mode: str, side: int) -> Array:
    """Correlations (N, N) of photos with those of form k, mirrored or not."""
    one, other = (
        np.array([np.asarray(Image.fromarray(pixels).convert(mode).resize((side, side),
                                                                          Image.Resampling.BILINEAR))
                  for pixels in form], float).reshape(len(form), side, side, -1)
        for form in (forms[0], forms[k])
    )  # fmt: skip
    one, other = (form - form.mean(axis=(1, 2), keepdims=True) for form in (one, other))
    first, mirrored, second = (
        normalise(form.reshape(len(form), -1)) for form in (one, one[:, :, ::-1], other)
    )
    return np.maximum(first @ second.T, mirrored @ second.T)


def encoded(forms: list[list[Array]]) -> Array:
    """Unit states (5, N, S) of the image tower, less the mean of the photos themselves."""
    photos = tuple(Photo(f"{k}-{i}", pixels=one)
                   for k, form in enumerate(forms) for i, one in enumerate(form))  # fmt: skip
    split = LabelledPhotos(photos, np.zeros(len(photos), np.int64), ("sea",))
    towers = Towers(None, Runtime(threads=1))
    states = towers.encode({"all": split}, lambda *_: None, None, ())["all"].states
    assert states is not None
    states = states.reshape(len(forms), FEATURES, -1)
    return normalise(states - states[0].mean(axis=0))


if __name__ == "__main__":
    main()
