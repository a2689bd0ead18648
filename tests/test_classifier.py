"""`PromptClassifier` as Python people use it: what they hand over, scikit-learn's conventions."""

import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sharpzo import Budget, PromptClassifier, SharpzoError
from sharpzo.cli import main
from sharpzo.data import arguments
from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.demo import load_demo
from sharpzo.errors import ArtifactError, InputError, NotFittedError
from sharpzo.methods import METHODS
from sharpzo.settings import as_dict, changes, override

NAMES = ("sandal", "dress", "bag")


@pytest.fixture(scope="module")
def demo():
    """Photos (18, 28, 28, 3) of three classes, and their names (18,)."""
    whole = load_demo(1)
    rows = np.concatenate(
        [np.flatnonzero(whole.train.labels == whole.class_names.index(n))[:6] for n in NAMES]
    )
    return np.stack([whole.train.photos[row].decode() for row in rows]), np.repeat(NAMES, 6)


@pytest.fixture(scope="module")
def folder(demo, tmp_path_factory):
    """The same in train/ (4 per class) and test/ (2 per class)."""
    root = tmp_path_factory.mktemp("photos")
    for i, (pixels, name) in enumerate(zip(*demo, strict=True)):
        place = root / ("train" if i % 6 < 4 else "test") / name
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{i}.png")
    return root


def make(cache, method="gda", **how):
    return PromptClassifier(method, threads=1, cache=cache, **how)


@pytest.fixture(scope="module")
def fitted(demo, cache):
    return make(cache).fit(*demo)


class Column:
    """What a column of a table shows to others: an array, a length, and no order of its own."""

    def __init__(self, values, kind=object):
        self.values, self.kind = values, kind

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, self.kind)

    def __len__(self):
        return len(self.values)

    def tolist(self):
        return list(self.values)


# --- photos ---------------------------------------------------------------------------------------


def test_one_photo_is_a_list_of_one(demo, fitted, folder):
    path = folder / "train" / "bag" / "12.png"
    pixels = demo[0][12]
    wanted = fitted.predict_proba([path])
    for one in (path, str(path), pixels, Image.open(path), np.array(str(path)), Column([path])):
        assert np.array_equal(fitted.predict_proba(one), wanted)
    assert np.allclose(fitted.predict_proba(pixels / 255.0), wanted, atol=1e-6)
    grey = pixels[:, :, :1]
    assert np.array_equal(fitted.predict_proba(grey), fitted.predict_proba([grey[:, :, 0]]))


def test_many_photos_in_any_order_of_things(demo, fitted, folder):
    paths = sorted((folder / "train").rglob("*.png"))
    pixels = [np.asarray(Image.open(path)) for path in paths]
    wanted = fitted.predict_proba(paths)
    assert wanted.shape == (12, 3)
    for many in (
        np.stack(pixels), pixels, tuple(paths), iter(paths), (Image.open(p) for p in paths),
        np.array([str(path) for path in paths]), np.array(paths, object), Column(paths),
        [path.read_bytes() for path in paths],
        [Column(one, np.uint8) if i % 2 else one for i, one in enumerate(pixels)],
    ):  # fmt: skip
        assert np.array_equal(fitted.predict_proba(many), wanted)
    assert fitted.predict_proba([]).shape == (0, 3)
    split = LabelledPhotos(arguments.photos(paths[:2]), np.zeros(2, int), ("a",))
    assert np.allclose(fitted.predict_proba(split), wanted[:2], atol=1e-6)


@pytest.mark.parametrize(
    ("photos", "sentence"),
    [
        (None, "the photos are None"),
        (3, "the photos are 3"),
        (b"a.jpg", "not a readable"),
        (bytearray(b"a.jpg"), "of type bytearray"),
        (memoryview(np.zeros((28, 28, 3), np.uint8)), "of type memoryview"),
        (np.ma.masked_greater(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), 9), "masked entries"),
        ({"a.jpg": 1}, "of type dict"),
        ({"a.jpg"}, "of type set"),
        (np.zeros((28, 28), np.uint8), r"shape \(28, 28\)"),
        (np.zeros((3, 28, 28), np.uint8), r"shape \(3, 28, 28\)"),
        (np.zeros((2, 3, 28, 28), np.uint8), r"photo 0 .*\(3, 28, 28\)"),
        (np.zeros((2, 28, 28, 4), np.uint8), r"photo 0 .*\(28, 28, 4\)"),
        (np.zeros((1, 1, 28, 28, 3), np.uint8), r"shape \(1, 1, 28, 28, 3\)"),
        (np.full((2, 28, 28, 3), 255.0), "floats from 255"),
        (np.full((2, 28, 28, 3), 1.0000001), r"floats from 1\.0000001"),
        (np.full((2, 28, 28, 3), np.nan), "nan"),
        (np.array([["a.jpg", "b.jpg"]]), "give one column"),
        ([[1, 2, 3]], "photo 0 is a list"),
        ([None], "photo 0 is a NoneType"),
        ([("a.jpg", "cat")], "photo 0 is a tuple"),
        (load_demo(1), "several splits"),
    ],
)  # fmt: skip
def test_what_is_no_photo_is_refused_in_a_sentence(fitted, photos, sentence):
    with pytest.raises(InputError, match=sentence):
        fitted.predict(photos)


def test_a_folder_or_a_file_object_is_no_photo(fitted, folder):
    closed = Image.open(folder / "train" / "bag" / "12.png")
    closed.load()
    closed.close()
    for photos, sentence in ((closed, "photo cannot be read"), ("a" * 5000, "photo aaa")):
        with pytest.raises(InputError, match=sentence):
            fitted.predict(photos)
    with pytest.raises(InputError, match="is a folder"):
        fitted.predict(folder)
    path = folder / "train" / "bag" / "12.png"
    with path.open("rb") as stream, pytest.raises(InputError, match="BufferedReader"):
        fitted.predict(stream)


# --- labels ---------------------------------------------------------------------------------------


def test_labels_of_every_kind_give_the_same_fit(demo, cache, fitted):
    photos, names = demo
    for labels in (names.tolist(), names.astype(object), Column(names), tuple(names), iter(names)):
        found, classes = arguments.labelled(arguments.photos(photos), labels)
        assert classes.tolist() == list(found.class_names) == sorted(NAMES)
        rows = np.unique(names, return_inverse=True)[1]
        assert found.train.labels.tolist() == rows.tolist()
    again = make(cache).fit(list(photos), Column(names))
    assert np.array_equal(again.predict_proba(photos), fitted.predict_proba(photos))


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (None, "there are no labels"),
        ("sandal", "of type str"),
        ({"sandal": 1}, "of type dict"),
        ({"sandal", "bag"}, "of type set"),
        (7, "of type int"),
        (["sandal"] * 17, "18 photos and 17 labels"),
        (["sandal"] * 18, "name 1 class"),
        (["sandal"] * 17 + [None], r"label 17 is missing \(None\)"),
        (["sandal"] * 17 + [float("nan")], r"label 17 is missing \(nan\)"),
        (np.array(["sandal"] * 17 + [np.nan], object), r"label 17 is missing"),
        (["sandal"] * 17 + [" "], "label 17 is missing"),
        (["sandal"] * 17 + ["_"], "the label '_' has no name"),
        (np.repeat([[0, 1]], 18, axis=0), r"shape \(18, 2\)"),
        ([0.0, 1.0] * 9, "label 0 is 0.0, a float"),
        (np.ma.array([0, 1] * 9, mask=[False] * 17 + [True]), "labels have masked entries"),
        ([b"sandal", b"bag"] * 9, "label 0 is b'sandal'"),
        ([1, "1"] * 9, "label 0 is 1 and label 1 is '1': types are mixed"),
        ([1, True] * 9, "types are mixed"),
        (["a bag", "a_bag"] * 9, "'a bag' and 'a_bag' are both read as 'a bag'"),
    ],
)  # fmt: skip
def test_bad_labels_are_one_sentence(demo, cache, labels, sentence):
    with pytest.raises(InputError, match=sentence):
        make(cache).fit(demo[0], labels)


def test_a_folder_may_be_any_path(fitted, folder):
    class Entry:
        def __fspath__(self):
            return str(folder)

    assert fitted.score(Entry()) == fitted.score(folder)


def test_a_relative_cache_stays_where_it_was(demo, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    made = make("kept", "zero-shot").fit(*demo)
    monkeypatch.chdir("elsewhere")
    made.predict(demo[0])
    assert [entry.name for entry in tmp_path.rglob("kept")] == ["kept"]


def test_labels_beside_what_has_its_own(demo, cache, folder, fitted):
    whole = load_demo(1)
    for photos in (folder, str(folder), whole):
        with pytest.raises(InputError, match="has its own; leave them out"):
            make(cache).fit(photos, demo[1])
    with pytest.raises(InputError, match="taken as it is"):
        make(cache).fit(whole, shots=2)
    few = whole.train.take(range(0, 160, 8))
    assert make(cache).fit(few, shots=1).record_["data"]["shots"] == 1
    with pytest.raises(InputError, match="beside labelled photos"):
        fitted.evaluate(whole.test, demo[1])


def test_integers_stay_integers(demo, cache, tmp_path):
    photos, names = demo
    numbers = np.unique(names, return_inverse=True)[1] + 9  # 9, 10, 11: not sorted as strings
    made = make(cache).fit(photos, numbers)
    loaded = PromptClassifier.load(made.save(tmp_path / "run"), cache=cache)
    for one in (made, loaded):
        assert one.classes_.tolist() == [9, 10, 11]
        assert one.predict(photos).dtype.kind == "i"
        assert one.score(photos, numbers) == np.mean(one.predict(photos) == numbers)
        for unknown in (numbers.astype(str), [True] * 18, [12] * 18):
            with pytest.raises(InputError, match="that this run does not know"):
                one.score(photos, unknown)


def test_labels_that_an_array_would_change_stay_as_given(demo, cache, tmp_path):
    photos, _ = demo
    for classes in ([-1, 0, 2**63], ["a", "b\0", "c"]):  # NumPy: floats; a NUL at the end goes
        labels = [label for label in classes for _ in range(6)]
        made = make(cache, "zero-shot").fit(photos, labels)
        run = made.save(tmp_path / type(classes[0]).__name__)
        loaded = PromptClassifier.load(run, cache=cache)
        for one in (made, loaded):
            assert one.classes_.tolist() == classes
            assert [type(label) for label in one.classes_.tolist()] == [type(n) for n in classes]
            found = one.predict(photos).tolist()
            assert one.score(photos, labels) == np.mean(
                [a == b for a, b in zip(found, labels, strict=True)]
            )


def test_underscores_follow_one_rule(demo, cache, tmp_path):
    """A label keeps its spelling; what is read and matched has spaces, as for folders."""
    photos, names = demo
    spelled = np.char.add("my_", names)
    for i, (pixels, name) in enumerate(zip(photos, spelled, strict=True)):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name / f"{i:02}.png")
    by_list, by_folder = make(cache).fit(photos, spelled), make(cache).fit(tmp_path)
    assert by_list.record_["class_names"] == by_folder.record_["class_names"]
    assert by_list.classes_.tolist() == sorted(set(spelled))
    assert set(by_list.predict(photos)) <= set(spelled)
    assert by_folder.classes_.tolist() == ["my bag", "my dress", "my sandal"]
    for labels in (spelled, np.char.replace(spelled, "_", " ")):
        for one in (by_list, by_folder):
            assert one.score(photos, labels) == np.mean(by_list.predict(photos) == spelled)


def test_score_and_evaluate_treat_unknown_labels_alike(demo, fitted):
    photos, names = demo
    strange = names.copy()
    strange[3] = "boat"
    for call in (fitted.score, fitted.evaluate):
        with pytest.raises(InputError, match="a class 'boat' that this run does not know"):
            call(photos, strange)
        with pytest.raises(InputError, match="18 photos and 17 labels"):
            call(photos, names[1:])
        with pytest.raises(InputError, match="no photos to evaluate on"):
            call([], [])
    found = fitted.evaluate(photos, names)
    assert found.n == 18
    assert found.accuracy == fitted.score(photos, names)


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    ["zero-shot", "ladder+gda", "ladder+image", "projection", "prolip", "blackvip", "cma-es"],
)
def test_a_renamed_run_says_the_same_after_it_is_read_again(demo, cache, tmp_path, method):
    photos, names = demo
    small = {"blackvip": {"image_passes": 40, "batch": 2}, "ladder+image": {"evidence": 2}}
    made = make(
        cache, method, budget=Budget(forwards=60), settings=small.get(method)
    ).fit(photos[::2], names[::2])  # fmt: skip
    renamed = made.rename(["a_boat", "bag", "the sea", "otter"])
    loaded = PromptClassifier.load(renamed.save(tmp_path / "run"), cache=cache)
    assert loaded.classes_.tolist() == ["a_boat", "bag", "the sea", "otter"]
    wanted = renamed.predict_proba(photos[:4])
    np.testing.assert_allclose(loaded.predict_proba(photos[:4]), wanted, rtol=1e-5, atol=1e-7)
    # Named again, it starts from what was trained, not from the names between.
    back = made.rename(sorted(NAMES)).predict_proba(photos[:4])
    for one in (renamed, loaded):
        again = one.rename(sorted(NAMES))
        np.testing.assert_allclose(again.predict_proba(photos[:4]), back, rtol=1e-5, atol=1e-7)
    assert made.classes_.tolist() == sorted(NAMES)
    assert loaded.record_["test"]["accuracy"] is None


@pytest.mark.parametrize(
    "names", ["otter", None, ["otter", "otter"], ["a_b", "a b"], [], ["otter"], [1.5]]
)
def test_names_that_cannot_be_taken(fitted, demo, cache, names):
    with pytest.raises(InputError):
        make(cache, "zero-shot").fit(*demo).rename(names)
    with pytest.raises(InputError, match="methods that can name others"):
        fitted.rename(["otter", "boat"])


def test_a_loaded_run_is_fitted_again_to_the_same(demo, cache, tmp_path):
    made = make(
        cache, "fgn", settings={"search.directions": 4, "validate_every": 20}, seed=3,
        budget=Budget(forwards=60), precision="int8", template="a picture of a {}.",
        decoding="reduced",
    ).fit(*demo)  # fmt: skip
    loaded = PromptClassifier.load(made.save(tmp_path / "run"), cache=cache)
    assert loaded.get_params() == made.get_params()
    assert loaded.history_ == made.history_
    assert len(made.history_) > 2
    assert np.array_equal(loaded.predict_proba(demo[0]), made.predict_proba(demo[0]))
    again = loaded.fit(*demo)
    for name, array in made.fit_.arrays.items():
        assert np.array_equal(again.fit_.arrays[name], array), name
    assert np.array_equal(again.predict_proba(demo[0]), made.predict_proba(demo[0]))
    copied = PromptClassifier.load(loaded.save(tmp_path / "copy"), cache=cache)
    assert copied.history_ == again.history_


@pytest.mark.parametrize(
    ("name", "preset", "more"),
    [
        ("cma-es", None, {}),
        ("cma-es", "bbt", {}),
        ("sharpzo", None, {"alpha": None}),
        ("sharp-cma-es", None, {"alpha": None}),
    ],
)
def test_names_of_earlier_settings_that_change_nothing_are_left_out(name, preset, more):
    method = METHODS[name]
    base = method.configure(preset)
    recorded = {**method.key(base), **as_dict(base), **more}
    recorded["search"] = {**method.key(base)["search"], **as_dict(base)["search"]}
    found = changes(base, recorded, method.key(base))
    assert found == {}
    assert "alpha" in changes(METHODS["sharpzo"].settings, {"alpha": 1.0}, {})


@pytest.mark.parametrize("name", METHODS)
def test_settings_come_back_from_their_record(name):
    method = METHODS[name]
    for preset in (None, *method.presets):
        settings = method.configure(preset)
        recorded = json.loads(json.dumps(as_dict(settings)))
        assert changes(settings, recorded) == {}
        assert override(method.settings, changes(method.settings, recorded)) == settings, preset


def test_python_and_the_command_line_write_one_record(folder, cache, tmp_path):
    made = make(cache).fit(folder)
    assert made.record_["test"]["accuracy"] is None  # not read yet
    accuracy = made.evaluate(folder).accuracy
    assert accuracy == made.record_["test"]["accuracy"] == made.record_["methods"][-1]["test"]
    made.save(tmp_path / "python")
    with pytest.raises(SystemExit) as end:
        main(["fit", str(folder), "--out", str(tmp_path / "line"), "--method", "gda",
              "--threads", "1", "--cache", str(cache), "--json"])  # fmt: skip
    assert not end.value.code
    ours, theirs = (json.loads((tmp_path / n / "run.json").read_text()) for n in ("python", "line"))
    assert ours.keys() == theirs.keys()
    timed = ("created", "seconds", "peak_memory_mb", "methods", "record_sha256",
             "history_sha256")  # fmt: skip
    assert {n: v for n, v in ours.items() if n not in timed} == {
        n: v for n, v in theirs.items() if n not in timed
    }
    for mine, one in zip(
        ours["methods"], (theirs["methods"][0], theirs["methods"][-1]), strict=True
    ):
        assert {**mine, "seconds": 0} == {**one, "seconds": 0}


@pytest.mark.parametrize("odd", [None, 3, b"run", "run\0", ["run"], "x" * 5000])
def test_what_is_no_path_is_no_run_folder(fitted, odd):
    for act in (fitted.save, PromptClassifier.load):
        with pytest.raises(ArtifactError, match="run folder"):
            act(odd)


def test_what_is_no_path_is_no_model_and_no_cache(fitted, tmp_path):
    run = fitted.save(tmp_path / "run")
    for odd in ({"model": 3}, {"model": b"x"}, {"cache": 3}):
        with pytest.raises(InputError, match=f"{next(iter(odd))} is .*; give a path, or None"):
            PromptClassifier.load(run, **odd)
    record = json.loads((run / "run.json").read_text())
    del record["model"]["sha256"]
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match="incomplete record"):
        PromptClassifier.load(run)


def test_a_save_that_fails_leaves_nothing_behind(fitted, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sharpzo.storage.artifact.os.replace", full)
        with pytest.raises((OSError, SharpzoError)):
            fitted.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    fitted.save(tmp_path / "run")
    with pytest.raises(ArtifactError, match="exists already"):
        fitted.save(tmp_path / "run")


@pytest.mark.parametrize(
    "damage",
    [
        {"class_names": None}, {"class_names": [1, 2, 3]}, {"class_names": ["a", "b"]},
        {"model": None}, {"model": {"id": 3, "sha256": "x"}}, {"method": 7}, {"template": None},
        {"settings": []}, {"labels": ["a"]}, {"threads": "many"}, {"budget": 3}, {"engine": None},
        {"preset": []}, {"seed": None},
    ],
)  # fmt: skip
def test_a_record_that_was_changed_is_one_sentence(fitted, tmp_path, damage):
    run = fitted.save(tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, **damage}))
    with pytest.raises(SharpzoError):
        PromptClassifier.load(run).fit(["no.jpg"], ["a"])


def test_arrays_that_cannot_classify_are_refused(fitted, tmp_path):
    from dataclasses import replace

    weight = fitted.fit_.head.weight
    for name, broken in (("nan", weight * np.nan), ("narrow", weight[:, :-1])):
        odd = replace(fitted._trained, arrays={**fitted._trained.arrays, "weight": broken})
        run = odd.save(tmp_path / name)
        with pytest.raises(ArtifactError, match=r"cannot classify a photo|is not finite"):
            PromptClassifier.load(run)


def test_numbers_of_numpy_are_numbers(demo, cache, tmp_path):
    """As a grid of `np.arange` has them; a run keeps them, and a loaded one has them again."""
    how = {"seed": np.int64(3), "threads": np.int64(1), "settings": {"alpha": np.float32(0.5)}}
    budget = Budget(forwards=np.int64(20), seconds=np.float32(60), steps=np.uint8(9))
    made = PromptClassifier("gda", cache=cache, budget=budget, **how).fit(*demo)
    loaded = PromptClassifier.load(made.save(tmp_path / "run"), cache=cache)
    assert (loaded.budget, loaded.seed) == (Budget(20, 60.0, 9), 3)
    assert loaded.settings == {"alpha": 0.5}
    changed = override(METHODS["sharpzo"].settings, {"search.cma.sigma": np.int64(1)})
    assert json.dumps(as_dict(changed))


# --- scikit-learn's conventions -------------------------------------------------------------------


def test_parameters_are_kept_as_given_and_checked_by_fit(demo, cache):
    settings = {"nonsense": 1}
    wrong = {
        "method": "magic", "preset": "mars", "settings": settings, "seed": 1.5, "budget": 5,
        "threads": 0, "engine": "torch", "precision": "int3", "memory_limit": "much",
        "template": "a photo", "model": 3, "cache": 3,
    }  # fmt: skip
    classifier = PromptClassifier(**wrong)
    assert all(classifier.get_params()[name] is value for name, value in wrong.items())
    for name, value in wrong.items():
        with pytest.raises(InputError):
            PromptClassifier(**{"method": "gda", name: value}).fit(*demo)
    for odd in ({"threads": "2"}, {"threads": 1.5}, {"method": []}, {"preset": []}, {"engine": []},
                {"seed": True}, {"threads": True}, {"threads": 10**6}, {"template": None},
                {"template": "\udcff{}"}, {"seed": "1"}, {"settings": "rho=1"}):  # fmt: skip
        with pytest.raises(InputError, match=next(iter(odd))):
            PromptClassifier(**odd).fit(*demo)
    for name in ("forwards", "seconds", "steps"):
        for value in ("5", 0, -1, float("nan"), float("inf"), 10**400, True, [5]):
            with pytest.raises(SharpzoError, match=f"budget of {name}"):
                Budget(**{name: value})
    with pytest.raises(ValueError, match="there is no parameter 'shots'; known: method"):
        classifier.set_params(shots=3)
    assert classifier.set_params(method="gda", seed=4) is classifier
    assert (classifier.method, classifier.seed) == ("gda", 4)
    assert repr(PromptClassifier("gda", seed=2)) == "PromptClassifier(method='gda', seed=2)"


def test_before_the_fit_is_not_fitted(demo, tmp_path):
    new = PromptClassifier()
    calls = {
        "predict": (demo[0],), "predict_proba": (demo[0],), "score": demo, "evaluate": demo,
        "save": (tmp_path / "run",), "rename": (["a"],),
    }  # fmt: skip
    for name, given in calls.items():
        with pytest.raises(NotFittedError, match="has not been fitted") as found:
            getattr(new, name)(*given)
        assert isinstance(found.value, SharpzoError | ValueError | AttributeError)
        assert str(pickle.loads(pickle.dumps(found.value))) == str(found.value)
    assert not (tmp_path / "run").exists()


def test_a_failed_fit_leaves_the_classifier_as_it_was(demo, cache):
    made = make(cache).fit(*demo)
    before = made.predict_proba(demo[0])
    with pytest.raises(InputError):
        made.fit(demo[0], demo[1][1:])
    made.set_params(method="magic")  # the next fit's, not this one's
    assert np.array_equal(made.predict_proba(demo[0]), before)


def test_a_warning_points_at_the_caller():
    noise = np.random.default_rng(1).integers(256, size=(4, 28, 28, 3)).astype(np.uint8)
    few = PromptClassifier("cma-es", budget=Budget(steps=1, forwards=30), threads=1)
    with pytest.warns(UserWarning, match="the untuned model is right on") as warned:
        few.fit(noise, ["cat", "dog"] * 2)
    assert warned[0].filename == __file__
    assert few.record_["warnings"] == [str(warned[0].message)]


@pytest.mark.parametrize("method", ["proker", "blackvip"])
def test_copies_and_pickles(demo, cache, tmp_path, method):
    settings = {"image_passes": 40, "batch": 2} if method == "blackvip" else None
    made = make(cache, method, settings=settings).fit(demo[0][::2], demo[1][::2])
    made.predict(demo[0][:1])
    wanted = made.predict_proba(demo[0])
    blob = pickle.dumps(made)
    assert len(blob) < 200_000  # neither towers nor photos
    for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(blob)):
        assert np.array_equal(other.predict_proba(demo[0]), wanted)
        assert other.get_params() == made.get_params()
    again = pickle.loads(blob).save(tmp_path / "run")
    assert np.array_equal(PromptClassifier.load(again, cache=cache).predict_proba(demo[0]), wanted)
    new = pickle.loads(pickle.dumps(PromptClassifier("gda", seed=2)))
    assert (new.method, new.seed) == ("gda", 2)


WITHOUT = """
import copy, pickle, sys
sys.modules["sklearn"] = None  # importing it is an error now
import numpy as np
from sharpzo import Budget, PromptClassifier
from sharpzo.errors import NotFittedError
photos = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3)).astype(np.uint8)
classifier = PromptClassifier("gda", threads=1)
try:
    classifier.predict(photos)
except NotFittedError:
    print(classifier.get_params()["method"])
classifier.fit(photos, ["cat", "dog"] * 3)
print(pickle.loads(pickle.dumps(classifier)).set_params(seed=2).score(photos, ["cat", "dog"] * 3))
PromptClassifier("cma-es", budget=Budget(forwards=60), threads=1).fit(photos, ["cat", "dog"] * 3)
print("torch" in sys.modules)
"""


def test_scikit_learn_and_torch_are_not_needed():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name, score, torch = done.stdout.split()
    assert (name, torch) == ("gda", "False")
    assert 0 <= float(score) <= 1


def test_scikit_learn_takes_it_for_a_classifier(demo, cache):
    base = pytest.importorskip("sklearn.base")
    from sklearn.exceptions import NotFittedError as Theirs
    from sklearn.utils.validation import check_is_fitted

    how = {"settings": {"penalty": 1.0}, "budget": Budget(forwards=5), "seed": 2}
    classifier = PromptClassifier("gda", cache=cache, **how)
    cloned = base.clone(classifier)
    assert cloned is not classifier
    assert cloned.get_params() == classifier.get_params()
    assert base.is_classifier(classifier)
    with pytest.raises(Theirs):
        check_is_fitted(classifier)
    with pytest.raises(Theirs) as found:
        classifier.predict(demo[0])
    with pytest.raises(Theirs):
        raise pickle.loads(pickle.dumps(found.value))
    assert isinstance(found.value, NotFittedError)
    check_is_fitted(make(cache).fit(*demo))
    assert not hasattr(base.clone(make(cache).fit(*demo)), "classes_")


def test_scikit_learn_validates_searches_and_chains_it(demo, cache, tmp_path):
    selection = pytest.importorskip("sklearn.model_selection")
    joblib = pytest.importorskip("joblib")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    photos, names = demo
    classifier = make(cache)
    own = selection.cross_val_score(classifier, photos, names, cv=3)
    how = {"cv": 3, "scoring": ["accuracy", "neg_log_loss"]}
    scores = selection.cross_validate(classifier, list(photos), names, **how)
    assert np.allclose(scores["test_accuracy"], own)
    assert np.isfinite(scores["test_neg_log_loss"]).all()
    _, rows = np.unique(names, return_inverse=True)
    numbered = selection.cross_val_score(classifier, photos, rows, cv=2, scoring="accuracy")
    assert np.isfinite(numbered).all()
    grid = {"method": ["zero-shot", "gda"]}
    search = selection.GridSearchCV(classifier, grid, cv=2, error_score="raise").fit(photos, names)
    best = search.best_estimator_
    assert best.record_["method"] == search.best_params_["method"]
    assert best.classes_.tolist() == sorted(NAMES)
    assert search.score(photos, names) == best.score(photos, names)
    chain = make_pipeline(FunctionTransformer(lambda x: x[:, :, ::-1]), classifier)
    assert chain.fit(photos, names).predict(photos).shape == (18,)
    assert set(chain.classes_) == set(NAMES)
    joblib.dump(best, tmp_path / "kept.joblib")
    kept = joblib.load(tmp_path / "kept.joblib")
    assert np.array_equal(kept.predict_proba(photos), best.predict_proba(photos))
