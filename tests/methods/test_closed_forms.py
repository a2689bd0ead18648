"""Closed forms against dense algebra written out, in float64."""

import numpy as np
import pytest

from fakes import FakeTower, make_features
from sharpzo.errors import ArtifactError, InputError
from sharpzo.methods import gda, proker, tip_adapter
from sharpzo.methods.cached import class_means
from sharpzo.methods.choose import choose, rank
from sharpzo.methods.gda import GdaSettings
from sharpzo.methods.kernel import KernelHead
from sharpzo.methods.proker import ProKeRSettings
from sharpzo.methods.registry import Task
from sharpzo.methods.tip_adapter import TipSettings
from sharpzo.metrics import accuracy, cross_entropy, normalise
from sharpzo.types import Features

TOWER = FakeTower()
PHOTOS_ALONE = FakeTower()  # the text has no say
PHOTOS_ALONE.logit_scale = 0.0
TRAIN = make_features(TOWER, per_class=6)
VALIDATION = make_features(TOWER, per_class=5, seed=1)
TEST = make_features(TOWER, per_class=9, seed=2)
TEXT = normalise(TOWER.forward(TOWER.start[None])[0])
K, D = TEXT.shape
X, Y = TRAIN.vectors.astype(np.float64), np.eye(K)[TRAIN.labels]
Z = TEST.vectors.astype(np.float64)


def dense_gda(vectors, labels, alpha, scale, samples):
    means = np.array([vectors[labels == k].mean(axis=0) for k in range(K)])
    centred = np.concatenate([vectors[labels == k] - means[k] for k in range(K)])
    covariance = np.cov(centred.T)
    precision = D * np.linalg.inv((samples - 1) * covariance + np.trace(covariance) * np.eye(D))
    logits = scale * Z @ TEXT.T.astype(np.float64)
    for k, mean in enumerate(means):
        bias = -np.log(K) - 0.5 * mean @ precision @ mean
        logits[:, k] += alpha * (Z @ precision @ mean + bias)
    return logits


def test_gda_is_the_dense_solution():
    fitted = gda.fit(GdaSettings(alpha=3.0), Task(TRAIN, None, TOWER))
    expected = dense_gda(X, TRAIN.labels, 3.0, 20.0, len(X))
    assert fitted.notes == {"alpha": 3.0}
    assert np.allclose(fitted.head.scores(TEST), expected, atol=1e-4 * np.abs(expected).max())


def test_gda_counts_views_in_its_ridge_as_told():
    rng = np.random.default_rng(3)
    many = normalise(np.tile(X, (4, 1)) + 0.1 * rng.normal(size=(4 * len(X), D)))
    views = Features(many.astype(np.float32), np.tile(TRAIN.labels, 4), TRAIN.class_names)
    dense = many.astype(np.float32).astype(np.float64)
    for ridge_views in (1, 4):
        settings = GdaSettings(alpha=3.0, views=4, ridge_views=ridge_views)
        head = gda.fit(settings, Task(TRAIN, None, TOWER, views=views)).head
        expected = dense_gda(dense, views.labels, 3.0, 20.0, ridge_views * len(X))
        assert np.allclose(head.scores(TEST), expected, atol=1e-4 * np.abs(expected).max())


def test_gda_without_two_photos_of_a_class_still_tells_classes_apart():
    one = TRAIN.take(np.arange(0, len(TRAIN), 6))
    head = gda.fit(GdaSettings(alpha=1.0), Task(one, None, PHOTOS_ALONE)).head
    assert accuracy(head.scores(one), one.labels) == 1


def test_gda_puts_a_class_without_a_photo_at_the_mean_of_the_others():
    some = TRAIN.take(TRAIN.labels != 2)
    head = gda.fit(GdaSettings(alpha=1.0), Task(some, None, PHOTOS_ALONE)).head
    centre = np.mean([X[TRAIN.labels == k].mean(axis=0) for k in (0, 1, 3)], axis=0)
    others = head.weight[[0, 1, 3]].astype(np.float64)
    precision_times_centre = others.mean(axis=0)  # w is linear in the mean
    assert np.allclose(head.weight[2], precision_times_centre, atol=1e-3)
    assert np.isclose(head.bias[2], -np.log(K) - 0.5 * precision_times_centre @ centre, atol=1e-3)


@pytest.mark.parametrize("divide", [False, True])
@pytest.mark.parametrize(("beta", "penalty"), [(0.7, 0.01), (3.0, 0.5)])
def test_proker_is_the_dense_solution(divide, beta, penalty):
    settings = ProKeRSettings(beta=beta, penalty=penalty, divide=divide)
    head = proker.fit(settings, Task(TRAIN, None, TOWER)).head
    text = TEXT.astype(np.float64)
    gram = np.exp(-beta * (1 - X @ X.T))
    dual = np.linalg.solve(gram / penalty + np.eye(len(X)), Y - X @ text.T)
    dual = dual / penalty if divide else dual
    expected = Z @ text.T + np.exp(-beta * (1 - Z @ X.T)) @ dual
    assert np.allclose(head.scores(TEST), expected, atol=1e-4 * np.abs(dual).max())


def test_proker_divided_minimises_the_ridge_problem():
    """(K / p + I)^-1 / p is the minimum of |Y - X t - K a|**2 + p a' K a."""
    settings = ProKeRSettings(beta=2.0, penalty=0.3, divide=True)
    head = proker.fit(settings, Task(TRAIN, None, TOWER)).head
    gram, dual = np.exp(-2.0 * (1 - X @ X.T)), head.values.astype(np.float64)
    residual = Y - X @ TEXT.T.astype(np.float64)
    gradient = gram @ (gram @ dual - residual) + 0.3 * gram @ dual
    assert np.abs(gradient).max() < 1e-4 * np.abs(gram @ residual).max()


def test_tip_adapter_is_its_formula():
    head = tip_adapter.fit(TipSettings(alpha=2.5, beta=4.0), Task(TRAIN, None, TOWER)).head
    expected = np.empty((len(Z), K))
    for i, photo in enumerate(Z):
        for k in range(K):
            keys = X[TRAIN.labels == k]
            expected[i, k] = 20 * photo @ TEXT[k] + 2.5 * np.exp(-4 * (1 - keys @ photo)).sum()
    assert np.allclose(head.scores(TEST), expected, atol=1e-4)


def test_validation_photos_choose_among_all_points_of_the_grid():
    settings = TipSettings(alphas=(0.1, 3.0, 60.0), betas=(0.5, 5.0, 50.0), alpha=1.0, beta=1.0)
    alone, task = Task(TRAIN, None, TOWER), Task(TRAIN, VALIDATION, TOWER)
    notes = tip_adapter.fit(settings, task).notes

    def ranked(fit, settings):
        return rank(fit(settings, alone).head.scores(VALIDATION), VALIDATION.labels)

    ranks = {
        (alpha, beta): ranked(tip_adapter.fit, TipSettings(alpha=alpha, beta=beta))
        for alpha, beta in [(1.0, 1.0), *((a, b) for a in settings.alphas for b in settings.betas)]
    }
    # Near-equal cross-entropies may be ordered otherwise; the rank itself must be the best.
    best = ranks[notes["alpha"], notes["beta"]]
    assert np.allclose(best, min(ranks.values()), atol=1e-5)
    notes = proker.fit(ProKeRSettings(), task).notes
    ranks = {
        (beta, penalty): ranked(proker.fit, ProKeRSettings(beta=beta, penalty=penalty))
        for beta in ProKeRSettings().betas
        for penalty in ProKeRSettings().penalties
    }
    best = ranks[notes["beta"], notes["penalty"]]
    assert np.allclose(best, min(ranks.values()), atol=1e-5)


def test_rank_puts_accuracy_first_and_numbers_that_are_none_last():
    labels = np.array([0, 1])
    confident, unsure = 5 * np.eye(2), np.eye(2)
    wrong = np.array([[1.0, 0.9], [9.0, 1.0]])
    assert rank(confident, labels) < rank(unsure, labels) < rank(wrong, labels)
    assert rank(wrong, labels) == (0.5, float(cross_entropy(wrong, labels)))
    assert rank(np.full((2, 2), np.nan), labels) > rank(-confident, labels)
    assert choose([("nan", np.full((2, 2), np.nan)), ("some", -confident)], labels) == "some"


def test_class_means_with_an_empty_class():
    means, counts = class_means(X, np.zeros(len(X), int), 3)
    assert np.allclose(means[0], X.mean(axis=0))
    assert not means[1:].any()
    assert counts.tolist() == [len(X), 0, 0]


def test_kernel_head_refuses_incomplete_and_misshapen_arrays():
    values = np.eye(4, dtype=np.uint8)[TRAIN.labels]
    head = KernelHead(TEXT, TRAIN.vectors, values, 20.0, 2.0, 3.0)
    arrays = head.arrays()
    assert arrays["values"].dtype == np.uint8  # one-hot labels stay bytes
    assert np.array_equal(KernelHead.from_arrays(arrays).scores(TEST), head.scores(TEST))
    with pytest.raises(ArtifactError, match="lacks the array 'keys'"):
        KernelHead.from_arrays({k: v for k, v in arrays.items() if k != "keys"})
    with pytest.raises(ArtifactError, match=r"values \(24, 3\)"):
        KernelHead.from_arrays({**arrays, "values": values[:, :3]})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GdaSettings(alphas=()), r"alphas is \(\)"),
        (lambda: GdaSettings(ridge_views=0), "ridge_views is 0; give an integer of at least 1"),
        (
            lambda: GdaSettings(templates="all"),
            "templates is 'all'; give one of 'run', 'ensemble', 'both'",
        ),
        (lambda: GdaSettings(view_scale=(1.0, 0.5)), "view_scale is"),
        (lambda: TipSettings(views=-1), "views is -1; give an integer of at least 0"),
        (lambda: TipSettings(alpha=float("nan")), "alpha is nan"),
        (lambda: ProKeRSettings(penalty=0.0), "penalty is 0.0"),
    ],
)
def test_settings_say_what_is_wrong_with_them(make, message):
    with pytest.raises(InputError, match=message):
        make()
