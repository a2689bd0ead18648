"""Pictures of what people see: the page of a run for the documentation, and pages on a phone.

``python tools/screenshots.py`` writes docs/pictures/report.png, of a run on the demo's photos.
``python tools/screenshots.py --site site --out DIR [PAGE ...]`` takes pages of the built site
(``make docs``) at 400 and 1,100 pixels, whole, to be looked at, and ends with exit code 1 if one of
them has to be scrolled sideways or asks for anything that is not on the disk. Needs Chromium.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from sharpzo.data.demo import load_demo

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from browser import Browser  # noqa: E402

PICTURE = ROOT / "docs" / "pictures" / "report.png"
WIDTHS = (400, 1100)
TALL = 6000  # pixels of a page that are taken


def shoot(browser: Browser, page: Path, to: Path, width: int, height: int | None) -> list[str]:
    """Take a picture of a local page in a window of this size, None: of its own height; return
    what is wrong with it."""
    browser.requests.clear()
    browser.resize(width, height or 900)
    browser.open(page.resolve().as_uri())
    browser.wait("document.readyState === 'complete' && document.body.innerText.length > 0")
    if height is None:
        height = min(int(browser.ask("document.documentElement.scrollHeight")), TALL)
    to.parent.mkdir(parents=True, exist_ok=True)
    browser.picture(to, width, height)
    wide = int(browser.ask("document.documentElement.scrollWidth"))
    wrong = [f"{wide} pixels wide in a window of {width}"] if wide > width else []
    return wrong + [
        f"asks for {one}" for one in browser.requests if not one.startswith(("file:", "data:"))
    ]


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="of the site; without one, all")
    parser.add_argument("--site", type=Path, help="folder of the built site")
    parser.add_argument("--out", type=Path, help="folder for pictures of the site")
    asked = parser.parse_args()
    if (asked.site is None) != (asked.out is None):
        parser.error("--site and --out belong together")
    found: list[str] = []
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place,
        Browser(Path(place) / "profile") as browser,
    ):
        if asked.site is None:
            shoot(browser, report(Path(place)), PICTURE, 900, 1100)
            whole = Image.open(PICTURE)  # fewer colours: half of the bytes
            few = whole.convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
            few.save(PICTURE, optimize=True)
            return 0
        for page in asked.pages or sorted(path.stem for path in asked.site.glob("*.html")):
            for width in WIDTHS:
                to = asked.out / f"{page}-{width}.png"
                for wrong in shoot(browser, asked.site / f"{page}.html", to, width, None):
                    found.append(f"{page} at {width}: {wrong}")
                    print(found[-1])
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main())
