"""Folders with photos that cannot be used: named at once, or left out and told."""

import json
import shutil

import pytest

from command import FAST, answer, call, demo_folder
from sharpzo.towers.tower import OnnxImageTower


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return demo_folder(tmp_path_factory.mktemp("photos"), train=5, val=2, test=3)


@pytest.fixture(scope="module")
def run(good, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert call("fit", good, "--out", out, *FAST) == 0
    return out


@pytest.fixture
def bad(good, tmp_path):
    """The same photos, with one more in each split that cannot be used, and a text."""
    root = shutil.copytree(good, tmp_path / "photos")
    for place in ("train/bag", "val/dress", "test/sandal"):
        (root / place / "bad.jpg").write_bytes(b"text")
    (root / "train" / "bag" / "notes.txt").touch()
    return root


def test_fit_names_all_bad_photos_before_any_work(bad, tmp_path, capsys, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a photo was encoded")

    monkeypatch.setattr(OnnxImageTower, "summarise", refuse)
    said = answer(capsys, 2, "fit", bad, "--out", tmp_path / "run", *FAST, "--no-cache").err
    lines = said[said.index("sharpzo: ") :].splitlines()
    assert lines[0] == "sharpzo: 3 of 33 photos cannot be used:"
    for line, place in zip(lines[1:4], ("train/bag", "val/dress", "test/sandal"), strict=True):
        assert line.startswith(f"  photo {bad / place / 'bad.jpg'} is not a readable")
    assert "--skip-damaged" in lines[4]
    assert len(lines) == 5
    assert not (tmp_path / "run").exists()


def test_fit_leaves_them_out_and_says_so_everywhere(bad, run, tmp_path, capsys):
    from sharpzo.report.run_report import report_run

    out = tmp_path / "run"
    options = ("--out", out, *FAST, "--skip-damaged")
    report = json.loads(answer(capsys, 0, "fit", bad, *options, "--json").out)
    assert report["test_accuracy"] == json.loads((run / "run.json").read_text())["test"]["accuracy"]
    record = json.loads((out / "run.json").read_text())["data"]
    assert (record["training_photos"], record["test_photos"]) == (15, 9)
    for told in (report, record):
        assert any("3 of 33 photos cannot be used" in note for note in told["notes"])
        reasons = {one["path"]: one["reason"] for one in told["skipped"]}
        assert reasons["train/bag/notes.txt"] == "not a photo by its name"
        assert "is not a readable" in reasons[str(bad / "train" / "bag" / "bad.jpg")]
    page = report_run(out).html
    assert "3 of 33 photos cannot be used" in page
    assert "bag/notes.txt" in page
    shown = report_run(out, data=bad, side=3)
    assert any("3 of 33 photos cannot be used" in sentence for sentence in shown.left_out)
    assert not any("does not give the photos" in sentence for sentence in shown.left_out)


def test_fit_tells_of_photos_that_are_there_twice(good, tmp_path, capsys):
    root = shutil.copytree(good, tmp_path / "photos")
    one = next((root / "train" / "bag").iterdir())
    shutil.copy(one, root / "train" / "dress" / "copy.png")
    shutil.copy(one, root / "test" / "bag" / "copy.png")
    said = answer(capsys, 0, "fit", root, "--out", tmp_path / "run", *FAST, "--json").out
    notes = json.loads(said)["notes"]
    assert any("the same photo has two classes" in note for note in notes)
    assert any("1 of 10 test photos are training photos as well" in note for note in notes)


def test_a_bad_photo_of_the_second_test_set_is_found_before_the_fit(good, bad, tmp_path, capsys):
    options = ("--out", tmp_path / "run", *FAST, "--test-on", bad)
    assert "test/sandal/bad.jpg is not" in answer(capsys, 2, "fit", good, *options).err
    told = answer(capsys, 0, "fit", good, *options, "--skip-damaged", "--json").out
    assert json.loads(told)["shifted_accuracy"] is not None


def test_predict_answers_for_the_others(run, good, bad, capsys):
    paths = [next((good / "test" / "bag").iterdir()), bad / "test" / "sandal" / "bad.jpg",
             bad / "missing.jpg", next((good / "test" / "dress").iterdir())]  # fmt: skip
    rows = json.loads(answer(capsys, 1, "predict", run, *paths, "--json").out)
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    assert ["error" in row for row in rows] == [False, True, True, False]
    assert "is not a readable" in rows[1]["error"]
    assert "does not exist" in rows[2]["error"]
    alone = [json.loads(answer(capsys, 0, "predict", run, paths[i], "--json").out)[0]
             for i in (0, 3)]  # fmt: skip
    for found, wanted in zip((rows[0], rows[3]), alone, strict=True):
        assert found["label"] == wanted["label"]
        assert found["probability"] == pytest.approx(wanted["probability"], abs=1e-4)
    shown = answer(capsys, 1, "predict", run, *paths)
    assert len(shown.out.splitlines()) == 2
    assert len([line for line in shown.err.splitlines() if "bad.jpg is not" in line]) == 1
    only = answer(capsys, 1, "predict", run, bad / "missing.jpg", "--json")
    assert [set(row) for row in json.loads(only.out)] == [{"path", "error"}]


def test_photos_are_answered_a_part_at_a_time(run, good, bad, capsys, monkeypatch):
    """The same answers in the same order, each photo encoded once, whatever the parts are."""
    paths = [*sorted((good / "test" / "bag").iterdir()), bad / "test" / "sandal" / "bad.jpg",
             *sorted((good / "test" / "dress").iterdir())]  # fmt: skip
    whole = json.loads(answer(capsys, 1, "predict", run, *paths, "--json", "--no-cache").out)
    scored = json.loads(answer(capsys, 1, "evaluate", run, bad, "--json", "--no-cache").out)
    summarise, passed = OnnxImageTower.summarise, []

    def counted(tower, pixels):
        passed.append((id(tower), len(pixels)))
        return summarise(tower, pixels)

    monkeypatch.setattr(OnnxImageTower, "summarise", counted)
    monkeypatch.setattr("sharpzo.fitting.answers.PART", 2)
    lines = answer(capsys, 1, "predict", run, *paths, "--stream", "--no-cache").out.splitlines()
    assert [many for _, many in passed] == [2, 1, 2, 1]
    assert len({tower for tower, _ in passed}) == 1
    for found, wanted in zip(map(json.loads, lines), whole, strict=True):
        assert found["path"] == wanted["path"]
        assert found.get("error") == wanted.get("error")
        assert found.get("none") == wanted.get("none")
        assert found.get("probability") == pytest.approx(wanted.get("probability"), abs=1e-4)
    passed.clear()
    found = json.loads(answer(capsys, 1, "evaluate", run, bad, "--json", "--no-cache").out)
    assert sum(many for _, many in passed) == found["n"] == scored["n"]
    assert (found["confusion"], found["errors"]) == (scored["confusion"], scored["errors"])


def test_evaluate_leaves_bad_photos_out(run, good, bad, capsys):
    whole = json.loads(answer(capsys, 0, "evaluate", run, good, "--json").out)
    assert whole["errors"] == []
    found = json.loads(answer(capsys, 1, "evaluate", run, bad, "--json").out)
    assert (found["n"], found["accuracy"]) == (whole["n"], whole["accuracy"])
    (error,) = found["errors"]
    assert error["path"] == str(bad / "test" / "sandal" / "bad.jpg")
    shown = answer(capsys, 1, "evaluate", run, bad)
    assert "1 photos cannot be used" in shown.out
    assert "bad.jpg is not a readable" in shown.err
    for photo in (bad / "test").rglob("*.*"):
        photo.write_bytes(b"text")
    assert "10 of 10 photos cannot be used" in answer(capsys, 2, "evaluate", run, bad).err


def test_a_cache_that_cannot_be_used_is_no_reason_to_stop(tmp_path, capsys, monkeypatch):
    good = demo_folder(tmp_path / "photos", train=2)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert call("fit", good, "--out", tmp_path / "run", *FAST) == 0
    said = answer(capsys, 2, "fit", good, "--out", tmp_path / "b", *FAST,
                  "--cache", tmp_path / "file")  # fmt: skip
    assert "is no folder that can be written to" in said.err
