"""None of these, add and forget, as a user types them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from command import answer, call, document, refused
from sharpzo import PromptClassifier
from sharpzo.errors import ArtifactError, InputError
from sharpzo.storage import artifact

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 60, 200)}


def paint(folder, colour, many, seed):
    """Photos of one colour with stripes of another."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(many):
        pixels = np.full((32, 32, 3), colour) + rng.normal(0, 12, (32, 32, 3))
        pixels[:: rng.integers(2, 9)] = rng.integers(0, 255, 3)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{seed}-{i}.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("asks")
    for k, (name, colour) in enumerate(COLOURS.items()):
        paint(root / "photos" / name, colour, 6, k)
    paint(root / "others" / "yellow", (230, 220, 30), 4, 7)
    paint(root / "white", (245, 245, 245), 3, 8)
    return root


@pytest.fixture(scope="module")
def run(photos):
    out = photos / "run"
    assert call("fit", photos / "photos", "--out", out) == 0
    return out


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


def arrays_of(run):
    return artifact.read(run).arrays


def same(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        if name.startswith("kept/"):
            continue
        np.testing.assert_allclose(array, other[name], atol=1e-5)


def test_predict_says_none(photos, run, capsys):
    image = next((photos / "photos" / "red").glob("*.png"))
    strange = sorted((photos / "white").glob("*.png"))
    rows = document(capsys, "predict", run, image, *strange, "--lost", "0.5")
    assert any(row["none"] for row in rows[1:])
    assert all(row["label"] in COLOURS for row in rows)
    off = document(capsys, "predict", run, image, *strange, "--lost", "0")
    assert not any(row["none"] for row in off)
    call("predict", run, *strange, "--lost", "0.5")
    assert "none of these; nearest " in capsys.readouterr().out


def test_a_folder_called_none_is_no_class(photos, tmp_path, capsys):
    shutil.copytree(photos / "photos", tmp_path / "photos")
    shutil.copytree(photos / "others" / "yellow", tmp_path / "photos" / "none")
    out = tmp_path / "run"
    report = document(capsys, "fit", tmp_path / "photos", "--out", out)
    assert report["none"]["counter_examples"] == 4
    assert artifact.read(out).record["class_names"] == sorted(COLOURS)
    other = tmp_path / "other"
    report = document(capsys, "fit", photos / "photos", "--none", photos / "others", "--out", other)
    assert report["none"]["counter_examples"] == 4
    same(arrays_of(out), arrays_of(other))
    result = document(capsys, "evaluate", out, tmp_path / "photos", "--split", "train")
    assert set(result["classes"]) == set(COLOURS)
    assert result["none"]["strangers"] == 4
    assert 0 <= result["none"]["lost"] <= 0.3
    assert result["none"]["auroc"] > 0.9
    (tmp_path / "photos" / "none" / "x.png").write_bytes(b"no photo")
    given = ("evaluate", out, tmp_path / "photos", "--split", "train", "--lost", "0", "--json")
    found = json.loads(answer(capsys, 1, *given).out, parse_constant=pytest.fail)
    assert found["none"]["threshold"] is None
    assert found["none"]["strangers"] == 4
    assert [one["path"][-5:] for one in found["errors"]] == ["x.png"]


def test_add_equals_a_fit_to_all(photos, copy, tmp_path, capsys, cache):
    """New photos of an old class and a new class; then back again."""
    before = arrays_of(copy)
    grown = tmp_path / "grown"
    shutil.copytree(photos / "photos", grown)
    paint(grown / "red", COLOURS["red"], 3, 20)
    shutil.copytree(photos / "others" / "yellow", grown / "yellow")
    new = [*(grown / "red").glob("20-*.png"), *(grown / "yellow").glob("*.png")]
    result = document(capsys, "add", copy, grown)
    assert result["photos"] == 7
    assert result["classes"][-1] == "yellow"
    assert "in the run already" in result["notes"][0]
    assert document(capsys, "add", copy, grown)["photos"] == 0
    one_by_one = PromptClassifier.load(photos / "run", cache=cache)
    for file in new:
        one_by_one.add([file], [file.parent.name])
    held = artifact.read(copy)
    names = held.record["class_names"]
    order = [names.index(name) for name in one_by_one.classes_]
    np.testing.assert_allclose(
        one_by_one.predict_proba(new),
        PromptClassifier.load(copy, cache=cache).predict_proba(new)[:, order],
        atol=1e-5,
    )
    given = [arg for file in new for arg in ("--photo", file)]
    back = document(capsys, "forget", copy, *given)
    assert back["classes"] == sorted(COLOURS)
    same(before, arrays_of(copy))
    assert "was not fitted to" in refused(capsys, "forget", copy, *given)


@pytest.mark.parametrize("views", [1, 2])
def test_add_equals_a_fit_from_scratch(photos, cache, views):
    """With views, penalty and temperature chosen anew by both, without validation photos."""
    from sharpzo.data.dataset import Dataset, LabelledPhotos
    from sharpzo.data.loading import read
    from sharpzo.fitting.fitter import Fitter
    from sharpzo.fitting.growth import add, forget

    whole = read(photos / "photos").train
    order = np.random.default_rng(1).permutation(len(whole))
    whole = whole.take(order)

    def fitted(split: LabelledPhotos):
        return Fitter(settings={"views": views}, cache=cache).fit(
            Dataset(split.class_names, split, None, None, source="photos")
        )

    part = fitted(whole.take(range(12)))
    rest = whole.take(range(12, len(whole)))
    grown = add(part, rest.photos, [rest.class_names[k] for k in rest.labels]).trained
    at_once = fitted(whole)
    same(at_once.arrays, grown.arrays)
    assert grown.record["notes"] == pytest.approx(at_once.record["notes"])
    assert grown.record["none"] == pytest.approx(at_once.record["none"])
    same(part.arrays, forget(grown, rest.photos).trained.arrays)


def test_what_cannot_be_added_to(photos, run, tmp_path, capsys, cache):
    out = tmp_path / "probe"
    call("fit", photos / "photos", "--out", out, "--method", "linear-probe")
    capsys.readouterr()
    assert "keeps nothing of its photos" in refused(capsys, "add", out, photos / "others")
    row = document(capsys, "predict", out, photos / "white")[0]
    assert row["none"] is False
    assert "--label" in refused(capsys, "add", run, photos / "white")
    with pytest.raises(InputError, match="share of known photos to lose is '5'"):
        PromptClassifier.load(run, cache=cache).is_known([photos / "white" / "8-0.png"], "5")
    with pytest.raises(InputError, match="cannot recognise"):
        PromptClassifier.load(out, cache=cache).is_known([photos / "white" / "8-0.png"])
    reds = [arg for file in (photos / "photos").glob("[rg]*/*.png") for arg in ("--photo", file)]
    assert "fewer than two classes" in refused(capsys, "forget", run, *reds)


def test_counter_examples_that_nothing_uses_are_told(photos, tmp_path, capsys):
    given = ("--none", photos / "others", "--out")
    for name, options in {"probe": ("--method", "linear-probe"), "run": ()}.items():
        found = document(capsys, "fit", photos / "photos", *given, tmp_path / name, *options)
        assert any("not used" in one for one in found["warnings"]) == (name != "run")


def test_a_run_through_views_answers_none_and_changes_with_its_photos(photos, tmp_path, capsys):
    run = tmp_path / "run"
    found = document(capsys, "fit", photos / "photos", "--out", run, "--views", "2")
    assert found["none"]["lost"] == 0.05
    before, white = arrays_of(run), sorted((photos / "white").glob("*.png"))
    rows = document(capsys, "predict", run, *white, "--lost", "0.5")
    assert any(row["none"] for row in rows)
    assert document(capsys, "add", run, *white, "--label", "white")["classes"][-1] == "white"
    document(capsys, "forget", run, "--photo", photos / "white")
    same(before, arrays_of(run))


def test_none_is_no_class_however_it_is_written(copy, photos, tmp_path, capsys):
    white = sorted((photos / "white").glob("*.png"))
    found = document(capsys, "add", copy, *white[:2], "--label", "None")
    assert sorted(found["classes"]) == sorted(COLOURS)
    assert artifact.read(copy).record["none"]["counter_examples"] == 2
    classifier = PromptClassifier.load(copy)
    reds = sorted((photos / "photos" / "red").glob("*.png"))
    result = classifier.evaluate([*reds, white[2]], ["red"] * len(reds) + ["NONE"], lost=0.2)
    assert (result.n, result.none.strangers, result.none.wanted) == (len(reds), 1, 0.2)
    assert set(result.per_class) == {*COLOURS}
    with pytest.raises(InputError, match="class 'non' that"):
        classifier.evaluate(reds[:1], ["non"])
    with pytest.warns(UserWarning, match="passed over 1 of 1 photos"):
        classifier.add(white[:1], ["none"])
    files = [*reds, *(photos / "photos" / "blue").glob("*.png"), *white]
    labels = [file.parent.name.replace("white", "None") for file in files]
    fitted = PromptClassifier().fit(files, labels)
    assert fitted.classes_.tolist() == ["blue", "red"]
    assert fitted.record_["none"]["counter_examples"] == 3


def test_counter_examples_are_checked_as_other_photos_are(photos, tmp_path, capsys):
    none = tmp_path / "none"
    shutil.copytree(photos / "others" / "yellow", none)
    (none / "x.png").write_bytes(b"no photo")
    shutil.copy(photos / "photos" / "red" / "0-0.png", none / "y.png")
    given = ("fit", photos / "photos", "--none", none, "--out", tmp_path / "run")
    assert "x.png is not a readable" in refused(capsys, *given)
    found = document(capsys, *given, "--skip-damaged")
    assert found["none"]["counter_examples"] == 5
    assert [one["path"] for one in found["skipped"]] == [str(none / "x.png")]
    assert any("two classes" in one and "(none)" in one for one in found["notes"])


def test_add_refuses_a_folder_with_splits(run, photos, tmp_path, capsys):
    """Else train and test would be new classes."""
    root = tmp_path / "data"
    shutil.copytree(photos / "others", root / "train")
    shutil.copytree(photos / "others", root / "test")
    assert f"give one of them: {root / 'test'}" in refused(capsys, "add", run, root)
    (tmp_path / "photos").mkdir()
    root.rename(tmp_path / "photos" / "data")
    assert "classes deeper" in refused(capsys, "add", run, tmp_path / "photos")


def test_no_name_of_a_forgotten_photo_stays(photos, tmp_path, capsys):
    data, run = shutil.copytree(photos / "photos", tmp_path / "data"), tmp_path / "run"
    twin = shutil.copy(data / "red" / "0-0.png", data / "green" / "twin.png")
    document(capsys, "fit", data, "--out", run)
    assert "twin.png" in (run / "run.json").read_text()  # in two classes
    document(capsys, "forget", run, "--photo", twin)
    assert "twin.png" not in (run / "run.json").read_text()


def test_a_class_that_is_forgotten_leaves_the_others_as_they_were(photos, copy, capsys):
    """Green stands between the two others."""
    greens = (photos / "photos" / "green").glob("*.png")
    given = [arg for file in greens for arg in ("--photo", file)]
    assert document(capsys, "forget", copy, *given)["classes"] == ["blue", "red"]
    for name in ("blue", "red"):
        rows = document(capsys, "predict", copy, photos / "photos" / name, "--lost", "0")
        assert {row["label"] for row in rows} == {name}


def test_a_photo_has_one_class(copy, photos, capsys, cache):
    red, white = photos / "photos" / "red" / "0-0.png", photos / "white" / "8-0.png"
    said = refused(capsys, "add", copy, red, white, "--label", "green")
    assert "0-0.png is in the run as red, not as green" in said
    classifier = PromptClassifier.load(copy, cache=cache)
    with pytest.raises(InputError, match="given as green and as none"):
        classifier.add([white, white], ["green", "none"])
    with pytest.raises(InputError, match="0 is a number"):
        classifier.add([white], [0])
    assert len(classifier.classes_) == 3
    assert classifier.add([white], ["none"]).record_["none"]["counter_examples"] == 1
    result = document(capsys, "add", copy, red, white, white, "--label", "red")
    assert result["notes"] == [
        f"passed over 2 of 3 photos, in the run already or given twice: {red}, {white}"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "said"),
    [(artifact.NEXT, "is as it was"), (artifact.ARRAYS, "was changed already")],
)
def test_a_stop_says_what_became_of_the_run(photos, copy, monkeypatch, capsys, file, said):
    replace, stopped = artifact.os.replace, []

    def stop(source, target):
        if target.name == file and not stopped:
            stopped.append(target)
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(artifact.os, "replace", stop)
    assert call("add", copy, photos / "white", "--label", "white") == 130
    assert capsys.readouterr().err.endswith(f"sharpzo: stopped: {copy} {said}\n")
    assert not (copy / artifact.NEXT).exists()
    monkeypatch.undo()
    assert ("white" in PromptClassifier.load(copy).classes_) == (said != "is as it was")


def test_a_run_survives_a_stop_while_it_is_written_again(run, photos, copy, monkeypatch, cache):
    """Whichever of the two files was the last."""
    before = arrays_of(copy)
    classifier = PromptClassifier.load(copy, cache=cache).add(
        [photos / "white" / "8-0.png"], ["white"]
    )
    trained = classifier.trained
    replace = artifact.os.replace

    def stop(source, target):
        if target.name == artifact.ARRAYS:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(artifact.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        artifact.rewrite(copy, trained.arrays, trained.record)
    monkeypatch.undo()
    assert artifact.read(copy).arrays.keys() == trained.arrays.keys()
    assert "white" in PromptClassifier.load(copy).classes_
    other = shutil.copytree(run, copy.parent / "other")
    (other / artifact.NEXT).write_bytes(b"half")
    same(before, arrays_of(other))
    (other / artifact.ARRAYS).write_bytes(b"half")
    with pytest.raises(ArtifactError, match="not the file"):
        artifact.read(other)
    assert json.loads((other / "run.json").read_text("utf-8"))["none"]["lost"] == 0.05


def test_a_share_is_refused_where_nothing_tells_photos_of_no_class(photos, tmp_path, capsys):
    out, photos = tmp_path / "run", photos / "photos"
    assert call("fit", photos, "--out", out, "--method", "gda") == 0
    image = min(photos.rglob("*.png"))
    for command in (("predict", out, image), ("evaluate", out, photos)):
        assert "cannot recognise photos of no class" in refused(capsys, *command, "--lost", "0.1")
        assert call(*command) == 0
