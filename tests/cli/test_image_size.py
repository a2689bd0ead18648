"""--image-size: photos are made to that size, in the fit and whenever its run is used."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from command import demo_folder, document, refused
from sharpzo import PromptClassifier
from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.loading import load
from sharpzo.errors import InputError
from sharpzo.fitting.fitter import Fitter
from sharpzo.fitting.job import Job
from sharpzo.towers.checkpoint import EMBEDDED, Checkpoint
from sharpzo.towers.image_size import check_image_size, suited_size
from sharpzo.towers.tower import OnnxImageTower


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return demo_folder(tmp_path_factory.mktemp("photos") / "photos", train=3, test=2)


@pytest.fixture
def shapes(monkeypatch):
    seen, honest = set(), OnnxImageTower.summarise

    def summarise(tower, pixels):
        seen.add(pixels.shape[1:])
        return honest(tower, pixels)

    monkeypatch.setattr(OnnxImageTower, "summarise", summarise)
    return seen


def test_a_run_keeps_the_size_that_it_was_fitted_at(photos, tmp_path, capsys, shapes):
    run, cache = tmp_path / "run", tmp_path / "cache"
    document(capsys, "fit", photos, "--out", run, "--image-size", "56", "--cache", cache)
    record = json.loads((run / "run.json").read_text())
    assert record["image_size"] == 56
    assert record["preprocessing"]["crop"] == [56, 56]
    photo = next((photos / "test").rglob("*.png"))
    document(capsys, "predict", run, photo, "--no-cache")
    assert shapes == {(3, 56, 56)}

    classifier = PromptClassifier.load(run)
    assert classifier.image_size == 56
    again = PromptClassifier(**classifier.get_params()).fit(photos)
    assert np.array_equal(again.predict_proba(photo), classifier.predict_proba(photo))

    # Features of another size are others, in the same cache.
    plain = tmp_path / "plain"
    document(capsys, "fit", photos, "--out", plain, "--cache", cache)
    assert (3, 112, 112) in shapes
    assert "image_size" not in json.loads((plain / "run.json").read_text())


def test_a_memory_limit_computes_the_same(photos, tmp_path, capsys):
    arguments = "fit", photos, "--image-size", "28", "--no-cache", "--out"
    document(capsys, *arguments, tmp_path / "free")
    document(capsys, *arguments, tmp_path / "bound", "--memory-limit", "1GB")
    photo = next((photos / "test").rglob("*.png"))
    free, bound = (PromptClassifier.load(tmp_path / name) for name in ("free", "bound"))
    assert np.allclose(free.predict_proba(photo), bound.predict_proba(photo), atol=1e-4)


@pytest.mark.parametrize("size", ["100", "0", "-112", "11200"])
def test_other_sizes_are_refused(photos, tmp_path, capsys, size):
    sentence = refused(capsys, "fit", photos, "--out", tmp_path / "run", "--image-size", size)
    assert f"image_size is {size}; give a multiple of 14" in sentence
    assert not (tmp_path / "run").exists()


def test_a_fit_that_goes_on_has_the_size_it_began_with(photos):
    job = Job(str(photos), image_size=56)
    assert b'"image_size": 56' in job.document()
    assert job.parameters()["image_size"] == 56


def test_integers_only(photos):
    with pytest.raises(ValueError, match="image_size is '56'; give an integer"):
        PromptClassifier(image_size="56").fit(photos)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Two photos of each class, of 150 x 112 pixels, and a small one."""
    root = demo_folder(tmp_path_factory.mktemp("large") / "photos", ("bag", "sandal"), train=3)
    for name in ("bag", "sandal"):
        for path in sorted((root / "train" / name).iterdir())[:2]:
            Image.open(path).resize((150, 112)).save(path)
    return root


def test_large_photos_are_read_at_twice_the_size(large, tmp_path, capsys):
    report = document(capsys, "fit", large, "--out", tmp_path / "run", "--no-cache")
    (note,) = (one for one in report["notes"] if "pixels a side" in one)
    assert note.startswith("photos are read at 224 pixels a side")
    assert "--image-size 112" in note
    assert json.loads((tmp_path / "run" / "run.json").read_text())["image_size"] == 224
    document(capsys, "fit", large, "--out", tmp_path / "fast", "--image-size", "112")
    assert json.loads((tmp_path / "fast" / "run.json").read_text())["image_size"] == 112


def test_small_photos_and_exact_ones_are_read_as_the_model_says(large, photos):
    own = {"decoding": "exact"}, {"method": "ladder+image"}  # or what passes the tower again
    for given, options in ((photos, {}), *((large, one) for one in own)):
        fitter = Fitter(**options)
        assert fitter.suit(load(given)) is None
        assert fitter.towers.image_size is None
        assert fitter.by("ladder+tokens").suit(load(large)) is None  # compared at the same size


def test_damaged_photos_have_no_say(large, tmp_path):
    root = tmp_path / "photos"
    shutil.copytree(large, root)
    for name in ("bag", "sandal"):
        for i in range(5):
            (root / "train" / name / f"damaged{i}.png").write_text("no photo")
    train = load(root).train
    assert suited_size(Checkpoint.open(EMBEDDED), train) == 224
    nothing = [photo for photo in train.photos if not photo.shorter_side()]
    alone = LabelledPhotos(tuple(nothing), np.zeros(len(nothing), np.int64), train.class_names)
    assert suited_size(Checkpoint.open(EMBEDDED), alone) is None


def test_photos_that_are_only_cropped_are_read_as_the_model_says(large):
    processor = {"do_resize": False, "crop_size": 112}
    checkpoint = replace(Checkpoint.open(EMBEDDED), processor=processor)
    assert suited_size(checkpoint, load(large).train) is None


def test_a_tower_without_positions_to_resample_keeps_its_size():
    checkpoint = replace(Checkpoint.open(EMBEDDED, 224), image=SimpleNamespace(family="resnet"))
    with pytest.raises(InputError, match=r"family 'resnet'. takes photos of one size"):
        check_image_size(checkpoint)


def test_no_more_tokens_pass_the_tower_at_a_time():
    own, twice = (OnnxImageTower(Checkpoint.open(EMBEDDED, size)) for size in (None, 224))
    assert (own._batch, twice._batch) == (8, 2)
