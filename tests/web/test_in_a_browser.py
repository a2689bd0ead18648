"""The page of `sharpzo ui` in a headless Chromium: from nothing to an answer, and no other address
is asked for anything."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from browser import CHROMIUM, Browser
from command import demo_folder
from sharpzo.data.demo import CLASS_NAMES

ROOT = Path(__file__).parents[2]
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
LOADED = "typeof state !== 'undefined' && state !== null && photos !== null"
ANSWERS = "Number(document.getElementById('took').dataset.answers || 0)"


def text(name):
    return f"document.getElementById('{name}').innerText"


def click(name):
    return f"document.getElementById('{name}').click()"


@pytest.fixture
def address(tmp_path):
    """The address that the command of docs/page.md prints; at the end a signal has ended it without
    a word."""
    page = (ROOT / "docs" / "page.md").read_text("utf-8")
    command = re.search(r"^sharpzo ui my-folder", page, re.MULTILINE)[0].split()
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--no-browser"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        where, kept = process.stdout.readline(), process.stdout.readline()
        assert "my-folder" in kept
        yield re.search(r"http://127\.0\.0\.1:\d+/#\S+", where)[0]
        process.terminate()
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
    finally:
        process.kill()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_from_an_empty_page_to_an_answer(address, tmp_path, capsys):
    photos = demo_folder(tmp_path / "photos", CLASS_NAMES, train=16) / "train"
    fresh = next(demo_folder(tmp_path / "new", ("bag",), test=1).rglob("*.png"))
    (photos / "bag" / "note.txt").write_text("no photo")
    (photos / "bag" / "broken.jpg").write_text("no photo either")
    with Browser(tmp_path / "profile", *CAMERA) as page:
        page.open(address)
        page.wait(LOADED)
        assert page.ask("location.href").count("#") == 0  # the secret is out of sight
        assert page.ask("document.getElementById('tune').disabled")
        begin = time.monotonic()
        page.choose("#folders", photos)
        page.wait("Object.keys(photos.classes).length === 10 && !uploads.left", 300)
        assert "broken.jpg is not a readable JPEG" in page.ask(text("refused"))
        page.wait(f"{text('looked')}.includes('are recognised')", 300)
        found = {"photos looked at": time.monotonic() - begin}
        shown = "document.querySelectorAll('#findings figure img').length"
        before = page.ask(shown)
        page.ask("document.querySelector('#findings figure button').click()")
        page.wait(f"0 < {shown} && {shown} < {before}")  # the others stay meanwhile
        page.wait("state.checked", 300)
        page.ask(click("tune"))
        page.wait("!document.getElementById('result').hidden", 300)
        assert re.search(r"Of \d+ photos that were set aside, \d+ are", page.ask(text("said")))
        found["tuned"] = time.monotonic() - begin
        page.choose("#photo", fresh)
        page.wait(f"{ANSWERS} === 1", 300)
        found["answer"] = time.monotonic() - begin
        assert page.ask(text("answer")) in (*CLASS_NAMES, "none of these")
        assert re.search(r"\d+ ms", page.ask(text("took")))
        page.ask(click("camera"))
        page.wait(f"{ANSWERS} > 3", 300)
        page.ask(click("camera"))
        page.wait(f"{text('camera')} === 'Use the camera'")
        # Another method on the same photos, stopped and gone on with.
        page.ask("document.querySelector('input[value=sharpzo]').click()")
        page.ask(click("tune"))
        page.wait("state.work.loss !== undefined", 300)
        assert re.search(r"loss \d", page.ask(text("stage")))
        page.ask(click("stop"))
        page.wait(f"{text('runs')}.includes('Go on') && !state.work.running", 60)
        page.ask("document.querySelector('#runs button').click()")
        page.wait("state.work.running && state.work.done > 500", 300)
        page.ask(click("stop"))
        page.wait("!state.work.running", 60)
        # A page that is loaded anew has the same photos and runs.
        page.ask("location.reload()")
        page.wait(f"{LOADED} && runs.length === 2")
        page.wait("document.querySelector('#exports button') !== null")
        page.ask("document.querySelector('#exports button').click()")
        page.wait("state.files.includes('run-1-onnx.zip')", 300)
        size = "fetch(path('files', 'run-1-onnx.zip')).then((a) => a.blob()).then((b) => b.size)"
        assert page.ask(size) > 5e7
        found["exported"] = time.monotonic() - begin
        assert page.ask(text("trouble")) == page.ask(text("ended")) == ""
        assert page.errors == []
        asked = {one.split("/")[2] for one in page.requests if one.startswith("http")}
        assert asked == {address.split("/")[2]}
        assert {one.split(":")[0] for one in page.requests} <= {"http", "blob", "data"}
    with capsys.disabled():
        print("\nseconds since the empty page:", {k: round(v) for k, v in found.items()})


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_two_tabs_and_a_page_without_the_token(address, tmp_path):
    photos = demo_folder(tmp_path / "photos", ("bag", "coat"), train=2) / "train"
    (photos / "bag" / ".hidden.png").write_bytes(b"")
    (photos / "bag" / "note.txt").write_text("no photo")
    with Browser(tmp_path / "one") as one, Browser(tmp_path / "two") as two:
        for page in (one, two):
            page.open(address)
            page.wait(LOADED)
        one.drop("#drop", photos)  # a folder of classes, or the classes
        one.wait("Object.keys(photos.classes).length === 2 && !uploads.left")
        one.drop("#drop", *photos.iterdir())  # known already
        one.drop(".class", next((photos / "coat").iterdir()))
        one.wait("uploads.done > 0 && !uploads.left && photos.classes.bag.length === 3")
        assert one.ask("photos.classes.coat.length") == 2
        assert one.ask(text("refused")) == one.ask(text("trouble")) == ""
        assert two.ask("Object.keys(photos.classes).length") == 0
        one.ask("document.querySelector('.class .photo button').click()")
        one.wait("photos.classes.bag.length === 2")
        for width in (400, 1100):
            one.resize(width, 800)
            assert one.ask("document.documentElement.scrollWidth") <= width
        two.ask("sessionStorage.clear()")
        two.open("about:blank")
        two.open(address.partition("#")[0])
        two.wait("document.getElementById('trouble') !== null")
        two.wait(f"{text('trouble')}.includes('whole address')")
        assert one.errors == two.errors == []
