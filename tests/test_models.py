"""`Models`: several runs on one image tower answer as each of them alone."""

import threading

import numpy as np
import pytest
from PIL import Image

from command import demo_folder
from sharpzo import Budget, Models, PromptClassifier
from sharpzo.data.photo import as_photo
from sharpzo.errors import ArtifactError, InputError
from sharpzo.towers.tower import OnnxImageTower


@pytest.fixture(scope="module")
def runs(cache, tmp_path_factory):
    """By name: two that share a tower, one of them through several views; one whose photos are
    decoded whole, one whose photos are smaller, and one with an image side of its own."""
    photos = demo_folder(tmp_path_factory.mktemp("photos"), train=3)
    folder = tmp_path_factory.mktemp("runs")
    kinds = {
        "plain": {"method": "gda"},
        "views": {"method": "ladder+tokens", "settings": {"views": 4}},
        "exact": {"method": "gda", "decoding": "exact"},
        "small": {"method": "gda", "image_size": 56},
        "pixels": {"method": "blackvip", "budget": Budget(forwards=4)},
    }
    for name, how in kinds.items():
        PromptClassifier(cache=cache, **how).fit(photos / "train").save(folder / name)
    return {name: folder / name for name in kinds}


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    """Photos larger than the tower's input, so that the way of decoding counts."""
    folder = tmp_path_factory.mktemp("new")
    for k, path in enumerate(sorted(demo_folder(folder / "demo", ("bag",), test=2).rglob("*.png"))):
        Image.open(path).convert("RGB").resize((1900, 2000)).save(folder / f"{k}.jpg")
    return sorted(folder.glob("*.jpg"))


def test_each_run_answers_as_it_does_alone(runs, new, monkeypatch):
    alone = {name: PromptClassifier.load(run) for name, run in runs.items()}
    wanted = {name: one.predict_proba(new) for name, one in alone.items()}
    known = alone["views"].is_known(new, lost=0.3)
    made, init = [], OnnxImageTower.__init__

    def counted(tower, *given, **how):
        made.append(tower)
        init(tower, *given, **how)

    monkeypatch.setattr(OnnxImageTower, "__init__", counted)
    with Models(runs) as models:
        for name in runs:
            assert np.array_equal(models.predict_proba(new, run=name), wanted[name])
        assert np.array_equal(models.is_known(new, run="views", lost=0.3), known)
        best = models.classes("plain")[wanted["plain"].argmax(axis=1)]
        assert models.predict(new, run="plain").tolist() == best.tolist()
        sent = models.predict_proba(new[0].read_bytes(), run="plain")
        assert np.allclose(sent, wanted["plain"][:1], atol=1e-5)  # a batch of another size
        assert models.predict_proba([], run="plain").shape == (0, 3)
    assert len(made) == 4
    assert np.array_equal(models.predict_proba(new, run="plain"), wanted["plain"])  # opened again
    models.close()


def test_a_photo_that_cannot_be_used_keeps_no_other_from_its_answer(runs, new):
    with Models(runs["plain"]) as models:
        found = models.answer([as_photo(b"text", "one"), as_photo(new[0])])
        assert (found.rows, [error.photo for error in found.errors]) == ([1], ["one"])
        with pytest.raises(InputError, match="not a readable"):
            models.predict([b"text", new[0]])


def test_runs_have_names(runs, tmp_path):
    (tmp_path / "a\nb").symlink_to(runs["plain"])
    assert Models(tmp_path / "a\nb").runs == ("a\\x0ab",)  # it goes into addresses and tables
    models = Models([runs["plain"], runs["exact"]])
    assert models.runs == ("plain", "exact")
    assert Models(str(runs["plain"]) + "/").runs == ("plain",)
    for name, sentence in (
        (None, "several runs; name one as run: plain, exact"),
        ("plane", r"no run 'plane' \(did you mean 'plain'\?\); there are: plain, exact"),
    ):
        with pytest.raises(InputError, match=sentence):
            models.predict("photo.jpg", run=name)
    with pytest.raises(InputError, match="both called 'plain'"):
        Models([runs["plain"], tmp_path / "plain"])
    with pytest.raises(InputError, match="no runs"):
        Models([])
    with pytest.raises(ArtifactError, match="no run folder"):
        Models([tmp_path / "none"])
    with pytest.raises(InputError, match="photos of no class"):
        models.is_known("photo.jpg", run="plain")


def test_threads_wait_for_one_another(runs, new):
    found = {}
    with Models({"a": runs["plain"], "b": runs["views"]}) as models:
        wanted = {name: models.predict_proba(new, run=name) for name in "ab"}

        def work(k):
            found[k] = models.predict_proba(new, run="ab"[k % 2])

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for k in range(4):
        assert np.array_equal(found[k], wanted["ab"[k % 2]])
