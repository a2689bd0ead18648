"""Photos that come one by one, against one fit to all of them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sharpzo.data.photo import as_photo
from sharpzo.fitting import trained as module
from sharpzo.fitting.growth import add, forget
from sharpzo.fitting.kept import TRAINING, Split, keep_splits
from sharpzo.fitting.trained import Trained
from sharpzo.methods import Task, find, fit
from sharpzo.metrics import normalise
from sharpzo.testing.toys import ToyTower
from sharpzo.types import Features

METHOD = find("ladder+tokens")
NAMES = tuple(f"class {k}" for k in range(5))
PROJECTION = np.random.default_rng(3).normal(size=(6, 10)).astype(np.float32)
MIDDLES = np.random.default_rng(4).normal(size=(len(NAMES), 30))


class Towers:
    """States, patches and tokens are a photo's pixels."""

    checkpoint = SimpleNamespace(fingerprint="toy")

    def text(self, names, template):
        return ToyTower(class_names=names, template=template)

    def encode(self, splits, *given):
        return {
            name: features([p.decode() for p in split.photos], split.labels, split.class_names)
            for name, split in splits.items()
        }


def features(pixels, labels, names):
    rows = np.array(pixels, np.float32).reshape(len(pixels), 30) - 128
    states, patches = rows[:, :10], rows[:, 10:].reshape(-1, 2, 10)
    return Features(
        normalise(states @ PROJECTION.T), np.asarray(labels), names, states=states,
        tokens=patches[:, ::-1] ** 2, patches=patches,
    )  # fmt: skip


def paint(many, seed=1):
    """Photos of one row of ten pixels, the classes one after the other."""
    labels = np.arange(many) % len(NAMES)
    noise = np.random.default_rng(seed).normal(size=(many, 30))
    rows = np.clip(128 + 20 * (MIDDLES[labels] + noise), 0, 255).astype(np.uint8)
    return [as_photo(row.reshape(1, 10, 3)) for row in rows], labels


@pytest.fixture
def known():
    """The features that the run keeps."""
    photos, labels = paint(60, seed=9)
    rows = np.flatnonzero(labels < 3)[:10]
    return Split(
        features([photos[i].decode() for i in rows], labels[rows], NAMES[:3]),
        tuple(photos[i].digest() for i in rows),
    )


@pytest.fixture
def run(monkeypatch, known):
    """A run of ten photos of the first three classes."""
    family = SimpleNamespace(projection=lambda checkpoint: PROJECTION)
    monkeypatch.setattr(module, "image_family", lambda checkpoint: family)
    record = {
        "model": {"sha256": "toy"}, "template": "a photo of a {}.", "preset": None, "settings": {},
        "seed": 1, "data": {}, "sharpzo_version": "1", "class_names": list(NAMES[:3]),
    }  # fmt: skip
    arrays = keep_splits({TRAINING: known})
    return Trained(METHOD, Towers(), None, NAMES[:3], None, arrays, record)


def reference(split):
    """The head of a fit from scratch."""
    tower = ToyTower(class_names=split.class_names)
    return fit(METHOD, METHOD.settings, Task(split, None, tower, 1)).head.arrays()


def close(one, other):
    for name, array in other.items():
        np.testing.assert_allclose(one[name], array, atol=1e-5, err_msg=name)


def test_an_early_run_kept_tokens_and_reads_those_of_new_photos(run, known):
    old = replace(known, features=replace(known.features, patches=None))
    photos, labels = paint(20)
    grown = add(
        replace(run, arrays=keep_splits({TRAINING: old})), photos, [NAMES[k] for k in labels]
    )
    more = features([photo.decode() for photo in photos], labels, NAMES)
    whole = old.relabelled(np.arange(3), NAMES).features
    fields = ("vectors", "labels", "states", "tokens")
    joined = {name: np.concatenate([getattr(whole, name), getattr(more, name)]) for name in fields}
    close(grown.trained.arrays, reference(replace(whole, **joined)))


def test_a_hundred_adds_in_a_row_are_one_fit_and_forget_takes_them_back(run):
    photos, labels = paint(100)
    given = [NAMES[k] for k in labels]
    grown = run
    for photo, name in zip(photos, given, strict=True):
        grown = add(grown, [photo], [name]).trained
    before = run.splits[TRAINING].features
    assert grown.class_names == NAMES
    new = features([photo.decode() for photo in photos], labels, NAMES)
    joined = {
        field: np.concatenate([getattr(before, field), getattr(new, field)])
        for field in ("vectors", "labels", "states", "patches")
    }
    at_once = Features(class_names=NAMES, **joined)
    close(grown.arrays, reference(at_once))
    assert grown.record["data"]["training_photos"] == 110
    back = forget(grown, photos[::-1]).trained
    assert back.class_names == NAMES[:3]
    close(back.arrays, reference(before))
