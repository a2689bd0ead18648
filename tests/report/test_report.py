"""Reports from the command line, on the embedded model and photos of the demo."""

import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from command import answer, call, demo_folder, refused
from sharpzo.data.demo import load_demo
from sharpzo.report.run_report import demo_of, report_run
from sharpzo.storage.artifact import read, rewrite, write

EVIL = '<b>bag & "shoe"'
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Tags that close as they opened, and what they load or point at."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.loads, self.lacking = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attrs = dict(attrs)
        self.loads += [attrs[name] for name in ("src", "href", "data", "poster") if name in attrs]
        if tag == "img" and not attrs.get("alt"):
            self.lacking.append("alt")
        if tag == "th" and attrs.get("scope") not in ("row", "col"):
            self.lacking.append("scope")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(html):
    page = Page(html)
    assert not page.open
    assert not page.lacking
    assert all(load.startswith("data:image/jpeg;base64,") for load in page.loads)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    loaded = re.sub(r'xmlns(:xlink)?="http://www\.w3\.org/[^"]*"', "", html)
    assert not re.search(r"https?://|@import|url\((?!#)|\bnan\b", loaded, re.IGNORECASE)
    return page


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """train/ (6 per class), test/ (3 per class); class names with letters that HTML needs."""
    names = {"shirt": "shirt", EVIL: "bag", "pullover": "pullover"}
    return demo_folder(tmp_path_factory.mktemp("photos"), names, train=6, test=3)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert call("fit", photos, "--out", out, "--method", "projection", "--shots", "4") == 0
    return out


def test_a_report_of_a_run_with_its_photos(capsys, photos, run, tmp_path):
    out = tmp_path / "page.html"
    capsys.readouterr()
    assert call("report", run, "--data", photos, "--out", out, "--json") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    document = json.loads(captured.out)
    assert document["report"] == str(out)
    assert document["left_out"] == []
    html = out.read_text(encoding="utf-8")
    assert document["bytes"] == out.stat().st_size
    page = checked(html)
    record = read(run).record
    assert record["data"]["shots"] == 4
    assert f"{100 * record['test']['accuracy']:.1f}\u00a0%" in html
    assert "on 9 test photos" in html
    for heading in ("Accuracy", "The loss around the solution", "Class by class", "Settings",
                    "What it cost", "The surest mistakes", "How far probabilities"):  # fmt: skip
        assert f"<h2>{heading}" in html
    assert html.count('aria-label="Loss around') == 2
    assert "b" not in page.tags or html.count("<b>") == html.count("taken for <b>")
    assert "&lt;b&gt;bag &amp;" in html
    assert record["arrays_sha256"] in html


def test_without_photos_the_page_says_how_to_get_the_rest(capsys, run):
    assert call("report", run) == 0
    html = (run / "report.html").read_text(encoding="utf-8")
    checked(html)
    assert "--data FOLDER" in html
    assert "--data FOLDER" in capsys.readouterr().out.replace("\n", " ")
    assert "<h2>Class by class" not in html
    assert "<h2>Accuracy" in html


def test_other_photos_have_no_landscape(photos, run, tmp_path):
    for file in sorted((photos / "train").rglob("*.png")):
        copy = tmp_path / file.relative_to(photos / "train")
        copy.parent.mkdir(exist_ok=True)
        Image.fromarray(255 - np.asarray(Image.open(file))).save(copy)
    made = report_run(run, data=tmp_path)
    assert "does not give the photos" in made.left_out[0]
    assert 'aria-label="Loss around' not in made.html
    assert "validation photos" in made.html


def test_a_search_has_curves_and_its_own_landscape(photos, tmp_path):
    run = tmp_path / "run"
    call("fit", photos, "--out", run, "--method", "sharpzo", "--shots", "4",
         "--budget-forwards", "300", "--set", "search.switch.generation=2",
         "--set", "validate_every=40")  # fmt: skip
    assert "context_stage1" in read(run).arrays
    made = report_run(run, data=photos, side=3)
    checked(made.html)
    assert made.forwards == 3 * 9 + 1
    assert made.html.count('aria-label="Loss around') == 3
    assert "at the end of stage 1" in made.html
    assert "sparse-zo" in made.html
    assert "search.switch.generation" in made.html


def test_heads_leave_the_landscape_out_in_a_sentence(photos, tmp_path):
    run = tmp_path / "run"
    call("fit", photos, "--out", run, "--method", "linear-probe")
    made = report_run(run, data=photos)
    assert len(made.left_out) == 1
    assert "tunes neither" in made.html
    assert report_run(run, data=photos, landscape=False).left_out == ()
    found = read(run)
    del found.record["data"]["training_sha256"]  # as `add` does
    rewrite(run, found.arrays, found.record)
    assert "tunes neither" in report_run(run, data=photos).left_out[0]


def test_a_demo_run_is_known_by_its_record():
    demo = load_demo(2)
    found = demo_of({"seed": 2, "data": {"source": demo.source}})
    assert found is not None
    assert found.train.digest() == demo.train.digest()
    assert demo_of({"seed": 1, "data": {"source": demo.source}}) is None
    assert demo_of({"seed": 2, "data": {"source": "folder photos"}}) is None
    assert demo_of({"seed": 9, "data": {}}) is None


@pytest.mark.slow
def test_a_demo_run_brings_its_own_photos(tmp_path):
    run = tmp_path / "run"
    call("demo", "--method", "zero-shot", "--out", run)
    made = report_run(run, landscape=False)
    assert made.left_out == ()
    assert checked(made.html).tags.count("img") == 12
    assert "on 500 test photos" in made.html


def test_errors_are_one_sentence(capsys, photos, run, tmp_path):
    assert "no folder" in refused(capsys, "report", tmp_path / "absent")
    assert "neither a run" in refused(capsys, "report", tmp_path)
    (tmp_path / "bench" / "cells").mkdir(parents=True)
    assert "no usable bench.json" in refused(capsys, "report", tmp_path / "bench")
    assert "does not exist" in refused(capsys, "report", run, "--data", tmp_path / "absent")
    for name in ("cat", "dog"):
        (tmp_path / "other" / name).mkdir(parents=True)
        for k in range(2):
            Image.new("RGB", (8, 8)).save(tmp_path / "other" / name / f"{k}.png")
    wrong = refused(capsys, "report", run, "--data", tmp_path / "other")
    assert "none of the run's classes" in wrong
    assert "is a folder" in refused(capsys, "report", run, "--out", tmp_path)
    nowhere = tmp_path / "absent" / "page.html"
    assert "cannot write" in refused(capsys, "report", run, "--out", nowhere)


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_said_before_anything_is_computed(
    run, photos, package, tmp_path, capsys, monkeypatch
):
    (tmp_path / "bench" / "cells").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, package, None)
    for arguments in (run, "--data", photos), (tmp_path / "bench",):
        said = answer(capsys, 2, "report", *arguments).err
        assert (
            f"needs the package {package}; install it with: pip install 'sharpzo[report]'" in said
        )
        assert said.count("\n") == 1  # no photo was encoded


def test_a_page_without_charts_needs_no_matplotlib(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    made = report_run(run)  # a closed form, without photos
    assert "<svg" not in made.html


@pytest.mark.parametrize("shape", [(1,), (3, 3)])
def test_arrays_that_are_no_projection_are_refused(run, photos, shape, tmp_path, capsys):
    other, found = tmp_path / "run", read(run)
    other.mkdir()
    write(other, {**found.arrays, "projection_left": np.zeros(shape, np.float32)}, found.record)
    assert "no factors of a text projection" in refused(capsys, "report", other, "--data", photos)
