"""`sharpzo watch`: photos that arrive in a folder are answered once, whatever happens between."""

import csv
import errno
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from command import FAST, answer, call, demo_folder, refused
from sharpzo.cli.watch import _move
from sharpzo.data import entries
from sharpzo.data.arrivals import Arrivals
from sharpzo.errors import InputError
from sharpzo.storage.answered import COLUMNS, Answered, hold_answers
from sharpzo.towers.tower import OnnxImageTower


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return demo_folder(tmp_path_factory.mktemp("photos"), train=4, test=2)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert call("fit", photos, "--out", out, *FAST) == 0
    return out


@pytest.fixture
def spool(photos, tmp_path):
    """A folder in which three photos and a damaged one have arrived."""
    root = tmp_path / "spool"
    (root / "=below").mkdir(parents=True)
    for name in ("bag", "dress"):
        shutil.copy(next((photos / "test" / name).iterdir()), root / f"{name}.png")
    shutil.copy(next((photos / "test" / "sandal").iterdir()), root / "=below" / "bag.png")
    (root / "broken.jpg").write_bytes(b"text")
    return root


@pytest.fixture
def passed(monkeypatch):
    """How many photos each pass of the tower had."""
    summarise, found = OnnxImageTower.summarise, []

    def counted(tower, pixels):
        found.append(len(pixels))
        return summarise(tower, pixels)

    monkeypatch.setattr(OnnxImageTower, "summarise", counted)
    return found


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def test_each_content_is_answered_once(run, photos, spool, capsys, passed):
    watch = ("watch", run, spool, "--once", "--no-cache")
    said = answer(capsys, 0, *watch)
    assert sum(passed) == 3
    rows = rows_of(spool / "answers.csv")
    assert set(rows) == {"'=below/bag.png", "bag.png", "broken.jpg", "dress.png"}
    assert "is not a readable" in rows["broken.jpg"]["error"]
    assert "broken.jpg" in said.err
    for name in ("bag.png", "dress.png"):
        told = answer(capsys, 0, "predict", run, spool / name, "--top", 1, "--no-cache").out
        label, percent = told.split(": ")[1].rsplit(" ", 2)[:2]
        assert label == rows[name]["label"]
        assert float(percent) == pytest.approx(100 * float(rows[name]["probability"]), abs=0.1)
    passed.clear()
    told = answer(capsys, 0, *watch)
    assert (told.out, told.err.split(";")[0]) == ("", "0 photos answered")
    assert passed == []
    shutil.copy(next((photos / "test" / "sandal").iterdir()), spool / "dress.png")
    shutil.copy(spool / "bag.png", spool / "new.png")
    answer(capsys, 0, *watch)
    assert sum(passed) == 2
    assert len((spool / "answers.csv").read_text("utf-8").splitlines()) == 1 + 4 + 2


def test_a_line_that_was_cut_off_is_written_again(run, spool, tmp_path, capsys):
    to = tmp_path / "told.csv"
    watch = ("watch", run, spool, "--once", "--to", to)
    answer(capsys, 0, *watch)
    whole = to.read_bytes()
    to.write_bytes(whole[:-9])
    answer(capsys, 0, *watch)
    assert to.read_bytes().count(b"\n") == whole.count(b"\n")
    assert set(rows_of(to)) == {"'=below/bag.png", "bag.png", "broken.jpg", "dress.png"}


def test_photos_are_sorted_and_none_is_overwritten(run, spool, tmp_path, capsys, passed):
    to, there = tmp_path / "told.csv", tmp_path / "sorted"
    watch = ("watch", run, spool, "--once", "--to", to)
    answer(capsys, 0, *watch)  # stopped before anything was moved
    rows, before = rows_of(to), sum(passed)
    for name in ("bag.png", "dress.png"):
        (there / rows[name]["label"]).mkdir(parents=True, exist_ok=True)
    other = there / rows["bag.png"]["label"] / "bag.png"
    other.write_bytes(b"another photo")
    wanted = {name: (spool / name).read_bytes() for name in ("bag.png", "dress.png")}
    answer(capsys, 0, *watch, "--sort-into", there)
    assert sum(passed) == before
    assert [path.name for path in spool.rglob("*.*")] == ["broken.jpg"]
    assert other.read_bytes() == b"another photo"
    assert other.with_name("bag-2.png").read_bytes() == wanted["bag.png"]
    assert (there / rows["dress.png"]["label"] / "dress.png").read_bytes() == wanted["dress.png"]


def test_a_class_is_no_path(tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    arrivals = Arrivals(spool)
    for label in ("../../x", "a/b", "..", "C:\\x"):
        (spool / "photo.png").touch()
        (one,) = arrivals.look(settled=False)
        _move(arrivals, one, tmp_path / "sorted", label)
    assert {path.name for path in tmp_path.rglob("*.png")} == {"photo.png"}
    assert not list(spool.iterdir())
    assert len(list((tmp_path / "sorted").glob("*/photo.png"))) == 4


def test_what_is_refused_leaves_everything(run, spool, tmp_path, capsys):
    assert "arrive again" in refused(capsys, "watch", run, spool, "--sort-into", spool / "done")
    (tmp_path / "file").touch()
    assert "is no folder" in refused(capsys, "watch", run, spool, "--sort-into", tmp_path / "file")
    assert not (spool / "answers.csv").exists()
    assert "does not exist" in refused(capsys, "watch", run, tmp_path / "missing")
    other = tmp_path / "table.csv"
    other.write_text("a,b\n1,2\n", "utf-8")
    assert "something else" in refused(capsys, "watch", run, spool, "--once", "--to", other)
    assert other.read_text("utf-8") == "a,b\n1,2\n"
    (tmp_path / "link.csv").symlink_to(tmp_path / "held.csv")
    with hold_answers(tmp_path / "link.csv"):
        said = refused(capsys, "watch", run, spool, "--once", "--to", tmp_path / "held.csv")
    assert "is being written by process" in said
    assert not list(tmp_path.rglob("*.lock"))


def test_no_other_file_is_taken_for_answers(run, spool, tmp_path, capsys):
    other = tmp_path / "notes"
    watch = ("watch", run, spool, "--once", "--to")
    for content in (b"a line without an end", ",".join(COLUMNS).encode() + b"\rx\r"):
        other.write_bytes(content)
        assert "something else" in refused(capsys, *watch, other)
        assert other.read_bytes() == content
    assert "name of a photo" in refused(capsys, *watch, spool / "told.jpg")
    assert "no file" in refused(capsys, *watch, spool)
    assert not (spool / "told.jpg").exists()
    other.write_bytes(b"path,la")  # a crash cut the first line off
    answer(capsys, 0, *watch, other)
    assert len(rows_of(other)) == 4


def test_photos_never_arrive_again(run, spool, tmp_path, capsys):
    (tmp_path / "sorted").mkdir()
    (tmp_path / "sorted" / "bag").symlink_to(spool)
    inner = tmp_path / "photos" / "bag"
    inner.mkdir(parents=True)
    for folder, there in ((spool, tmp_path / "sorted"), (inner, inner.parent)):
        watch = ("watch", run, folder, "--once", "--sort-into", there)
        assert "arrive again" in refused(capsys, *watch)
    assert "sharpzo wrote" in refused(capsys, "watch", run, spool, "--sort-into", run)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "no folder" in refused(capsys, "watch", run, spool, "--sort-into", tmp_path / "loop")
    for seconds in ("inf", "nan", "1e12"):
        assert call("watch", run, spool, "--every", seconds) == 2
    assert not (spool / "answers.csv").exists()


def test_what_is_moved_is_what_was_answered(tmp_path):
    spool, there = tmp_path / "spool", tmp_path / "sorted"
    spool.mkdir()
    (tmp_path / "real.png").write_bytes(b"photo")
    (spool / "link.png").symlink_to("../real.png")
    long = "x" * 251 + ".png"
    (spool / long).touch()
    arrivals = Arrivals(spool)
    for one in arrivals.look(settled=False):
        _move(arrivals, one, there, "bag")
    assert (there / "bag" / "link.png").read_bytes() == b"photo"
    (spool / long).write_bytes(b"another")
    (spool / "camera.png").touch()
    looked = arrivals.look(settled=False)
    (spool / "camera.png").write_bytes(b"written again after the answer")
    for one in looked:
        _move(arrivals, one, there, "bag")
    assert [one.name for one in spool.iterdir()] == ["camera.png"]
    assert sorted(one.stat().st_size for one in (there / "bag").iterdir()) == [0, 5, 7]


def test_a_copy_to_another_disk_is_whole_or_not_there(tmp_path, monkeypatch):
    spool, there = tmp_path / "spool", tmp_path / "sorted"
    spool.mkdir()
    (spool / "a.png").write_bytes(b"photo")
    real = os.replace

    def another_disk(before, after):
        if spool in Path(before).parents:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(before))
        real(before, after)

    def full(before, after):
        Path(after).write_bytes(b"ph")
        raise OSError(errno.ENOSPC, "No space left on device", str(after))

    monkeypatch.setattr(os, "replace", another_disk)
    arrivals = Arrivals(spool)
    looked = arrivals.look(settled=False)
    with monkeypatch.context() as once:
        once.setattr(shutil, "copy2", full)
        with pytest.raises(OSError, match="No space"):
            _move(arrivals, looked[0], there, "bag")
    assert (spool / "a.png").read_bytes() == b"photo"
    assert not list((there / "bag").iterdir())
    _move(arrivals, looked[0], there, "bag")
    assert [one.read_bytes() for one in (there / "bag").iterdir()] == [b"photo"]
    assert not list(spool.iterdir())


def test_answers_that_were_changed_or_taken_away(tmp_path, monkeypatch):
    row = {"path": "a\nb.png", "label": "bag", "bytes": 1, "modified": 2}
    path = tmp_path / "told.csv"
    told = Answered(path)
    told.append([row])
    path.unlink()
    told.append([row])
    whole = path.read_bytes()
    for changed in (b"\xef\xbb\xbf" + whole, whole.replace(b"\n", b"\r\n") + b"\r\n"):
        path.write_bytes(changed)
        Answered(path).append([{**row, "path": "c.png"}])
        assert Answered(path).label("c.png", 1, 2) == "bag"
        assert path.read_bytes().startswith(changed)
    path.write_bytes(whole + b'"c\nd')  # a name of two lines was cut off
    assert Answered(path).label("a\nb.png", 1, 2) == "bag"
    assert path.read_bytes() == whole

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"told\.csv"):
        Answered(path)


def test_a_folder_that_is_taken_away_during_a_look_holds_nothing(spool, monkeypatch):
    real = entries.entries

    def late(folder):
        if folder.name == "=below":
            shutil.rmtree(folder)
        return real(folder)

    monkeypatch.setattr(entries, "entries", late)
    arrivals = Arrivals(spool)
    assert len(arrivals.look(settled=False)) == 3
    shutil.rmtree(spool)
    with pytest.raises(InputError, match="does not exist any more"):
        arrivals.look()


def test_a_photo_that_is_being_written_has_to_wait(spool):
    arrivals = Arrivals(spool)
    assert arrivals.look() == []
    (spool / "bag.png").write_bytes((spool / "bag.png").read_bytes() + b"more")
    assert {one.path for one in arrivals.look()} == {"=below/bag.png", "broken.jpg", "dress.png"}
    assert {one.path for one in arrivals.look()} >= {"bag.png"}
    assert len(arrivals.look(settled=False)) == 4


def test_names_are_kept_byte_by_byte(tmp_path):
    names = ["a,b.png", 'quo"te.png', os.fsdecode(b"caf\xe9.png"), "'=x.png", "@x.png", "ü.png"]
    path = tmp_path / "told.csv"
    Answered(path).append(
        {"path": name, "label": "=a", "bytes": 1, "modified": 2} for name in names
    )
    again = Answered(path)
    assert [again.label(name, 1, 2) for name in names] == ["=a"] * len(names)
    assert again.label("a,b.png", 1, 3) is None
    assert path.read_text("utf-8", "surrogateescape").splitlines()[0] == ",".join(COLUMNS)


def test_a_signal_ends_it(run, spool, capsys):
    told = spool / "answers.csv"

    def later():
        while not told.exists() or "dress" not in told.read_text("utf-8"):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=later, daemon=True)
    thread.start()
    said = answer(capsys, 0, "watch", run, spool, "--every", 0.05)
    thread.join(10)
    assert "dress.png: " in said.out
    assert not list(spool.glob("*.lock"))
