"""--views: what a run says of its image passes, and that prediction pays them alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from command import call, demo_folder, document, refused
from sharpzo.fitting.job import Job
from sharpzo.storage.claim import claim
from sharpzo.towers.tower import OnnxImageTower


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return demo_folder(tmp_path_factory.mktemp("photos") / "photos", train=3, test=2)


@pytest.fixture
def passes(monkeypatch):
    counts, honest = [], OnnxImageTower.summarise

    def summarise(tower, pixels):
        counts.append(len(pixels))
        return honest(tower, pixels)

    monkeypatch.setattr(OnnxImageTower, "summarise", summarise)
    return counts


def test_a_run_through_views_says_so_and_prediction_pays_them(photos, tmp_path, capsys, passes):
    run = tmp_path / "run"
    # With one photo per class nothing chooses, so the middle is taken.
    report = document(
        capsys, "fit", photos, "--out", run, "--shots", "1", "--views", "auto", "--no-cache"
    )
    record = json.loads((run / "run.json").read_text())
    assert record["notes"]["views"] == 2
    shown = record["data"]["training_photos"] + record["data"]["validation_photos"]
    assert record["image_passes"] == 3 * shown
    assert sum(passes) == 4 * shown + 2 * 6
    passes.clear()
    photo = next((photos / "test").rglob("*.png"))
    assert call("predict", run, photo, "--no-cache") == 0
    assert "passes the image tower 2 times" in capsys.readouterr().err
    assert sum(passes) == 2
    found = document(capsys, "evaluate", run, photos, "--no-cache")
    assert found["accuracy"] == report["test_accuracy"]
    few = document(capsys, "predict", run, photo, "--no-cache", "--memory-limit", "1GB")
    again = document(capsys, "predict", run, photo, "--no-cache")
    assert few[0]["label"] == again[0]["label"]
    assert np.isclose(few[0]["probability"], again[0]["probability"], atol=1e-3)
    other = document(capsys, "predict", run, photo, "--no-cache", "--classes", "bag,oak tree")
    assert {guess["label"] for guess in other[0]["top"]} == {"bag", "oak tree"}


def test_without_the_option_no_photo_passes_twice(photos, tmp_path, capsys, passes):
    report = document(
        capsys, "fit", photos, "--out", tmp_path / "run", "--shots", "1", "--no-cache"
    )
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["notes"]["views"] == 1
    assert record["image_passes"] == 0
    assert sum(passes) == 6 + sum(
        record["data"][f"{split}_photos"] for split in ("training", "validation")
    )
    assert report["method"] == "ladder+tokens"


def test_what_cannot_be_granted_is_told(photos, tmp_path, capsys):
    where = (photos, "--out", tmp_path / "run")
    assert "give auto, or a number of at least 1" in refused(
        capsys, "fit", *where, "--views", "none"
    )
    for method in ("gda", "ladder+gda"):
        said = refused(capsys, "fit", *where, "--views", "4", "--method", method)
        assert f"--views is for ladder+tokens, not for {method}" in said


@pytest.mark.parametrize("method", ["gda", "ladder+gda"])
def test_one_view_is_what_other_methods_read_anyway(photos, tmp_path, method):
    for run, views in (("with", ("--views", "1")), ("without", ())):
        assert call("fit", photos, "--out", tmp_path / run, "--method", method, *views) == 0
    found = [json.loads((tmp_path / run / "run.json").read_text()) for run in ("with", "without")]
    assert found[0]["settings"] == found[1]["settings"]


def test_a_fit_that_goes_on_reads_photos_as_it_began(photos, tmp_path, capsys):
    run = tmp_path / "run"
    with claim(run, Job(data=str(photos), method="gda").document()):
        pass  # stopped at once
    assert "was begun with settings" in refused(capsys, "fit", "--resume", run, "--views", "4")
