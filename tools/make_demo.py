"""Write the demo photos of the package from the files of Fashion-MNIST.

    python tools/make_demo.py --fashion-mnist DIR --out src/sharpzo/assets/demo

DIR holds the four .gz files (https://github.com/zalandoresearch/fashion-mnist, MIT; in Debian the
package dataset-fashion-mnist). The same files give the same bytes. See README.md in the output.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save

from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.demo import CLASS_NAMES, SEEDS
from sharpzo.data.few_shot import draw
from sharpzo.data.photo import as_photo

SHOTS = 16
TESTS = 50  # per class
TEST_SEED = 1
TRAIN_ROWS = 60_000  # test photo i is row 60,000 + i


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--fashion-mnist", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    train, test = (read(options.fashion_mnist, part) for part in ("train", "t10k"))
    pixels = np.concatenate([train[0], test[0]])
    labels = np.concatenate([train[1], test[1]])

    splits: dict[str, list[int]] = {}
    for seed in SEEDS:
        few = draw(dataset(*train), SHOTS, seed)
        assert few.val is not None
        splits[f"train-{seed}"] = rows(few.train)
        splits[f"val-{seed}"] = rows(few.val)
    drawn = rows(draw(dataset(*test), TESTS, TEST_SEED).train)
    splits["test"] = [TRAIN_ROWS + row for row in drawn]

    kept = np.unique(np.concatenate(list(splits.values())))  # sorted; draws may share photos
    content = {name: np.searchsorted(kept, part).astype(np.int32) for name, part in splits.items()}
    content |= {
        "photos": pixels[kept],
        "labels": labels[kept].astype(np.int32),
        "rows": kept.astype(np.int32),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    # Not save_file: its files are readable by their owner alone, and a wheel keeps that.
    (options.out / "photos.safetensors").write_bytes(save(content))

    examples = options.out / "examples"
    examples.mkdir(exist_ok=True)
    for label, name in enumerate(CLASS_NAMES):
        first = next(row for row in splits["test"] if labels[row] == label)
        Image.fromarray(pixels[first]).save(examples / f"{name.replace(' ', '-')}.png")
    print(f"{len(kept)} photos, {sum(f.stat().st_size for f in options.out.rglob('*.*'))} bytes")


def read(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return photos uint8 (N, 28, 28) and labels uint8 (N,) of two IDX files."""

    def content(name: str, header: int) -> np.ndarray:
        packed = (folder / f"{part}-{name}-ubyte.gz").read_bytes()
        return np.frombuffer(gzip.decompress(packed), np.uint8, offset=header)

    return content("images-idx3", 16).reshape(-1, 28, 28), content("labels-idx1", 8)


def dataset(pixels: np.ndarray, labels: np.ndarray) -> Dataset:
    """Return all photos as training photos, named by their row."""
    photos = tuple(as_photo(photo, str(row)) for row, photo in enumerate(pixels))
    split = LabelledPhotos(photos, labels.astype(np.int64), CLASS_NAMES)
    return Dataset(CLASS_NAMES, split, None, None, source="Fashion-MNIST")


def rows(split: LabelledPhotos) -> list[int]:
    """Return the rows of the photos, which are their names."""
    return [int(photo.name) for photo in split.photos]


if __name__ == "__main__":
    main()
