"""Does a granted memory limit hold, whatever the photos are? Peaks of `sharpzo fit`, from outside.

    python benchmarks/photo_limits.py        # a line per kind, writes results/photo-limits.json
    python benchmarks/photo_limits.py --add --kinds "12 MP jpeg" --image-size 112   # some anew

For each kind of photo (megapixels, format, way of saving) two classes of two photos and the
embedded model, or one of ViT-B/16's size (random weights, see memory.py): a run with a limit of
1 MB names the least limit, a second run gets it, and a third one has none. Peak: see memory.py.
One thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from memory import RUN, watch, write_model
from PIL import Image

RESULT = Path(__file__).parent / "results" / "photo-limits.json"
Image.MAX_IMAGE_PIXELS = None


def texture(width: int, height: int) -> Image.Image:
    """Noise of two sizes, as grain on shapes."""
    draws = np.random.default_rng(0)
    tile = draws.integers(0, 256, (64, 64, 3), np.uint8).repeat(16, 0).repeat(16, 1).astype(int)
    tile = np.clip(tile + draws.integers(-12, 13, tile.shape), 0, 255).astype(np.uint8)
    rows = np.tile(tile, (1, -(-width // 1024), 1))[:, :width]
    return Image.fromarray(np.tile(rows, (-(-height // 1024), 1, 1))[:height])


def clear(width: int, height: int) -> Image.Image:
    photo = texture(width, height)
    photo.putalpha(texture(width, height).convert("L"))
    return photo


LYING = Image.Exif()
LYING[0x0112] = 6
Make = Callable[[int, int], Image.Image]
KINDS: dict[str, tuple[Make, int, int, str, dict]] = {
    "1 MP jpeg": (texture, 1200, 900, "jpg", {}),
    "12 MP jpeg": (texture, 4000, 3000, "jpg", {}),
    "12 MP jpeg, rotated": (texture, 4000, 3000, "jpg", {"exif": LYING}),
    "12 MP jpeg, progressive": (texture, 4000, 3000, "jpg", {"progressive": True}),
    "80 MP jpeg, progressive, 4:4:4": (
        texture, 10000, 8000, "jpg", {"progressive": True, "subsampling": 0}),
    "200 MP jpeg": (texture, 16320, 12240, "jpg", {}),
    "65 MP jpeg, thin": (texture, 65000, 1000, "jpg", {}),
    "1 MP png": (texture, 1200, 900, "png", {"compress_level": 1}),
    "12 MP png, rotated": (texture, 4000, 3000, "png", {"compress_level": 1, "exif": LYING}),
    "12 MP png, transparent": (clear, 4000, 3000, "png", {"compress_level": 1}),
    "80 MP png": (texture, 10000, 8000, "png", {"compress_level": 1}),
    "30 MP png, thin": (texture, 300, 100000, "png", {"compress_level": 1}),
    "12 MP webp": (texture, 4000, 3000, "webp", {"method": 0}),
    "12 MP webp, transparent": (clear, 4000, 3000, "webp", {"method": 0}),
    "80 MP webp": (texture, 10000, 8000, "webp", {"method": 0}),
}  # fmt: skip


def measure(photos: Path, out: Path, more: list[str]) -> dict[str, float]:
    command = [*RUN, "fit", str(photos), "--no-cache", "--json", "--threads", "1", *more, "--out"]
    said = watch([*command, str(out / "refused"), "--memory-limit", "1MB"])[0]
    least = re.search(r"need at least ([\d,]+) MB", said)
    assert least, said
    limit = int(least[1].replace(",", ""))
    printed, bound = watch([*command, str(out / "bound"), "--memory-limit", f"{limit}MB"])
    assert "peak_memory_mb" in printed, printed
    free = watch([*command, str(out / "free")])[1]
    return {"limit_mb": limit, "peak_mb": bound["peak_mb"], "unlimited_mb": free["peak_mb"],
            "processor_seconds": bound["processor_seconds"]}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--image-size", nargs="+", type=int, default=[112, 224])
    parser.add_argument("--model", default="embedded", choices=["embedded", "ViT-B/16"])
    parser.add_argument("--method", default="ladder+gda")
    parser.add_argument("--add", action="store_true", help="keep the other results")
    args = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    report = {"cpu": platform.processor() or platform.machine(), "method": args.method,
              "command": "python benchmarks/photo_limits.py", "runs": []}  # fmt: skip
    if args.add:
        report = json.loads(RESULT.read_text("utf-8"))
    for kind in args.kinds:
        make, width, height, suffix, options = KINDS[kind]
        with tempfile.TemporaryDirectory() as scratch:
            photos = Path(scratch) / "photos"
            first = photos / "cat" / f"0.{suffix}"
            for folder in ("cat", "dog"):
                (photos / folder).mkdir(parents=True)
            make(width, height).save(first, **options)
            for name in ("cat/1", "dog/0", "dog/1"):
                # Bytes behind the picture: no two photos are the same.
                (photos / f"{name}.{suffix}").write_bytes(first.read_bytes() + name.encode())
            more = ["--method", args.method]
            if args.model != "embedded":
                write_model(Path(scratch), args.model)
                more += ["--model", scratch]
            for size in args.image_size if args.model == "embedded" else [224]:
                what = {"model": args.model, "photos": kind, "image_size": size}
                sized = [*more, "--image-size", str(size)] if args.model == "embedded" else more
                row = {**what, **measure(photos, Path(scratch) / str(size), sized)}
                report["runs"] = [one for one in report["runs"]
                                  if {key: one[key] for key in what} != what]  # fmt: skip
                report["runs"].append(row)
                print(row, "" if row["peak_mb"] <= row["limit_mb"] else "EXCEEDED", flush=True)
                RESULT.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
