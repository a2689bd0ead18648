"""--image-precision: the arithmetic of the image tower, in the fit and whenever its run is used."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from command import answer, demo_folder, document, refused
from sharpzo import Models, PromptClassifier
from sharpzo.errors import EngineError, InputError
from sharpzo.fitting.fitter import Fitter
from sharpzo.fitting.job import Job
from sharpzo.towers import image_precision
from sharpzo.towers.features import encode
from sharpzo.towers.open import Towers
from sharpzo.towers.runtime import Runtime
from sharpzo.towers.tower import OnnxImageTower

SMALL = "--image-size", "28"
needs_bytes = pytest.mark.skipif(
    not image_precision.multiplies_bytes(), reason="no products of 8 bits"
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return demo_folder(tmp_path_factory.mktemp("photos") / "photos", train=3, test=2)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A run in int8."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    PromptClassifier(image_size=28, image_precision="int8").fit(photos).save(folder)
    return folder


@pytest.fixture
def encoded(monkeypatch):
    """The precisions of the towers that photos passed."""
    seen, honest = [], OnnxImageTower.summarise

    def summarise(tower, pixels):
        seen.append(tower._precision)
        return honest(tower, pixels)

    monkeypatch.setattr(OnnxImageTower, "summarise", summarise)
    return seen


@needs_bytes
def test_a_run_keeps_the_precision_that_it_was_fitted_in(photos, tmp_path, capsys, encoded):
    fits = "fit", photos, *SMALL, "--cache", tmp_path / "cache", "--out"
    document(capsys, *fits, tmp_path / "plain")
    assert {*encoded} == {"float32"}
    assert "image_precision" not in json.loads((tmp_path / "plain" / "run.json").read_text())
    encoded.clear()
    document(capsys, *fits, tmp_path / "light", "--image-precision", "int8")
    assert {*encoded} == {"int8"}  # features in float32 are in the same cache, and are others
    assert json.loads((tmp_path / "light" / "run.json").read_text())["image_precision"] == "int8"
    encoded.clear()
    document(capsys, *fits, tmp_path / "again", "--image-precision", "int8")
    assert not encoded

    photo = next((photos / "test").rglob("*.png"))
    for command in (
        ("predict", tmp_path / "light", photo),
        ("evaluate", tmp_path / "light", photos),
    ):
        document(capsys, *command, "--no-cache")
        assert {*encoded} == {"int8"}
        encoded.clear()
    classifier = PromptClassifier.load(tmp_path / "light")
    again = PromptClassifier(**classifier.get_params()).fit(photos)
    assert classifier.image_precision == again.record_["image_precision"] == "int8"
    assert np.array_equal(again.predict_proba(photo), classifier.predict_proba(photo))
    data = [
        json.loads((tmp_path / name / "run.json").read_text())["data"]["training_sha256"]
        for name in ("plain", "light", "again")
    ]
    assert data[0] != data[1] == data[2]


@needs_bytes
def test_runs_of_several_precisions_share_no_tower(photos, run, tmp_path, encoded):
    plain = PromptClassifier(image_size=28).fit(photos).save(tmp_path / "plain")
    photo = next((photos / "test").rglob("*.png"))
    encoded.clear()
    with Models({"plain": plain, "light": run}) as models:
        for name in models.runs:
            models.predict(photo, run=name)
    assert encoded == ["float32", "int8"]


@needs_bytes
@pytest.mark.parametrize("why", ["processor", "limit"])
def test_a_run_is_used_in_float32_where_its_precision_is_not(
    photos, run, capsys, monkeypatch, caplog, why
):
    limit = ("--memory-limit", "1GB") if why == "limit" else ()
    if why == "processor":
        monkeypatch.setattr(image_precision, "multiplies_bytes", lambda: False)
    found = json.loads(answer(capsys, 0, "evaluate", run, photos, "--json", *limit).out)
    assert found["n"] == 6
    said = (
        "was fitted to photos encoded in int8, and new photos are encoded in float32, so answers "
        "differ a little: "
    )
    assert caplog.messages[0].startswith(f"{run} {said}")
    assert (
        "under a memory limit the image tower is computed in float32"
        if limit
        else "no products of 8 bits"
    ) in caplog.text


@needs_bytes
def test_an_exported_file_is_compared_in_its_own_arithmetic(photos, run, tmp_path, capsys):
    found = document(capsys, "export", run, tmp_path / "file", "--photos", photos / "train")
    assert found["agreement"]["top1"] == 1
    assert found["agreement"]["largest_difference"] < 1e-3
    told = answer(capsys, 0, "export", run, tmp_path / "told", "--photos", photos / "train").out
    assert "as by predict in float32 (the run itself is used in int8)" in " ".join(told.split())


def test_what_is_refused(photos, tmp_path, capsys):
    fits = "fit", photos, "--out", tmp_path / "run", "--image-precision"
    assert "image_precision is 'int4'; choose one of float32" in refused(capsys, *fits, "int4")
    limited = refused(capsys, *fits, "int8", "--memory-limit", "1GB")
    assert "block by block in float32, not in int8; leave out one of them" in limited
    assert "method ladder+image passes photos through the image tower while it is fitted" in (
        refused(capsys, *fits, "bfloat16", "--method", "ladder+image")
    )
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="image_precision is 8; give a string"):
        Fitter(image_precision=8)  # type: ignore[arg-type]


def test_a_fit_needs_the_instructions(monkeypatch):
    monkeypatch.setattr(image_precision, "multiplies_bytes", lambda: False)
    with pytest.raises(EngineError, match="no products of 8 bits"):
        Fitter(image_precision="int8")


def test_a_missing_openvino_is_what_the_precision_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match=r"^image precision bfloat16 needs the package openvino"):
        Fitter(image_precision="bfloat16")


@needs_bytes
def test_a_run_of_a_later_version_is_refused(run, tmp_path, capsys):
    from sharpzo.storage import artifact

    found = artifact.read(run)
    later = tmp_path / "later"
    later.mkdir()
    artifact.write(later, found.arrays, found.record | {"image_precision": "float8"})
    sentence = refused(capsys, "predict", later, "photo.png")
    assert "image precision 'float8'; update sharpzo" in sentence


def test_a_fit_that_goes_on_has_the_precision_it_began_with(photos):
    job = Job(str(photos), image_precision="int8")
    assert b'"image_precision": "int8"' in job.document()
    assert job.parameters()["image_precision"] == "int8"


def test_a_model_of_another_family_is_refused_before_work(tmp_path):
    from towers.pair_models import save_pair

    towers = Towers(save_pair(tmp_path / "pair"), Runtime(), image_precision="int8")
    with pytest.raises(InputError, match="an ONNX file, which is run as it is"):
        towers.checkpoint  # noqa: B018


@needs_bytes
def test_features_say_what_made_them(photos):
    from sharpzo.data.loading import load

    checkpoint = Towers(None, Runtime(), image_size=28).checkpoint
    splits = {"train": load(photos).train}
    plain, light = (encode(checkpoint, splits, precision=p)["train"] for p in ("float32", "int8"))
    assert plain.fingerprint != light.fingerprint
    assert np.abs((plain.vectors * light.vectors).sum(axis=1) - 1).max() < 0.05
