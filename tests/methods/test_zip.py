import numpy as np
import pytest

from sharpzo.budget import Budget
from sharpzo.errors import InputError
from sharpzo.methods import Task, find, fit
from sharpzo.methods.zip import ZipSettings
from sharpzo.optim import Spsa
from sharpzo.testing.toys import ToyTower, make_features
from sharpzo.tuning.contexts import Fastfood, ZipContexts, walsh_hadamard


def hadamard(length):
    """Sylvester's construction, dense."""
    matrix = np.ones((1, 1))
    while len(matrix) < length:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


@pytest.mark.parametrize("length", [1, 2, 8, 64])
def test_the_fast_transform_is_the_dense_product(length):
    rows = np.random.default_rng(0).normal(size=(3, 2, length))
    np.testing.assert_allclose(walsh_hadamard(rows), rows @ hadamard(length), atol=1e-12)


@pytest.mark.parametrize("width", [512, 256, 96])
def test_fastfood_is_its_dense_matrices(width):
    lift = Fastfood(tokens=3, width=width, seed=4)
    length = {512: 512, 256: 256, 96: 128}[width]
    small = np.random.default_rng(0).normal(size=(3, 20))
    big = hadamard(length)
    rows = []
    for i, z in enumerate(small):
        padded = np.concatenate([z, np.zeros(length - 20)])
        permutation = np.eye(length)[lift.orders[i]]
        product = big @ np.diag(lift.gains[i]) @ permutation @ big @ np.diag(lift.signs[i])
        norm = np.sqrt(length * (lift.gains[i] ** 2).sum()) * np.sqrt(width / length)
        rows.append((product @ padded / norm)[:width])
    np.testing.assert_allclose(lift(small), rows, atol=1e-12)
    assert set(np.unique(lift.signs)) == {-1.0, 1.0}
    assert (np.sort(lift.orders, axis=1) == np.arange(length)).all()
    assert (lift.gains[0] != lift.gains[1]).all()
    assert (lift.orders[0] != lift.orders[1]).any()


@pytest.mark.parametrize("width", [512, 96])
def test_fastfood_keeps_lengths_on_average(width):
    z = np.random.default_rng(1).normal(size=(8, 62))
    ratios = [
        np.linalg.norm(Fastfood(tokens=8, width=width, seed=seed)(z), axis=1) ** 2
        / np.linalg.norm(z, axis=1) ** 2
        for seed in range(40)
    ]
    error = np.std(ratios) / np.sqrt(np.size(ratios))
    assert abs(np.mean(ratios) - 1) < 4 * error + 1e-9
    assert error < 0.02


def test_417_numbers_make_the_published_prompt():
    start = np.random.default_rng(0).normal(0, 0.02, (8, 512)).astype(np.float32)
    contexts = ZipContexts(start, seed=1)
    assert contexts.dim == 417
    assert (contexts(contexts.first[None])[0] == start).all()
    u, s, v, shared = np.split(contexts.first, np.cumsum([40, 5, 310]))
    assert (u == 0).all()
    assert (s == 1).all()
    assert v.std() == pytest.approx(1, abs=0.15)
    assert (shared == 0).all()

    draws = np.random.default_rng(2)
    u, s, v, shared = (draws.normal(size=n) for n in ((8, 5), 5, (62, 5), 62))
    flat = np.concatenate([u.ravel(), s, v.ravel(), shared])
    small = u @ np.diag(s) @ v.T + np.outer(np.ones(8), shared)
    np.testing.assert_allclose(contexts.small(flat[None])[0], small, atol=1e-12)
    lift = Fastfood(tokens=8, width=512, seed=1)
    np.testing.assert_allclose(contexts(flat[None])[0], start + lift(small), atol=1e-5)
    moved = np.linalg.norm(contexts(flat[None])[0] - start, axis=1)
    np.testing.assert_allclose(moved, np.linalg.norm(small, axis=1), rtol=0.5)


def test_candidates_do_not_mix_and_the_seed_rebuilds_the_map():
    start = np.zeros((4, 16), np.float32)
    many = np.random.default_rng(0).normal(size=(3, ZipContexts(start, seed=2).dim))
    together = ZipContexts(start, seed=2)(many)
    alone = [ZipContexts(start, seed=2)(one[None])[0] for one in many]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert not np.allclose(together, ZipContexts(start, seed=3)(many))


def test_too_small_an_intrinsic_size():
    with pytest.raises(InputError, match="intrinsic size 7"):
        ZipContexts(np.zeros((8, 512), np.float32), seed=1, intrinsic=7)


def make_task(**more):
    tower = ToyTower(width=64)
    return Task(
        make_features(tower),
        make_features(tower, per_class=3, seed=5),
        tower,
        **more,
    )


def test_fit_lowers_the_loss_within_its_budget_ten_forwards_a_step():
    received = []
    task = make_task(budget=Budget(forwards=503), listen=received.append)
    settings = ZipSettings(choose=False, std=0.02, validate_every=10_000)
    fitted = fit(find("zip"), settings, task)
    assert fitted.forwards == 502  # 50 steps, two evaluations
    assert fitted.steps == 50
    assert received[-1].loss < received[0].loss
    assert fitted.notes["parameters"] == 8 * 5 + 5 + 62 * 5 + 62
    assert fitted.arrays["context"].shape == (8, 64)


def test_published_settings():
    how = find("zip").presets["published"]
    assert (how.tokens, how.intrinsic, how.rank, how.std, how.scale) == (8, 500, 5, 0.02, 1.0)
    assert (how.batch, how.view_scale, how.choose) == (128, (0.08, 1.0), False)
    search = how.search
    assert (search.a, search.alpha, search.o, search.c, search.gamma) == (0.01, 0.4, 1, 0.01, 0.1)
    assert (search.directions, search.clip, search.momentum) == (5, True, 0.0)
    assert how.steps * len(Spsa(417, search).ask().points) == 5000


def test_names_seen_and_unseen_from_the_artefact():
    task = make_task(budget=Budget(forwards=60))
    method = find("zip")
    fitted = fit(method, method.settings, task)
    again = method.rename(fitted.arrays, task.tower)
    np.testing.assert_allclose(
        again.scores(task.train), fitted.head.scores(task.train), rtol=1e-4, atol=1e-4
    )
