"""Photos that are decoded at a smaller scale: their features, and who decodes how."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sharpzo.classifier import PromptClassifier
from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.demo import load_demo
from sharpzo.data.photo import as_photo
from sharpzo.errors import ArtifactError, InputError
from sharpzo.fitting.fitter import Fitter
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.features import encode
from sharpzo.towers.preprocess import Preprocessing


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Two demo photos of each of two classes, enlarged to 1200 x 900, with noise of all sizes."""
    demo, folder = load_demo(1).train, tmp_path_factory.mktemp("large")
    draws, photos, rows = np.random.default_rng(0), [], [0, 1, 16, 17]
    for row, (suffix, options) in zip(
        rows, (("jpg", {}), ("jpg", {"progressive": True}), ("png", {}), ("webp", {})), strict=True
    ):
        pixels = Image.fromarray(demo.photos[row].decode()).resize((1200, 900))
        seen = np.asarray(pixels, np.float32)
        for side in (1, 4, 20, 100):
            noise = draws.normal(0, 8, (900 // side, 1200 // side, 3)).astype(np.float32)
            seen = seen + noise.repeat(side, 0).repeat(side, 1)
        photos.append(folder / f"{row}.{suffix}")
        Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8)).save(photos[-1], **options)
    labels = demo.labels[rows]
    return LabelledPhotos(tuple(map(as_photo, photos)), np.unique(labels, return_inverse=True)[1],
                          ("t-shirt", "trouser"))  # fmt: skip


def test_features_are_those_of_the_whole_photo(large, tmp_path):
    checkpoint = Checkpoint.open(resolve(None))
    exact, small, again = (
        encode(checkpoint, {"all": large}, threads=1, cache=tmp_path, decoding=decoding)["all"]
        for decoding in ("exact", "reduced", "reduced")
    )
    cosines = (exact.vectors * small.vectors).sum(axis=1)
    assert cosines.min() >= 0.999
    assert cosines.min() < 1 - 1e-6  # they were decoded otherwise, and kept apart
    assert exact.fingerprint != small.fingerprint
    np.testing.assert_array_equal(small.vectors, again.vectors)


def test_small_photos_are_the_same_in_both_ways():
    checkpoint, photos = Checkpoint.open(resolve(None)), load_demo(1).train.take(range(4))
    both = [
        encode(checkpoint, {"all": photos}, threads=1, decoding=decoding)["all"].vectors
        for decoding in ("exact", "reduced")
    ]
    np.testing.assert_array_equal(*both)


def test_the_size_that_stays_is_four_times_the_towers(large):
    checkpoint = Checkpoint.open(resolve(None))
    assert Preprocessing.open(checkpoint).least is None
    assert Preprocessing.open(checkpoint, "reduced").least == 4 * 112
    assert Preprocessing(resize=(96, 80), decoding="reduced").least == 4 * 96
    assert Preprocessing(resize=None, decoding="reduced").least is None
    assert large.sized(448).photos[0].decode().shape == (450, 600, 3)
    views = large.views(1, 112, scale=(0.25, 1.0)).sized(448)
    assert views.photos[0].least == 896


def test_published_settings_decode_photos_whole():
    def decoding(*arguments, **options) -> str:
        return Fitter(*arguments, **options).towers.decoding

    assert decoding() == "reduced"
    assert decoding(decoding="exact") == "exact"
    assert decoding("sharpzo", preset="paper/eurosat") == "exact"
    assert decoding("sharpzo", preset="release") == "exact"
    assert decoding("sharpzo", preset="projected") == "reduced"
    assert decoding("sharpzo", preset="release", decoding="reduced") == "reduced"
    for wrong in ("small", 4):
        with pytest.raises(InputError, match="decoding is"):
            Fitter(decoding=wrong)


def test_a_run_decodes_as_its_fit_did(large, tmp_path):
    run = tmp_path / "run"
    fitted = PromptClassifier(threads=1).fit(large)
    fitted.save(run)
    found = PromptClassifier.load(run)
    assert found.get_params()["decoding"] == "reduced"
    np.testing.assert_array_equal(
        found.predict_proba(large.photos), fitted.predict_proba(large.photos)
    )
    record = json.loads((run / "run.json").read_text())
    assert record["preprocessing"]["decoding"] == "reduced"
    record.pop("record_sha256", None)
    del record["preprocessing"]["decoding"]  # as earlier versions wrote it
    (run / "run.json").write_text(json.dumps(record))
    assert PromptClassifier.load(run).get_params()["decoding"] == "exact"
    record["preprocessing"]["decoding"] = "blurred"
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match="decoding 'blurred'"):
        PromptClassifier.load(run)
