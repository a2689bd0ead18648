import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import FakeTower, make_features
from sharpzo.descent import minimise
from sharpzo.errors import ArtifactError
from sharpzo.linear import LinearHead
from sharpzo.methods import linear_probe, projection
from sharpzo.methods.choose import PenaltySettings
from sharpzo.methods.projection import ProjectionSettings, fit_projection
from sharpzo.methods.registry import Task
from sharpzo.metrics import accuracy, normalise
from sharpzo.types import Features


def test_lbfgs_finds_the_minimum_of_rosenbrock():
    from scipy.optimize import rosen, rosen_der

    found = minimise(lambda x: (rosen(x), rosen_der(x)), np.full(10, -1.0), steps=500)
    assert np.allclose(found, 1, atol=1e-4)


@settings(max_examples=25)
@given(st.integers(1, 12), st.integers(0, 1000))
def test_lbfgs_solves_random_quadratics(dim, seed):
    draws = np.random.default_rng(seed)
    half = draws.normal(size=(dim, dim))
    matrix, target = half @ half.T + np.eye(dim), draws.normal(size=dim)
    found = minimise(
        lambda x: (0.5 * float((x - target) @ matrix @ (x - target)), matrix @ (x - target)),
        np.zeros(dim),
    )
    assert np.allclose(found, target, atol=1e-4)


def test_linear_probe_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.linear_model")
    photos = make_features(FakeTower(), per_class=12)
    penalty = 1e-3
    settings = PenaltySettings(penalty=penalty)
    head = linear_probe.fit(settings, Task(photos, None, FakeTower())).head
    # scikit-learn minimises sum CE * C + ||W||^2 / 2: C = 1 / (2 N penalty).
    reference = sklearn.LogisticRegression(C=1 / (2 * len(photos) * penalty), tol=1e-8)
    reference.fit(photos.vectors.astype(np.float64), photos.labels)
    ours = head.scores(photos)
    theirs = reference.decision_function(photos.vectors)
    ours, theirs = ours - ours.mean(1, keepdims=True), theirs - theirs.mean(1, keepdims=True)
    assert np.abs(ours - theirs).max() < 1e-2 * np.abs(theirs).max()


def test_validation_chooses_the_penalty_and_training_photos_do_not():
    tower = FakeTower()
    train = make_features(tower, per_class=2, noise=1.0)
    validation = make_features(tower, per_class=50, noise=1.0, seed=1)
    chosen = PenaltySettings()
    fitted = linear_probe.fit(chosen, Task(train, validation, tower))
    reached = accuracy(fitted.head.scores(validation), validation.labels)
    fits = [
        linear_probe.fit(PenaltySettings(penalty=other), Task(train, None, tower)).head
        for other in chosen.penalties
    ]
    scores = [accuracy(one.scores(validation), validation.labels) for one in fits]
    # Cold starts end within the solver's tolerance of the warm-started path.
    assert reached >= max(scores) - 0.01 > min(scores)
    assert fitted.notes["penalty"] in chosen.penalties


def tuned(tower, train, validation=None, **kwargs):
    return fit_projection(
        tower.states(tower.start[None])[0], tower.projection, tower.logit_scale,
        train, validation, ProjectionSettings(**kwargs),
    )  # fmt: skip


def test_projection_starts_at_zero_shot_and_its_factors_give_its_head():
    tower = FakeTower()
    train = make_features(tower)
    states = tower.states(tower.start[None])[0]
    still = tuned(tower, train, penalty=1e6)
    assert np.allclose(still.head.weight, normalise(states @ tower.projection.T), atol=1e-3)
    found = tuned(tower, train, penalty=1e-3)
    lengths = np.linalg.norm(states @ tower.projection.T, axis=1, keepdims=True)
    rebuilt = states @ (tower.projection + found.left @ found.right).T / lengths
    assert np.allclose(found.head.weight, rebuilt, atol=1e-4)
    assert not np.allclose(found.head.weight, still.head.weight, atol=0.1)
    assert found.left.shape[1] <= len(tower.class_names)


def test_projection_reaches_the_minimum_of_its_loss_by_torch():
    torch = pytest.importorskip("torch")
    tower = FakeTower()
    train = make_features(tower)
    penalty = 1e-3
    found = tuned(tower, train, penalty=penalty)
    states = torch.tensor(tower.states(tower.start[None])[0], dtype=torch.float64)
    base = torch.tensor(tower.projection, dtype=torch.float64)
    delta = torch.tensor(found.left @ found.right, dtype=torch.float64, requires_grad=True)
    lengths = (states @ base.T).norm(dim=1, keepdim=True)
    scale = (states.norm(dim=1).mean() / lengths.mean()) ** 2
    text = states @ (base + delta).T / lengths
    logits = tower.logit_scale * torch.tensor(train.vectors, dtype=torch.float64) @ text.T
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(train.labels))
    (loss + penalty * scale * (delta**2).sum()).backward()
    assert delta.grad is not None
    assert delta.grad.abs().max() < 1e-5  # full D x H gradient: the span argument holds, too


def test_projection_improves_on_zero_shot_and_keeps_an_orthogonal_unseen_class():
    tower = FakeTower(classes=3, width=12, features=6)
    train, test = make_features(tower), make_features(tower, seed=5)
    states = tower.states(tower.start[None])[0]
    found = tuned(tower, train, test)
    zero_shot = LinearHead.of_text(normalise(states @ tower.projection.T), tower.logit_scale)
    before = accuracy(zero_shot.scores(test), test.labels)
    assert accuracy(found.head.scores(test), test.labels) > before + 0.2
    unseen = np.linalg.svd(states)[2][-1]  # orthogonal to every tuned state
    assert np.allclose((found.left @ found.right) @ unseen, 0, atol=1e-5)


def test_head_refuses_incomplete_and_misshapen_arrays():
    head = LinearHead(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), 2.0)
    arrays = head.arrays()
    photos = Features(np.eye(3), np.arange(3), ("a", "b", "c"))
    assert np.array_equal(LinearHead.from_arrays(arrays).scores(photos), 2 * np.eye(3))
    with pytest.raises(ArtifactError, match="lacks the array 'bias'"):
        LinearHead.from_arrays({k: v for k, v in arrays.items() if k != "bias"})
    with pytest.raises(ArtifactError, match=r"weight \(3, 3\), bias \(2,\)"):
        LinearHead.from_arrays({**arrays, "bias": np.zeros(2, np.float32)})


def test_a_damaged_projection_is_named():
    with pytest.raises(ArtifactError, match="lacks the array 'projection_left'"):
        projection.rename({}, FakeTower())
