"""ladder+image: when it tunes, what it keeps, and what names without photos get."""

import os
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from sharpzo.classifier import PromptClassifier
from sharpzo.detour import PhotoBatch
from sharpzo.errors import ArtifactError, BudgetError, InputError
from sharpzo.memory import resident
from sharpzo.methods import find, fit, image_ladder, seen_file
from sharpzo.methods.factors import Factors, error_slopes, tune
from sharpzo.methods.image_ladder import TunedHead, see
from sharpzo.methods.ladder import record_names
from sharpzo.methods.last_block import Seen
from sharpzo.methods.seen_file import SeenFile
from sharpzo.methods.token_ladder import TokenHead, fit_tokens
from sharpzo.metrics import cross_entropy, normalise
from sharpzo.testing.methods import toy_task
from sharpzo.testing.toys import ToyImageTower, ToyTower
from sharpzo.towers import tower

sys.path.insert(0, str(Path(__file__).parents[1] / "towers"))
METHOD = find("ladder+image")
EAGER = replace(METHOD.settings, evidence=4, rate=0.03, tokens=0.0)


linux = pytest.mark.skipif(resident() is None, reason="the system hides what a process takes")


def small_model(family, folder):
    models = pytest.importorskip("random_models")
    vision = {**models.VISION, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    if family == "clip":
        models.save_clip(folder / "model", models.TEXT, vision)
    else:
        models.save_dual(folder / "model")
    return folder / "model"


def make_task(**more):
    return replace(toy_task(replace(METHOD, settings=EAGER)), **more)


def by_detour(head, task, split="train"):
    photos, tower = getattr(task, split), ToyImageTower()
    pixels = tower.pixels(getattr(task.images, split).decoded())
    vectors = normalise(head.detour(PhotoBatch(tower, pixels)) @ tower.projection.T)
    return replace(photos, detours={head.detour.digest: vectors})


def test_it_tunes_and_lowers_the_validation_loss():
    task = make_task()
    fitted, plain = fit(METHOD, EAGER, task), fit(find("ladder+tokens"), EAGER, task)
    assert isinstance(fitted.head, TunedHead)
    assert fitted.notes["chosen_steps"] in EAGER.steps
    assert fitted.image_passes == 4 * len(task.train) + len(task.validation)
    shown, labels = by_detour(fitted.head, task, "validation"), task.validation.labels
    tuned = cross_entropy(fitted.head.scores(shown), labels)
    assert tuned < cross_entropy(plain.head.scores(task.validation), labels)
    assert fitted.validation_accuracy == (fitted.head.scores(shown).argmax(1) == labels).mean()


def test_where_it_does_not_pay_it_is_the_ladder():
    """Too few validation photos, or a descent that spoils: exactly the default's head."""
    task = make_task()
    plain = fit(find("ladder+tokens"), EAGER, task)
    few = fit(METHOD, replace(EAGER, evidence=40), task)
    wild = fit(METHOD, replace(EAGER, rate=30.0, steps=(3,)), task)
    assert (few.image_passes, few.steps) == (0, 0)
    assert (wild.notes["chosen_steps"], wild.steps) == (0, 3)
    for fitted in (few, wild):
        assert isinstance(fitted.head, TokenHead)
        assert np.array_equal(fitted.head.linear.weight, plain.head.linear.weight)
        assert fitted.arrays.keys() == plain.arrays.keys()


def test_without_validation_photos_nothing_is_tuned():
    one = fit(METHOD, EAGER, make_task(validation=None))
    assert isinstance(one.head, TokenHead)
    assert (one.steps, one.image_passes) == (0, 0)


@pytest.mark.parametrize("views", [1, 4])
def test_it_reads_tokens_and_views_as_the_default_does(views, monkeypatch):
    """The head is the default's form on the tuned features, and is kept with what it reads."""
    better = count(0, -1)
    monkeypatch.setattr(image_ladder, "_loss", lambda *_: next(better))
    settings = replace(EAGER, tokens=1 / 3, views=views, training_views=2)
    task, looks = make_task(), sorted(image_ladder.wanted_views(settings))
    splits = "train", "validation"
    task = replace(task, **{split: encoded(task, split, looks) for split in splits})
    head = fit(METHOD, settings, task).head
    assert isinstance(head, TunedHead)
    moved = {split: encoded(task, split, looks, head.detour) for split in splits}
    text = normalise(task.tower.untuned)
    ladder, reading = fit_tokens(moved["train"], text, moved["validation"], settings)
    assert reading.views == head.reading.views == head.fixed_views
    expected = TokenHead(ladder.head, reading).scores(moved["validation"])
    np.testing.assert_allclose(head.scores(moved["validation"]), expected, rtol=1e-3, atol=1e-3)
    assert np.array_equal(
        METHOD.load(head.arrays()).scores(moved["validation"]), head.scores(moved["validation"])
    )


def encoded(task, split, views, detour=None):
    """Photos through views, their vectors those by way of a detour, which see half precision."""
    tower, photos = ToyImageTower(features=6), getattr(task.images, split)

    def one(some):
        _, found = tower.trace(tower.pixels(some.decoded()))
        states = found[:, 0]
        if detour is not None:
            states = detour.states(tower.last_block, see(tower, some))
        vectors = normalise(states @ tower.projection.T)
        return replace(
            getattr(task, split), vectors=vectors,
            tokens=found[:, 1:3], patches=found[:, 3:],
            detours={} if detour is None else {detour.digest: vectors},
        )  # fmt: skip

    return replace(one(photos), by_view={view: one(photos.seen(view)) for view in views})


def test_runs_of_earlier_versions_read_no_tokens():
    fitted = fit(METHOD, EAGER, make_task())
    arrays = fitted.head.arrays()
    old = {name: one for name, one in arrays.items() if name not in ("centre", "share")}
    old["tuned"] = old["tuned"][:, : old["plain"].shape[1]]
    head = METHOD.load(old)
    shown = by_detour(head, make_task(), "validation")
    vectors = shown.detours[head.detour.digest]
    expected = vectors @ old["tuned"].T + shown.vectors @ old["plain"].T + old["bias"]
    np.testing.assert_allclose(head.scores(shown), expected, rtol=1e-5)


def test_names_without_photos_keep_zero_shot_s_order():
    task = make_task()
    task = replace(task, train=task.train.take(np.flatnonzero(task.train.labels != 1)),
                   images=replace(task.images, train=task.images.train.take(
                       np.flatnonzero(task.train.labels != 1))))  # fmt: skip
    fitted = fit(METHOD, EAGER, task)
    assert isinstance(fitted.head, TunedHead)
    kept = {**fitted.arrays, **fitted.head.arrays()}
    shown = by_detour(fitted.head, task, "validation")
    other = task.tower.variant(class_names=("otter", "hazel", "class 2", "steam", "class 1"))
    renamed = METHOD.rename(kept, other)
    scores = renamed.scores(shown)
    text = normalise(other.forward(other.start[None])[0])
    unseen = [0, 1, 3, 4]
    cosines = task.validation.vectors @ text[unseen].T
    assert np.array_equal(scores[:, unseen].argsort(axis=1), cosines.argsort(axis=1))
    # A class without photos is such a name, in the fitted head, too; the others keep their row.
    before = fitted.head.scores(shown)
    np.testing.assert_allclose(scores[:, 4], before[:, 1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores[:, 2], before[:, 2], rtol=1e-4, atol=1e-4)
    assert "class 1" not in record_names(task).tobytes().decode()


def test_the_descent_follows_the_slope_of_its_loss():
    """One small step along it lowers the loss by as much as the slopes say (finite difference of
    the text and the states), and the start changes nothing."""
    draws = np.random.default_rng(0)
    task, tower = make_task(), ToyImageTower()
    seen, labels = see(tower, task.images.train), task.train.labels
    assert np.allclose(Factors({}).states(tower.last_block, seen.widened()),
                       task.train.states, atol=5e-3)  # fmt: skip
    text = normalise(draws.normal(size=(4, 6)))
    states = draws.normal(size=(24, 10))
    weights = tower.projection.astype(float)

    def loss(s, t):
        return float(cross_entropy(20 * normalise(s @ weights.T) @ t.T, labels))

    by_states, by_text = error_slopes(states, labels, weights, text, 20.0, len(states))
    for slope, move in ((by_states, lambda d: (states + d, text)),
                        (by_text, lambda d: (states, text + d))):  # fmt: skip
        step = draws.normal(size=slope.shape)
        wanted = (loss(*move(1e-6 * step)) - loss(*move(-1e-6 * step))) / 2e-6
        assert (slope * step).sum() == pytest.approx(wanted, rel=1e-5)
    losses = []
    exact = Seen.of(tower.trace(tower.pixels(task.images.train.decoded()))[0], tower.last_block.eps)
    descent = tune(tower.last_block, tower.projection, exact, labels, text, 20.0,
                   rank=2, rate=0.01, penalty=0.01, seed=1)  # fmt: skip
    for _, factors in zip(range(30), descent, strict=False):
        vectors = normalise(factors.states(tower.last_block, exact) @ tower.projection.T)
        weight = np.linalg.lstsq(vectors, np.eye(4)[labels], rcond=None)[0]
        losses.append(((vectors @ weight - np.eye(4)[labels]) ** 2).sum())
    assert losses[-1] < losses[0]


def test_features_alone_are_not_enough():
    with pytest.raises(InputError, match="this task holds features alone"):
        fit(METHOD, EAGER, make_task(images=None))


def pictures():
    """Photos of two classes and their names."""
    draws = np.random.default_rng(0)
    about, labels = draws.integers(60, 190, (2, 40, 40, 3)), np.tile([0, 1], 12)
    photos = list((about[labels] + draws.integers(-60, 60, (24, 40, 40, 3))).astype(np.uint8))
    return photos, [("cat", "dog")[k] for k in labels]


@linux
@pytest.mark.parametrize("family", ["clip", "dual"])
def test_under_a_limit_it_is_the_same(family, tmp_path, monkeypatch):
    """Tokens pass through a file in place of memory, and in other chunks; so do predictions."""
    better = count(0, -1)  # random towers and photos: that tuning pays is not what is tested here
    monkeypatch.setattr(image_ladder, "_loss", lambda *_: next(better))
    model = small_model(family, tmp_path)
    photos, names = pictures()

    def make(limit):
        return PromptClassifier(
            "ladder+image", settings={"evidence": 4, "steps": (2,)}, model=model, threads=1,
            memory_limit=limit,
        ).fit(photos, names, shots=8)  # fmt: skip

    def fail(*_, **__):
        raise AssertionError("the image tower was opened in this process")

    free = make(None)
    monkeypatch.setattr(seen_file, "_BYTES", 6000)  # a few photos at a time
    with monkeypatch.context() as patched:
        patched.setattr(tower.OnnxImageTower, "__init__", fail)
        bounded = make("2GB")
        found = bounded.predict_proba(photos)
        run = bounded.save(tmp_path / "run")
        loaded = PromptClassifier.load(run, memory_limit="2GB").predict_proba(photos)
    assert isinstance(bounded.fit_.head, TunedHead)
    assert bounded.fit_.notes["chosen_steps"] == free.fit_.notes["chosen_steps"] == 2
    assert bounded.fit_.image_passes == free.fit_.image_passes
    # Signs of slopes move the factors, and of random towers many slopes are nothing but rounding.
    np.testing.assert_allclose(found, free.predict_proba(photos), atol=5e-3)
    np.testing.assert_allclose(loaded, found, atol=1e-5)


@linux
def test_a_limit_that_cannot_be_met_is_refused_with_the_least(tmp_path):
    """The block, its copy and slopes are part of it: it is more than the default needs."""
    model, (photos, names), least = small_model("clip", tmp_path), pictures(), {}
    for method in ("ladder+tokens", "ladder+image"):
        bounded = PromptClassifier(method, model=model, threads=1, memory_limit="1MB")
        with pytest.raises(BudgetError, match=r"at least \d+ MB") as refused:
            bounded.fit(photos, names, shots=8)
        least[method] = int(re.search(r"least (\d+) MB", str(refused.value))[1])
    assert least["ladder+image"] > least["ladder+tokens"]


def test_tokens_in_a_file_are_those_in_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    task = make_task()
    kept = see(ToyImageTower(), task.images.train, ["mirror"])
    limited = ToyImageTower()
    limited.at_once = 5
    with ExitStack() as stack:
        stored = see(limited, task.images.train, ["mirror"], stack)
        assert isinstance(stored, SeenFile)
        assert len(stored) == len(kept) == 2 * len(task.train)
        for rows in (slice(0, 3), slice(7, len(kept))):  # products of other batches round anew
            some, wanted = stored.take(rows), kept.take(rows)
            assert some.normal.dtype == np.float16
            np.testing.assert_allclose(some.normal, wanted.normal, atol=2e-3)
            np.testing.assert_allclose(some.first, wanted.first, atol=1e-5)
    with pytest.raises(ValueError, match="closed"):
        stored.take(slice(0, 1))
    assert not list(tmp_path.iterdir())


def test_a_descent_reads_a_file_as_it_reads_memory():
    task, tower = make_task(), ToyImageTower()
    block, text = tower.last_block, normalise(task.tower.untuned)
    kept = see(tower, task.images.train)
    with closing(SeenFile(len(kept), kept.normal.shape[1:])) as stored:
        stored.put(0, kept)
        stored.at_once = 5
        moved = [
            next(tune(block, tower.projection, photos, task.train.labels, text, 20.0,
                      rank=2, rate=0.1, penalty=0.01, seed=1))
            for photos in (stored, kept)
        ]  # fmt: skip
        found = moved[0].states(block, stored, range(3, 20))
    for part, (low, high) in moved[1].pairs.items():
        np.testing.assert_allclose(moved[0].pairs[part][0], low, atol=1e-5)
        # The first step goes along the signs of the slopes.
        assert np.median(np.abs(moved[0].pairs[part][1] - high)) <= 1e-5
        assert np.abs(high).max() > 1e-3
    np.testing.assert_allclose(found, moved[1].states(block, kept)[3:20], atol=1e-2)


@linux
@pytest.mark.parametrize("end", ["an error", "a signal"])
def test_the_file_is_gone_however_a_fit_ends(end, tmp_path):
    code = """
import os, signal, sys
import numpy as np
from sharpzo.methods.last_block import Seen
from sharpzo.methods.seen_file import SeenFile
kept = SeenFile(4, (3, 8))
kept.put(0, Seen(np.ones((4, 3, 8)), np.ones((4, 8))))
assert kept.take(slice(1, 3)).normal.all()
if sys.argv[1] == "an error":
    raise RuntimeError
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, end], env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == (1 if end == "an error" else -15)
    assert not list(tmp_path.iterdir())


@linux
def test_a_full_disk_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    full = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
    with closing(SeenFile(4, (3, 8))) as kept, pytest.raises(OSError, match="No space") as refused:
        kept.put(0, Seen(np.ones((4, 3, 8)), np.ones((4, 8))))
    assert refused.value.filename == str(tmp_path)


@pytest.mark.parametrize("name", ["tuned", "image_query_low", "image_fc2_high", "unseen_text"])
def test_a_damaged_artefact(name):
    fitted = fit(METHOD, EAGER, make_task())
    kept = {**fitted.arrays, **fitted.head.arrays()}
    del kept["tuned" if name == "tuned" else name]
    if name == "tuned":
        with pytest.raises(ArtifactError):
            METHOD.load(kept)
        return
    with pytest.raises(ArtifactError):
        METHOD.rename(kept, ToyTower())


@pytest.mark.parametrize("family", ["clip", "dual"])
def test_predictions_survive_the_artefact(family, tmp_path, monkeypatch):
    better = count(0, -1)  # random towers and photos: that tuning pays is not what is tested here
    monkeypatch.setattr(image_ladder, "_loss", lambda *_: next(better))
    small_model(family, tmp_path)
    photos, names = pictures()
    settings = {"evidence": 4, "rate": 0.03}
    made = PromptClassifier(
        "ladder+image", settings=settings, model=tmp_path / "model", threads=1,
        cache=tmp_path / "cache",
    ).fit(photos, names, shots=8)  # fmt: skip
    assert isinstance(made.fit_.head, TunedHead)
    before = made.predict_proba(photos)
    run = made.save(tmp_path / "run")
    loaded = PromptClassifier.load(run, cache=tmp_path / "cache")
    np.testing.assert_allclose(loaded.predict_proba(photos), before, rtol=1e-4, atol=1e-6)
    fresh = PromptClassifier.load(run)  # one pass gives tokens and states
    np.testing.assert_allclose(fresh.predict_proba(photos), before, rtol=1e-3, atol=1e-5)
    others = loaded.rename(["the cat", "photo of a dog", "dog"]).predict_proba(photos)
    assert others.shape == (24, 3)
    assert made._trained.features["validation"].detours.keys() == {made.fit_.head.detour.digest}
    again = PromptClassifier(
        "ladder+image", settings=settings, model=tmp_path / "model", threads=1
    ).fit(photos, names, shots=8)  # fmt: skip
    for name, array in made.fit_.head.arrays().items():
        assert np.array_equal(array, again.fit_.head.arrays()[name]), name
