"""CoOp: the torch tower against our other towers, its gradient against differences, the schedule
and the steps against torch's own, and what the method leaves behind."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

import reference
from sharpzo.budget import Budget
from sharpzo.errors import InputError
from sharpzo.methods import Task, find, fit
from sharpzo.methods.coop import (
    CoopSettings,
    Descent,
    GradientObjective,
    epochs_for,
    schedule,
)
from sharpzo.metrics import cross_entropy, normalise
from sharpzo.testing.toys import ToyTower
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.torch_block import cores
from sharpzo.towers.torch_text import TorchTextTower
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Features, Reason
from towers.random_models import TEXT, VISION, relative, save_clip, torch

NAMES = ["cat", "xyz", "the_cat", "abcdefghijkl", "p"]  # 2 to 13 tokens with EOS
LIMIT = 1e-5


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("coop")
    vision = {**VISION, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    save_clip(root / "quick_gelu", TEXT, vision)
    save_clip(root / "gelu", {**TEXT, "hidden_act": "gelu"}, {**vision, "hidden_act": "gelu"})
    return {name: Checkpoint.open(root / name) for name in ("quick_gelu", "gelu")}


@pytest.fixture(scope="module")
def tower(checkpoints):
    return OnnxTextTower(checkpoints["quick_gelu"], NAMES, n_context=3, threads=1)


def photos(tower, per_class=4, seed=0) -> Features:
    """Photos around directions that the class names do not know."""
    draws = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(NAMES)), per_class)
    centres = np.random.default_rng(99).normal(size=(len(NAMES), len(tower.projection)))
    vectors = centres[labels] + 0.5 * draws.normal(size=(len(labels), centres.shape[1]))
    return Features(normalise(vectors).astype(np.float32), labels, tower.class_names)


def objective(tower, dtype=torch.float32, checkpointing=False, **more):
    differentiable = TorchTextTower(
        tower.checkpoint, tower.prompts, dtype=dtype, checkpointing=checkpointing
    )
    return GradientObjective(tower, differentiable, photos(tower), batch=8, **more)


def near(tower, seed=0):
    noise = np.random.default_rng(seed).normal(size=tower.start.shape)
    return tower.start + 0.3 * noise


# --- the tower -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 4])
@pytest.mark.parametrize("name", ["quick_gelu", "gelu"])
def test_features_equal_the_other_towers(checkpoints, name, n):
    ours = OnnxTextTower(checkpoints[name], NAMES, "photo of {}.", n_context=n, threads=1)
    context = near(ours).astype(np.float32)
    found = TorchTextTower(ours.checkpoint, ours.prompts)(torch.tensor(context)).numpy()
    assert relative(found, ours.forward(context[None])[0]) <= LIMIT
    exact = TorchTextTower(ours.checkpoint, ours.prompts, dtype=torch.float64)
    _, wanted = reference.forward(ours.checkpoint, ours.prompts, context[None])
    assert (
        relative(exact(torch.tensor(context)).numpy(), wanted[0]) <= 1e-6
    )  # the query's scale is float32


@pytest.mark.parametrize("n", [0, 1, 4])
def test_features_of_contexts_for_each_class(checkpoints, n):
    ours = OnnxTextTower(checkpoints["gelu"], NAMES, n_context=n, threads=1, specific=True)
    context = near(ours).astype(np.float32)
    found = TorchTextTower(ours.checkpoint, ours.prompts)(torch.tensor(context)).numpy()
    assert relative(found, ours.forward(context[None])[0]) <= LIMIT


def test_features_of_the_embedded_model():
    names = ["cat", "highway or road", "annual crop land"]
    ours = OnnxTextTower(Checkpoint.open(resolve()), names, n_context=16, threads=1)
    context = near(ours).astype(np.float32)
    found = TorchTextTower(ours.checkpoint, ours.prompts)(torch.tensor(context)).numpy()
    assert relative(found, ours.forward(context[None])[0]) <= LIMIT


def test_cores_are_given_back():
    before = torch.get_num_threads()
    with cores(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


# --- the gradient --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["quick_gelu", "gelu"])
def test_gradient_agrees_with_finite_differences(checkpoints, name):
    """Central differences of the NumPy specification in float64, which shares no code with torch;
    the loss is written out here again."""
    tower = OnnxTextTower(checkpoints[name], NAMES, "photo of {}.", threads=1)
    ours, step = objective(tower, torch.float64), 3
    seen = ours._photos(step)
    scale = tower.logit_scale

    def loss(context):
        _, text = reference.forward(tower.checkpoint, tower.prompts, context[None])
        return float(cross_entropy(scale * seen.vectors @ normalise(text[0]).T, seen.labels))

    context, h = near(tower), 1e-5
    found, gradient = ours.gradient(context.ravel(), step)
    assert found[0] == pytest.approx(loss(context), rel=1e-6)
    gradient = gradient.reshape(context.shape)
    draws = np.random.default_rng(1)
    directions = [draws.normal(size=context.shape) for _ in range(4)]
    directions += [np.eye(1, context.size, i).reshape(context.shape) for i in (0, 17, 63)]
    for along in directions:
        difference = (loss(context + h * along) - loss(context - h * along)) / (2 * h)
        assert (gradient * along).sum() == pytest.approx(difference, rel=1e-5, abs=1e-6)


def test_float32_gradient_and_loss_are_near_the_exact_ones(tower):
    point = near(tower).ravel()
    exact = objective(tower, torch.float64).gradient(point)
    single = objective(tower).gradient(point)
    assert single[0] == pytest.approx(exact[0], rel=1e-5)
    assert relative(single[1], exact[1]) <= 1e-4


def test_checkpointing_changes_no_gradient(tower):
    point = near(tower).ravel()
    plain = objective(tower).gradient(point)
    checkpointed = objective(tower, checkpointing=True).gradient(point)
    assert np.array_equal(plain[0], checkpointed[0])
    assert relative(checkpointed[1], plain[1]) <= 1e-6


def test_gradients_are_counted_and_independent_of_earlier_ones(tower):
    ours = objective(tower)
    points = np.stack([near(tower, seed).ravel() for seed in (0, 1)])
    both = [ours.gradient(point) for point in points]
    assert ours.forwards == 2
    second = objective(tower).gradient(points[1])
    assert all(np.array_equal(*pair) for pair in zip(second, both[1], strict=True))


# --- schedule and steps --------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 2, 50, 200])
def test_schedule_is_a_constant_epoch_and_then_torchs_cosine(epochs):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.002)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    wanted = [1e-5]
    for _ in range(epochs - 1):
        wanted.append(cosine.get_last_lr()[0])
        optimizer.step()
        cosine.step()
    assert schedule(CoopSettings(), epochs, 0.002) == pytest.approx(wanted, rel=1e-9)


def test_published_values():
    rates = schedule(find("coop").presets["published"], 200, 0.002)
    assert rates[0] == 1e-5
    assert rates[1] == 0.002
    assert rates[101] == pytest.approx(0.001)
    assert rates[-1] == pytest.approx(0.002 * 0.5 * (1 + np.cos(np.pi * 198 / 200)))
    labels = {1: 50, 2: 100, 4: 100, 8: 200, 16: 200}
    for shots, epochs in labels.items():
        train = Features(np.zeros((2 * shots, 1)), np.repeat([0, 1], shots), ("a", "b"))
        assert epochs_for(train) == epochs
    published = find("coop").configure("published")
    assert (published.tokens, published.start, published.choose) == (16, "random", False)
    assert (published.learning_rate, published.momentum, published.batch) == (0.002, 0.9, 32)
    assert (published.weight_decay, published.std, published.epochs) == (5e-4, 0.02, None)
    assert find("coop").configure("published-4").tokens == 4


def test_steps_are_torchs_sgd():
    draws = np.random.default_rng(0)
    matrix, start, rates = draws.normal(size=(5, 5)), draws.normal(size=5), [0.01, 0.02, 0.005]
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.SGD([parameter], lr=1.0, momentum=0.9, weight_decay=0.1)
    ours = Descent(start, np.array(rates), momentum=0.9, weight_decay=0.1)
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        (parameter @ torch.tensor(matrix) @ parameter).backward()
        optimizer.step()
        point = ours.ask().points[0]
        ours.tell(np.array([point @ matrix @ point]), (matrix + matrix.T) @ point)
        assert np.allclose(ours.point, parameter.detach().numpy(), rtol=1e-12)
    assert ours.stopped is Reason.STEPS


def test_a_loss_that_is_no_number_ends_the_run():
    ours = Descent(np.ones(2), np.ones(3), momentum=0.9, weight_decay=0.0)
    ours.tell(np.array([np.inf]), np.ones(2))
    assert ours.stopped is Reason.DIVERGED
    assert np.array_equal(ours.point, np.ones(2))


# --- the method ----------------------------------------------------------------------------------


def task(tower, **more):
    return Task(photos(tower), photos(tower, 2, seed=5), tower, **more)


SHORT = CoopSettings(epochs=4, batch=5, learning_rate=0.05, validate_every=6)


def test_the_training_loss_falls(tower):
    before = fit(find("zero-shot"), find("zero-shot").settings, task(tower))
    received = []
    after = fit(find("coop"), SHORT, task(tower, listen=received.append))
    train = photos(tower)
    losses = [float(cross_entropy(f.head.scores(train), train.labels)) for f in (before, after)]
    assert losses[1] < 0.8 * losses[0]
    assert after.notes["training_loss"] == pytest.approx(losses[1], rel=1e-4)
    assert after.steps == after.notes["backward_passes"] == 4 * 4
    assert after.reason is Reason.STEPS
    # A validation comes after every 6 forwards, of which one is the last validation.
    assert [step.step for step in received] == [0, 5, 10, 15, 16]
    assert after.forwards == 16 + len(received)


@pytest.mark.parametrize("preset", [None, *find("coop").presets])
@pytest.mark.parametrize("name", ["coop", "coop-csc"])
def test_every_preset_lowers_the_training_loss(tower, name, preset):
    """At its own rate, from its own start, for six epochs of its schedule."""
    method, received = find(name), []
    changes = {"epochs": 6, "views": 0, "choose": False, "validate_every": 1}
    settings = method.configure(preset, changes)
    if settings.tokens is not None:
        settings = replace(settings, tokens=min(settings.tokens, 8))  # the toy reads 32 tokens
    fit(method, settings, replace(task(tower, listen=received.append), validation=None))
    assert received[-1].loss < received[0].loss


def test_equal_seeds_give_equal_fits_and_others_do_not(tower):
    settings = CoopSettings(epochs=2, batch=5, tokens=5, start="random")
    state = torch.random.get_rng_state()
    contexts = [
        fit(find("coop"), settings, task(tower, seed=seed)).arrays["context"] for seed in (1, 1, 2)
    ]
    assert torch.equal(state, torch.random.get_rng_state())
    assert contexts[0].shape == (5, 32)
    assert np.array_equal(contexts[0], contexts[1])
    assert not np.allclose(contexts[0], contexts[2])


@pytest.mark.parametrize("tokens", [None, 1, 6])
def test_the_kept_context_makes_the_same_classifier(tower, tokens):
    """Also where its length is not the given tower's."""
    fitted = fit(find("coop"), CoopSettings(epochs=1, batch=5, tokens=tokens), task(tower))
    same = find("coop").rename(fitted.arrays, tower)
    train = photos(tower)
    assert np.allclose(same.scores(train), fitted.head.scores(train), atol=1e-4)
    others = find("coop").rename(fitted.arrays, tower.variant(class_names=["dog", "zz"]))
    assert others.scores(train).shape == (len(train), 2)


def test_contexts_for_each_class_learn_more_than_one_for_all(tower):
    """As the head reads them: the same photos, rate and steps end at a lower loss."""
    train = photos(tower)
    settings = CoopSettings(epochs=12, batch=5, learning_rate=0.05, choose=False)
    both = [fit(find(name), settings, task(tower)) for name in ("coop", "coop-csc")]
    losses = [float(cross_entropy(one.head.scores(train), train.labels)) for one in both]
    assert losses[1] < losses[0]
    assert both[1].notes["training_loss"] == pytest.approx(losses[1], rel=1e-4)
    assert both[1].arrays == {}
    assert find("coop-csc").rename is None


def test_views_take_the_place_of_the_photos(tower):
    train = photos(tower)
    turned = Features(np.tile(-train.vectors, (2, 1)), np.tile(train.labels, 2), train.class_names)
    seen = objective(tower, views=turned)
    point = near(tower).ravel()
    assert seen.gradient(point)[0] != objective(tower).gradient(point)[0]


def test_the_callers_budget_ends_it_sooner(tower):
    fitted = fit(find("coop"), SHORT, task(tower, budget=Budget(forwards=9)))
    assert fitted.reason is Reason.FORWARDS
    assert fitted.forwards <= 9


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"tokens": 0}, "tokens is 0"),
        ({"start": "zeros"}, "start is 'zeros'"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"momentum": 1.5}, "momentum is 1.5"),
    ],
)
def test_wrong_settings_are_one_sentence(change, sentence):
    with pytest.raises(InputError, match=sentence):
        CoopSettings(**change)


def test_too_long_a_context_and_no_context_are_one_sentence(tower):
    with pytest.raises(InputError, match="with 30 context tokens"):
        fit(find("coop"), CoopSettings(tokens=30), task(tower))
    bare = OnnxTextTower(tower.checkpoint, NAMES, "{}", threads=1)
    with pytest.raises(InputError, match="set tokens"):
        fit(find("coop"), CoopSettings(), task(bare))


def test_a_tower_without_weights_is_one_sentence():
    toy = ToyTower(class_names=NAMES)
    with pytest.raises(InputError, match="ToyTower has none"):
        fit(find("coop"), CoopSettings(), task(toy))


def test_missing_torch_is_one_sentence_with_the_command(tower, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"pip install 'sharpzo\[torch\]'"):
        fit(find("coop"), CoopSettings(), task(tower))
