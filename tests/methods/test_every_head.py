"""Every head through its method: what holds for all of them, and the awkward photos."""

from dataclasses import replace

import numpy as np
import pytest

from fakes import FakeTower, make_features
from sharpzo.data.layouts import IMAGENET_TEMPLATES
from sharpzo.descent import Adam, cosine
from sharpzo.errors import InputError
from sharpzo.methods import Images, Task, find, fit
from sharpzo.methods.cached import mean_views, read_text, record_templates, recorded_templates
from sharpzo.methods.kernel import KernelHead
from sharpzo.methods.tip_adapter import TipFSettings, loss_and_gradient
from sharpzo.metrics import accuracy, normalise
from sharpzo.rng import generator

HEADS = ["zero-shot", "lp++", "clap", "tip-adapter", "tip-adapter-f", "gda", "proker", "prolip"]
TOWER = FakeTower()
STATES = 7
PROJECTION = np.random.default_rng(5).normal(size=(6, STATES)).astype(np.float32)


class ProjectionOnly:
    projection = PROJECTION


def with_states(photos):
    """States that the projection makes the photos' vectors of, up to length."""
    inverse = np.linalg.pinv(PROJECTION.astype(np.float64))
    states = 3 * photos.vectors @ inverse.T
    return replace(photos, states=states.astype(np.float32))


def task(train, validation=None, views=None, seed=1):
    return Task(
        train, validation, TOWER, seed=seed, views=views,
        images=Images(None, None, ProjectionOnly),  # type: ignore[arg-type]
    )  # fmt: skip


def photos(per_class=6, **kwargs):
    return with_states(make_features(TOWER, per_class, **kwargs))


def view_of(train, views):
    noise = np.random.default_rng(8).normal(size=(views, *train.states.shape)) / 5
    states = (train.states + noise).reshape(-1, STATES).astype(np.float32)
    rows = np.tile(np.arange(len(train)), views)
    return replace(train.take(rows), vectors=normalise(states @ PROJECTION.T), states=states)


TRAIN, VALIDATION, TEST = photos(), photos(4, seed=1), photos(30, seed=2)


def fitted(name, given, **changes):
    method = find(name)
    return fit(method, method.configure(None, changes), given)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_deterministic_small_and_survives_its_artefact(name):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = (fitted(name, task(TRAIN, VALIDATION)) for _ in range(2))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    arrays = {**first.arrays, **first.head.arrays()}
    assert all(np.array_equal(arrays[k], v) for k, v in again.head.arrays().items())
    scores = first.head.scores(TEST)
    assert scores.shape == (len(TEST), 4)
    loaded = find(name).load({k: v.copy() for k, v in arrays.items()})
    assert np.allclose(loaded.scores(TEST), scores, rtol=1e-5, atol=1e-5)
    assert all(array.dtype in (np.float32, np.uint8) for array in arrays.values())
    assert first.forwards == 1
    assert first.image_passes == 0
    assert np.isfinite([float(number) for number in first.notes.values()]).all()


@pytest.mark.parametrize("name", HEADS[1:])
def test_a_head_that_saw_photos_beats_the_text_alone(name):
    before = fitted("zero-shot", task(TRAIN)).head.scores(TEST)
    for validation in (VALIDATION, None):
        after = fitted(name, task(TRAIN, validation)).head.scores(TEST)
        assert accuracy(after, TEST.labels) > accuracy(before, TEST.labels)


# Few photos, photos that stand there twice and classes without one are the conformance suite's.
AWKWARD = {
    "one class alone": TRAIN.take(TRAIN.labels == 1),
    "one photo in all": TRAIN.take(np.array([7])),
    "one photo for all classes": replace(
        TRAIN.take(np.zeros(4, int)), labels=np.arange(4), states=TRAIN.states[[0] * 4]
    ),
    "the text itself": with_states(
        replace(
            TRAIN.take(np.arange(0, 24, 6)),
            vectors=read_text(TOWER).features,
        )
    ),
}


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("train", AWKWARD.values(), ids=AWKWARD)
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.filterwarnings("error")
def test_awkward_photos_give_finite_scores(name, train, validated):
    one = VALIDATION.take(np.array([3, 9]))  # classes without a validation photo, too
    found = fitted(name, task(train, one if validated else None))
    scores = found.head.scores(TEST)
    assert scores.shape == (len(TEST), 4)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", ["tip-adapter", "tip-adapter-f"])
def test_a_class_without_a_photo_is_left_to_its_text(name):
    train = TRAIN.take(TRAIN.labels != 2)
    tuned = fitted(name, task(train)).head.scores(TEST)
    text = fitted("zero-shot", task(train)).head.scores(TEST)
    assert np.allclose(tuned[:, 2], text[:, 2], atol=1e-4)
    assert not np.allclose(tuned[:, 1], text[:, 1], atol=0.1)


@pytest.mark.parametrize("name", HEADS[1:])
def test_views_are_read_where_a_method_asks_for_them(name):
    # Adam's steps are absolute: this projection's entries are twenty times as large as a tower's.
    settings = {"views": 3} | ({"rate": 0.02} if name == "prolip" else {})
    given = task(TRAIN, VALIDATION, views=view_of(TRAIN, 3))
    found = fitted(name, given, **settings)
    assert found.image_passes == 72
    plain = fitted(name, task(TRAIN, VALIDATION))
    assert not np.allclose(found.head.scores(TEST), plain.head.scores(TEST), atol=1e-3)
    assert accuracy(found.head.scores(TEST), TEST.labels) > 0.5


def test_keys_are_the_mean_of_raw_features_of_views():
    views = view_of(TRAIN, 3)
    raw = (views.states @ PROJECTION.T).reshape(3, 24, 6)
    given = task(TRAIN, views=views)
    assert np.allclose(mean_views(given), normalise(raw.mean(axis=0)), atol=1e-6)
    assert np.allclose(mean_views(given, 2), normalise(raw[:2].mean(axis=0)), atol=1e-6)
    assert not np.allclose(mean_views(given), normalise(views.vectors.reshape(3, 24, 6).mean(0)))
    assert mean_views(task(TRAIN)) is TRAIN.vectors


def test_tip_adapter_f_trains_on_the_views_after_its_keys():
    views = view_of(TRAIN, 3)
    settings = TipFSettings(views=3, key_views=2, epochs=2)
    method = find("tip-adapter-f")
    expected = fit(method, settings, task(TRAIN, views=views)).head
    last = views.take(np.tile(np.arange(48, 72), 1))
    keys = mean_views(task(TRAIN, views=views), 2)
    text = read_text(TOWER).features
    values = np.eye(len(text), dtype=np.uint8)[TRAIN.labels]
    cache = KernelHead(text, keys, values, TOWER.logit_scale, settings.alpha, settings.beta)
    adam = Adam(eps=settings.eps, decay=settings.decay)
    for epoch in range(2):
        rows = generator(1, "tip-adapter-f", step=epoch).permutation(len(TRAIN))
        _, slope = loss_and_gradient(cache, last.vectors[rows], last.labels[rows])
        keys = adam.move(cache.keys, slope, settings.rate * cosine(epoch, 2))
        cache = replace(cache, keys=keys)
    assert np.allclose(expected.arrays()["keys"], keys, atol=1e-6)


def test_text_of_an_ensemble_is_the_normalised_mean_of_normalised_features():
    parts = [TOWER.variant(template=template) for template in IMAGENET_TEMPLATES]
    raw = [part.forward(part.start[None])[0] for part in parts]
    assert len({part.tobytes() for part in raw}) > 1
    found = read_text(TOWER, "ensemble")
    assert found.forwards == 7
    assert np.allclose(found.features, normalise(np.mean([normalise(r) for r in raw], axis=0)))
    own = TOWER.forward(TOWER.start[None])[0]
    both = read_text(TOWER, "both", raw=True)
    assert both.forwards == 8
    assert np.allclose(both.features, np.mean([own, *raw], axis=0), atol=1e-6)
    assert np.array_equal(read_text(TOWER).features, normalise(own))


@pytest.mark.parametrize("name", HEADS)
def test_every_head_reads_the_templates_it_is_told(name):
    run, ensemble = (
        fitted(name, task(TRAIN, VALIDATION), templates=templates)
        for templates in ("run", "ensemble")
    )
    assert (run.forwards, ensemble.forwards) == (1, 7)
    assert not np.array_equal(run.head.scores(TEST), ensemble.head.scores(TEST))
    with pytest.raises(InputError, match="templates is 'seven'"):
        fitted(name, task(TRAIN), templates="seven")


@pytest.mark.parametrize("name", ["zero-shot", "prolip"])
@pytest.mark.parametrize("templates", ["run", "ensemble"])
def test_unseen_names_are_read_as_the_known_ones_were(name, templates):
    method = find(name)
    found = fitted(name, task(TRAIN, VALIDATION), templates=templates)
    arrays = {**found.arrays, **found.head.arrays()}
    assert method.rename is not None
    same = method.rename(arrays, TOWER)
    assert np.allclose(same.scores(TEST), found.head.scores(TEST), atol=1e-4)
    names = ["a", "b", "c", "d", "e"]
    renamed = method.rename(arrays, TOWER.variant(class_names=names))
    assert renamed.scores(TEST).shape == (len(TEST), 5)
    assert recorded_templates(record_templates(templates)) == templates
    assert recorded_templates({}) == "run"


@pytest.mark.parametrize("name", set(HEADS) - {"zero-shot", "prolip"})
def test_heads_with_parameters_a_class_say_that_they_know_no_other_names(name):
    assert find(name).rename is None


def test_published_settings_are_those_of_the_papers():
    tip = find("tip-adapter").configure("published/flowers")
    assert (tip.views, tip.alpha, tip.beta) == (10, 10, 1)
    assert (len(tip.betas), len(tip.alphas), tip.betas[0]) == (200, 20, 0.1)
    assert 49 < tip.betas[-1] < 50
    assert 47 < tip.alphas[-1] < 50
    tuned = find("tip-adapter-f").configure("published/eurosat")
    assert (tuned.epochs, tuned.rate, tuned.eps, tuned.batch) == (100, 1e-3, 1e-4, 256)
    assert (tuned.alpha, tuned.beta, tuned.views, tuned.key_views) == (2, 1, 110, 10)
    gda = find("gda").configure("published")
    assert gda.alphas == tuple(10.0**e for e in range(-4, 3))
    assert gda.ridge_views == 10
    clap = find("clap").configure("published")
    assert (clap.views, clap.rate, clap.momentum, clap.epochs) == (20, 0.1, 0.9, 300)
    assert clap.text_length is None
    assert clap.batch == 256
    assert clap.warm_up == 1e-5
    probe = find("lp++").configure("published")
    assert (probe.views, probe.alpha_gradient, probe.text_share) == (1, "accumulated", 250)
    prolip = find("prolip").configure("published")
    assert (prolip.views, prolip.steps, prolip.rate, prolip.penalties) == (300, 300, 1e-5, ())
    searched = find("prolip").configure("published/validation")
    assert len(searched.rates) * len(searched.penalties) == 49
    proker = find("proker").configure("published/dtd")
    assert (proker.views, len(proker.betas), len(proker.penalties)) == (10, 20, 100)
    assert (proker.betas[0], proker.betas[-1]) == (0.1, 10)
    assert not proker.divide


def test_order_of_training_photos_in_a_batch_comes_from_the_seed():
    scores = [
        fitted("clap", task(TRAIN, seed=seed), batch=8, epochs=3).head.scores(TEST)
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])
    assert generator(1, "clap").permutation(9).tolist() != list(range(9))
