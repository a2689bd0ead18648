"""Pictures of what people see: the page of a run for the documentation, and pages on a phone.

``python tools/screenshots.py`` writes docs/pictures/report.png, of a run on the demo's photos.
``python tools/screenshots.py --site site --out DIR`` takes pages of the built site (``make docs``)
at 400 and 1,200 pixels, to be looked at. Needs Chromium, or ``--browser`` with its name.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from sharpzo.data.demo import load_demo

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "pictures" / "report.png"
PAGES = ("index", "five-minutes", "small-machines", "comparison", "reference")


def shoot(browser: str, page: Path, to: Path, width: int, height: int) -> None:
    """Take a picture of a local page in a window of this size."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={profile}", f"--window-size={width},{height}",
                "--virtual-time-budget=2000", f"--screenshot={to}", page.resolve().as_uri(),
            ],
            check=True, capture_output=True,
        )  # fmt: skip
    print(to)


def photos(folder: Path) -> None:
    """A few photos of the demo as files, in splits and classes."""
    demo = load_demo(1)
    for split, each in (("train", 8), ("val", 2), ("test", 10)):
        labelled = getattr(demo, split)
        for k, name in enumerate(demo.class_names):
            place = folder / split / name
            place.mkdir(parents=True)
            for row in np.flatnonzero(labelled.labels == k)[:each]:
                Image.fromarray(labelled.photos[row].decode()).save(place / f"{row}.png")


def report(folder: Path) -> Path:
    """The page of a run on these photos."""
    photos(folder / "photos")
    for line in (
        ["fit", "photos", "--out", "run"],
        ["report", "run", "--data", "photos", "--out", "report.html", "--no-landscape"],
    ):
        subprocess.run([sys.executable, "-m", "sharpzo", *line], cwd=folder, check=True)
    return folder / "report.html"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--browser", default=shutil.which("chromium") or "google-chrome")
    parser.add_argument("--site", type=Path, help="folder of the built site")
    parser.add_argument("--out", type=Path, help="folder for pictures of the site")
    asked = parser.parse_args()
    if (asked.site is None) != (asked.out is None):
        parser.error("--site and --out belong together")
    if asked.site is not None:
        for page in PAGES:
            for width, height in ((400, 1600), (1200, 900)):
                to = asked.out / f"{page}-{width}.png"
                shoot(asked.browser, asked.site / f"{page}.html", to, width, height)
        return
    with tempfile.TemporaryDirectory() as place:
        shoot(asked.browser, report(Path(place)), PICTURE, 900, 1100)
    whole = Image.open(PICTURE)  # fewer colours: half of the bytes
    whole.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
