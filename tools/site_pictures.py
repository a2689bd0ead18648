"""Make the pictures of docs/export.md: the page of an export in a headless Chromium.

sharpzo demo …                                       # or any run on the demo's photos
sharpzo export RUN SITE --format web --runtime download
python tools/site_pictures.py SITE                   # writes docs/pictures/export-*.png
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image

from sharpzo.data.demo import load_demo

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from browser import Browser  # noqa: E402

ANSWERS = "Number(document.getElementById('status').dataset.answers || 0)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    page = (parser.parse_args().site / "index.html").resolve()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        photos = load_demo().test
        assert photos is not None
        file = Path(scratch) / "bag.png"
        bag = photos.class_names.index("bag")
        pixels = next(p for p, k in zip(photos.photos, photos.labels, strict=True) if k == bag)
        Image.fromarray(pixels.decode()).save(file)
        with Browser(Path(scratch) / "profile") as browser:
            browser.open(page.as_uri())
            browser.wait("document.body && document.body.dataset.ready")
            for _ in range(3):  # the first photos are slower
                before = browser.ask(ANSWERS)
                browser.choose("#file", file)
                browser.wait(f"{ANSWERS} > {before}")
            for name, width, height, dark in (
                ("wide", 900, 600, False),
                ("narrow", 400, 850, True),
            ):
                picture = ROOT / "docs" / "pictures" / f"export-{name}.png"
                browser.picture(picture, width, height, dark)
                Image.open(picture).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(
                    picture, optimize=True
                )


if __name__ == "__main__":
    main()
