"""Make the pictures of docs/page.md: `sharpzo ui` in a headless Chromium, on the demo's photos.

``python tools/page_pictures.py`` writes docs/pictures/page-*.png; with ``--out DIR`` it takes every
step at 400 and 1,100 pixels, light and dark, whole, to be looked at, and ends with exit code 1 if
one has to be scrolled sideways.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from sharpzo.data.demo import load_demo

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from browser import Browser  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
WIDTHS = (400, 1100)
TALL = 5000  # pixels of a page that are taken
CLASSES = ("ankle boot", "bag", "dress", "sandal", "shirt", "trouser")
# The steps that the docs show: width, height, dark, and the heading that is at the top.
SHOWN = {
    "photos": ("checked", 1100, 760, False, None),
    "tune": ("searching", 400, 820, True, "h-tune"),
    "result": ("answered", 1100, 1000, False, "h-result"),
}


def photos(folder: Path) -> Path:
    """A few photos per class, of which one is in the wrong class and one is there twice; returns a
    photo of none of them."""
    demo = load_demo()
    assert demo.test is not None
    for label in CLASSES:
        place = folder / label
        place.mkdir(parents=True)
        for row in np.flatnonzero(demo.train.labels == demo.class_names.index(label))[:12]:
            Image.fromarray(demo.train.photos[row].decode()).save(place / f"{row}.png")
    trouser, boot = (sorted((folder / label).iterdir()) for label in ("trouser", "ankle boot"))
    trouser[3].rename(folder / "sandal" / trouser[3].name)
    (folder / "ankle boot" / "copy.png").write_bytes(boot[0].read_bytes())
    new = folder.parent / "new.png"
    row = int(np.flatnonzero(demo.test.labels == demo.class_names.index("bag"))[3])
    Image.fromarray(demo.test.photos[row].decode()).save(new)
    return new


def steps(page: Browser, folder: Path, new: Path) -> Iterator[str]:
    """Do what a person does, and yield the name of each step when it can be seen."""

    def click(name: str) -> None:
        page.ask(f"document.getElementById('{name}').click()")

    page.wait("typeof state !== 'undefined' && state !== null && photos !== null")
    yield "empty"
    page.choose("#folders", folder)
    page.wait("state.checked && photos.found !== null")
    yield "checked"
    click("tune")
    page.wait("!document.getElementById('result').hidden && !state.work.running")
    page.choose("#photo", new)
    page.wait("document.getElementById('took').dataset.answers === '1'")
    page.choose("#photo", new)  # the first one opens the run
    page.wait("document.getElementById('took').dataset.answers === '2'")
    yield "answered"
    page.ask("document.querySelector('input[value=sharpzo]').click()")
    click("tune")
    page.wait("state.work.running && state.work.done > 1500")
    yield "searching"
    click("stop")
    page.wait("!state.work.running")
    page.wait("document.querySelector('#runs button') !== null")
    yield "stopped"


def whole(page: Browser, name: str, out: Path) -> int:
    """Pictures of a step, whole; how many are too wide."""
    wrong = 0
    for width in WIDTHS:
        for dark in (False, True):
            page.resize(width, 900)
            height = min(int(str(page.ask("document.documentElement.scrollHeight"))), TALL)
            page.picture(out / f"{name}-{width}{'-dark' * dark}.png", width, height, dark)
        wide = int(str(page.ask("document.documentElement.scrollWidth")))
        if wide > width:
            print(f"{name} at {width}: {wide} pixels wide")
            wrong += 1
    return wrong


def shown(page: Browser, step: str) -> None:
    """The pictures of the docs of a step."""
    for name, (at, width, height, dark, heading) in SHOWN.items():
        if at != step:
            continue
        file = PICTURES / f"page-{name}.png"
        page.resize(width, height)
        top = f"document.getElementById('{heading}')" if heading else "document.body"
        page.ask(f"{top}.scrollIntoView()")
        page.picture(file, width, height, dark)
        few = Image.open(file).convert("P", palette=Image.Palette.ADAPTIVE, colors=128)
        few.save(file, optimize=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for pictures of every step")
    out = parser.parse_args().out
    wrong = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        scratch = Path(place)
        new = photos(scratch / "photos")
        line = [sys.executable, "-m", "sharpzo", "ui", str(scratch / "home"), "--no-browser"]
        server = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            said = re.search(r"http\S+", server.stdout.readline())
            assert said is not None
            with Browser(scratch / "profile") as page:
                page.open(said[0])
                for step in steps(page, scratch / "photos", new):
                    if out is None:
                        shown(page, step)
                    else:
                        out.mkdir(parents=True, exist_ok=True)
                        wrong += whole(page, step, out)
        finally:
            server.terminate()
            server.wait(60)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
