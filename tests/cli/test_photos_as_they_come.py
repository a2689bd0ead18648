"""Photos labelled by a file, zipped, in folders to predict, and with names of all kinds."""

import io
import json
import os
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from command import FAST, call, demo_folder, document, refused


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with train/ (4 per class) and test/ (2 per class)."""
    return demo_folder(tmp_path_factory.mktemp("photos"), train=4, test=2)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert call("fit", photos, "--out", out, *FAST) == 0
    return out


@pytest.fixture(scope="module")
def forms(photos, tmp_path_factory):
    """The same photos as a CSV file, as Hugging Face's metadata, and as a zip file."""
    root = tmp_path_factory.mktemp("forms")
    rows = [
        (f"{split}-{path.parent.name}-{path.name}", path.parent.name, split, path)
        for split in ("train", "test")
        for path in sorted((photos / split).rglob("*.png"))
    ]
    for name, _, split, path in rows:
        for folder in (root / "flat", root / "hub" / split):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / name)
    text = "".join(f"{name},{label},{split}\n" for name, label, split, _ in rows)
    (root / "labels.csv").write_text("path,label,split\n" + text)
    for split in ("train", "test"):
        lines = [json.dumps({"file_name": r[0], "label": r[1]}) for r in rows if r[2] == split]
        (root / "hub" / split / "metadata.jsonl").write_text("\n".join(lines))
    with zipfile.ZipFile(root / "photos.zip", "w") as out:
        for _, label, split, path in rows:
            out.write(path, f"photos/{split}/{label}/{path.name}")
    return {
        "csv": (root / "flat", "--labels", root / "labels.csv"),
        "hub": (root / "hub",),
        "zip": (root / "photos.zip",),
    }


@pytest.mark.parametrize("form", ["csv", "hub", "zip"])
def test_every_form_of_labels_gives_the_same_classifier(form, forms, photos, run, tmp_path, capsys):
    report = document(capsys, "fit", *forms[form], "--out", tmp_path / "run", *FAST)
    assert report["test_accuracy"] is not None
    assert (tmp_path / "run" / "arrays.safetensors").read_bytes() == (
        run / "arrays.safetensors"
    ).read_bytes()
    expected = document(capsys, "evaluate", run, photos)
    found = document(capsys, "evaluate", run, *forms[form])
    assert (found["n"], found["confusion"]) == (6, expected["confusion"])


def test_predict_takes_folders_lists_and_zips(photos, run, forms, capsys, monkeypatch):
    images = sorted((photos / "test").rglob("*.png"))
    expected = document(capsys, "predict", run, *images)
    assert document(capsys, "predict", run, photos / "test") == expected
    listed = "\n".join(map(str, images)) + "\n"
    for content in (listed, listed.replace("\n", "\0")):
        stdin = SimpleNamespace(buffer=io.BytesIO(content.encode()))
        monkeypatch.setattr("sys.stdin", stdin)
        assert document(capsys, "predict", run, "-") == expected
    zipped = document(capsys, "predict", run, *forms["zip"])
    assert len(zipped) == 18
    assert zipped[0]["path"].endswith("photos.zip/photos/test/bag/" + images[0].name)
    for one, other in zip(zipped[:6], expected, strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-3)


def test_nothing_to_predict_is_refused(run, tmp_path, capsys, monkeypatch):
    assert "has no photos in it" in refused(capsys, "predict", run, tmp_path)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"\n")))
    assert "standard input names no photo" in refused(capsys, "predict", run, "-")


def test_label_files_that_cannot_be_used_leave_no_run(forms, tmp_path, capsys):
    folder = forms["csv"][0]
    for text, word in (("a,b\n", "no photo"), ("path,label\nnone.png,a\n", "do not exist")):
        (tmp_path / "bad.csv").write_text(text)
        said = refused(
            capsys, "fit", folder, "--labels", tmp_path / "bad.csv", "--out", tmp_path / "run"
        )
        assert word in said
        assert not (tmp_path / "run").exists()
    said = refused(capsys, "fit", *forms["csv"], "--dataset", "eurosat", "--out", tmp_path / "run")
    assert "has labels of its own" in said


NAMES = ("[red]", "[bold]x", "salt, sea", "ünï 猫", ":smile:", 'the "best"')


def test_names_of_all_kinds_survive_fit_predict_and_evaluate(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = Path("my photos [1]")
    images = sorted((photos / "train").rglob("*.png"))
    for k, name in enumerate(NAMES):
        (root / name).mkdir(parents=True)
        for i in (0, 1):
            shutil.copy(images[2 * k + i], root / name / f"{i}.png")
    odd = os.fsencode(root / "[red]") + b"/caf\xe9 [b]\x1b[31m.png"
    shutil.copy(images[0], odd)
    out = "-my run [bold]"
    assert call("fit", root, f"--out={out}", *FAST) == 0
    shown = capsys.readouterr().out
    assert f"Accuracy, folder {root}" in shown
    assert "sharpzo predict './-my run [bold]' PHOTO.jpg" in shown
    record = json.loads(Path(out, "run.json").read_text(encoding="utf-8"))
    assert record["class_names"] == sorted(NAMES)
    assert call("evaluate", f"./{out}", root) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in NAMES)
    assert call("predict", f"./{out}", os.fsdecode(odd), "--top", "6") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{root}/[red]/caf\\xe9 [b]\\x1b[31m.png: ")
    assert all(f"{name} " in shown for name in NAMES)
    (row,) = document(capsys, "predict", f"./{out}", os.fsdecode(odd))
    assert os.fsencode(row["path"]) == odd
    listed = ",".join('"' + name.replace('"', '""') + '"' for name in NAMES)
    (row,) = document(capsys, "predict", f"./{out}", images[0], "--top", "6", "--classes", listed)
    assert {guess["label"] for guess in row["top"]} == set(NAMES)
    assert call("predict", f"./{out}", "[b]none[/b].png") == 1
    assert "photo [b]none[/b].png does not exist" in capsys.readouterr().err


def test_a_folder_whose_name_is_no_utf8(photos, tmp_path, capsys):
    root = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    shutil.copytree(photos / "train", root)
    assert call("fit", root, "--out", root + "-run", *FAST) == 0
    assert "sharpzo predict $'" in capsys.readouterr().out
    record = json.loads(Path(root + "-run", "run.json").read_text(encoding="utf-8"))
    assert record["data"]["source"] == f"folder {root}"
    assert call("predict", root + "-run", root) == 0
    assert call("report", root + "-run", "--no-landscape", "--data", root) == 0
