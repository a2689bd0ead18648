"""Hand-written gradients against torch's, and what theory says of LP++'s steps."""

from dataclasses import replace

import numpy as np
import pytest

from fakes import FakeTower, make_features
from sharpzo.errors import ArtifactError, InputError
from sharpzo.methods import clap, lp_plus_plus, prolip, tip_adapter
from sharpzo.methods.kernel import KernelHead
from sharpzo.methods.lp_plus_plus import LpPlusPlusSettings, Parameters
from sharpzo.methods.prolip import ProjectedHead
from sharpzo.methods.registry import Task
from sharpzo.methods.tip_adapter import TipFSettings
from sharpzo.metrics import accuracy, normalise
from sharpzo.types import Features

torch = pytest.importorskip("torch")
ce = torch.nn.functional.cross_entropy
unit = torch.nn.functional.normalize

TOWER = FakeTower()
TRAIN = make_features(TOWER, per_class=6)
RAW = TOWER.forward(TOWER.start[None])[0].astype(np.float64)
TEXT = normalise(RAW)
X, LABELS = TRAIN.vectors.astype(np.float64), TRAIN.labels
K, D = TEXT.shape
DRAWS = np.random.default_rng(7)


def leaf(array):
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


def fixed(array):
    return torch.tensor(array, dtype=torch.float64)


def agree(ours, loss, theirs):
    """Backpropagate and compare loss and gradients."""
    loss.backward()
    assert np.isclose(ours[0], loss.item(), rtol=1e-9)
    gradients = ours[1] if isinstance(ours[1], tuple) else (ours[1],)
    for gradient, parameter in zip(gradients, theirs, strict=True):
        assert parameter.grad.abs().max() > 1e-6
        assert np.allclose(gradient, parameter.grad.numpy(), rtol=1e-8, atol=1e-10)


def test_lp_plus_plus_gradient():
    at = Parameters(DRAWS.normal(size=(K, D)), DRAWS.normal(size=K), DRAWS.normal(size=K))
    weight, bias, alpha = (leaf(part) for part in at)
    logits = fixed(X) @ weight.T + bias + alpha * (fixed(X) @ fixed(TEXT).T)
    ours = lp_plus_plus.loss_and_gradient(at, X, LABELS, TEXT)
    agree(ours, ce(logits, torch.tensor(LABELS)), (weight, bias, alpha))


def test_clap_gradient_and_multipliers():
    hold = clap.multipliers(X, LABELS, RAW, 20.0)
    zero_shot = torch.softmax(20 * fixed(X) @ unit(fixed(RAW)).T, dim=1).numpy()
    assert np.allclose(hold, [zero_shot[k == LABELS, k].mean() for k in range(K)])
    moved = RAW + DRAWS.normal(size=RAW.shape)
    weight = leaf(moved)
    loss = ce(20 * fixed(X) @ unit(weight).T, torch.tensor(LABELS))
    loss = loss + (fixed(hold) * ((weight - fixed(RAW)) ** 2).sum(dim=1)).mean()
    agree(clap.loss_and_gradient(moved, X, LABELS, RAW, hold, 20.0), loss, (weight,))


def test_tip_adapter_f_gradient():
    moved = X + 0.1 * DRAWS.normal(size=X.shape)
    cache = KernelHead(TEXT, moved, np.eye(K, dtype=np.uint8)[LABELS], 20.0, 2.5, 4.0)
    batch = np.arange(0, len(X), 2)
    keys, photos = leaf(moved), fixed(X[batch])
    near = torch.exp(-4.0 * (1 - photos @ keys.T))
    logits = 20 * photos @ fixed(TEXT).T + 2.5 * near @ fixed(np.eye(K)[LABELS])
    ours = tip_adapter.loss_and_gradient(cache, X[batch], LABELS[batch])
    agree(ours, ce(logits, torch.tensor(LABELS[batch])), (keys,))


def test_prolip_gradient():
    states, base = DRAWS.normal(size=(len(X), 9)), DRAWS.normal(size=(D, 9))
    moved = base + 0.1 * DRAWS.normal(size=base.shape)
    weight = leaf(moved)
    loss = ce(20 * unit(fixed(states) @ weight.T) @ fixed(TEXT).T, torch.tensor(LABELS))
    loss = loss + 0.3 * ((weight - fixed(base)) ** 2).sum()
    ours = prolip.loss_and_gradient(moved, base, states, LABELS, TEXT, 20.0, 0.3)
    agree(ours, loss, (weight,))


def test_step_sizes_of_lp_plus_plus_are_the_majorisers():
    rate, alpha_rate = lp_plus_plus.step_sizes(X, TEXT)
    assert np.isclose(rate, 4 * len(X) / np.linalg.eigvalsh(X.T @ X).max())
    assert np.isclose(rate, 4 * len(X) / np.linalg.norm(X, 2) ** 2)
    sums = [sum(float(photo @ TEXT[k]) ** 2 for photo in X) for k in range(K)]
    assert np.isclose(alpha_rate, len(X) / (4 * max(sums)))


@pytest.mark.parametrize("seed", range(5))
def test_the_published_steps_are_within_the_lipschitz_bounds(seed):
    """The Hessian's largest eigenvalue, by torch, is at most 2 / rate_w and 1 / (8 rate_alpha)."""
    draws = np.random.default_rng(seed)
    rate, alpha_rate = lp_plus_plus.step_sizes(X, TEXT)
    weight, alpha = 3 * draws.normal(size=(K, D)), 20 * draws.normal(size=K)
    cosines = fixed(X) @ fixed(TEXT).T
    y = torch.tensor(LABELS)

    def loss_of_weight(flat):
        return ce(fixed(X) @ flat.reshape(K, D).T + fixed(alpha) * cosines, y)

    def loss_of_alpha(share):
        return ce(fixed(X) @ fixed(weight).T + share * cosines, y)

    hessian = torch.autograd.functional.hessian
    curvature = hessian(loss_of_weight, fixed(weight.ravel())).numpy()
    assert np.linalg.eigvalsh(curvature).max() <= 2 / rate
    curvature = hessian(loss_of_alpha, fixed(alpha)).numpy()
    assert np.linalg.eigvalsh(curvature).max() <= 1 / (8 * alpha_rate)


@pytest.mark.parametrize("seed", range(3))
def test_no_step_of_weight_or_alpha_raises_the_loss_of_lp_plus_plus(seed):
    draws = np.random.default_rng(seed)
    rate, alpha_rate = lp_plus_plus.step_sizes(X, TEXT)
    at = Parameters(draws.normal(size=(K, D)), np.zeros(K), 10 * draws.normal(size=K))
    losses = []
    for step in range(60):
        loss, slope = lp_plus_plus.loss_and_gradient(at, X, LABELS, TEXT)
        losses.append(loss)
        if step % 2:
            at = at._replace(alpha=at.alpha - alpha_rate * slope.alpha)
        else:
            at = at._replace(weight=at.weight - rate * slope.weight)
    assert (np.diff(losses) <= 1e-12).all()
    assert losses[-1] < 0.5 * losses[0]


def test_lp_plus_plus_starts_as_published_and_sums_gradients_only_if_told():
    settings = LpPlusPlusSettings()
    at = lp_plus_plus.start(X, LABELS, TEXT, settings, seed=1)
    assert np.allclose(at.weight, [X[k == LABELS].sum(axis=0) for k in range(K)])
    share = np.mean([(X[k == LABELS] @ TEXT[k]).mean() for k in range(K)])
    assert np.allclose(at.alpha, 250 * share)
    assert not at.bias.any()
    random = lp_plus_plus.start(X, LABELS, TEXT, LpPlusPlusSettings(bias_start="random"), 1).bias
    assert random.any()
    assert np.abs(random).max() <= D**-0.5
    # Twenty epochs by hand, without momentum: alpha moves at 10 and 20.
    for gradient in ("fresh", "accumulated"):
        settings = LpPlusPlusSettings(epochs=20, momentum=0.0, alpha_gradient=gradient)
        fitted = lp_plus_plus.fit(settings, Task(TRAIN, None, TOWER))
        rate, alpha_rate = lp_plus_plus.step_sizes(X, TEXT)
        weight, bias, alpha = at
        total = np.zeros(K)
        for step in range(1, 21):
            slope = lp_plus_plus.loss_and_gradient(
                Parameters(weight, bias, alpha), X, LABELS, TEXT
            )[1]
            total = total + slope.alpha
            weight, bias = weight - rate * slope.weight, bias - rate * slope.bias
            if step % 10 == 0:
                alpha = alpha - alpha_rate * (slope.alpha if gradient == "fresh" else total)
        assert fitted.notes == {"epoch": 20}
        assert np.allclose(fitted.head.weight, weight + alpha[:, None] * TEXT, rtol=1e-4, atol=1e-3)


def test_validation_photos_choose_the_epoch_of_lp_plus_plus():
    validation = make_features(TOWER, per_class=4, noise=1.5, seed=3)
    reached = []
    for epochs in range(1, 31):
        head = lp_plus_plus.fit(LpPlusPlusSettings(epochs=epochs), Task(TRAIN, None, TOWER)).head
        reached.append(accuracy(head.scores(validation), validation.labels))
    for ties in ("later", "loss"):
        settings = LpPlusPlusSettings(epochs=30, ties=ties)
        epoch = lp_plus_plus.fit(settings, Task(TRAIN, validation, TOWER)).notes["epoch"]
        assert reached[epoch - 1] == max(reached) > min(reached)
        if ties == "later":
            assert epoch == 30 - reached[::-1].index(max(reached))


def test_tip_adapter_f_trains_by_torchs_adamw():
    """The whole run, photos in our order, against torch's autograd, AdamW and schedule."""
    settings = TipFSettings(epochs=7, batch=10, rate=0.05, alpha=2.5, beta=4.0)
    fitted = tip_adapter.fit_f(settings, Task(replace(TRAIN, vectors=X), None, TOWER, seed=4))
    keys = leaf(X)
    optimiser = torch.optim.AdamW([keys], lr=0.05, eps=1e-4)  # decay 0.01 by default
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 7 * 3)
    values = fixed(np.eye(K)[LABELS])
    for number in range(7):
        order = tip_adapter.generator(4, "tip-adapter-f", step=number).permutation(len(X))
        for batch in (order[:10], order[10:20], order[20:]):
            photos = fixed(X[batch])
            near = torch.exp(-4.0 * (1 - photos @ keys.T))
            logits = 20 * photos @ fixed(TEXT).T + 2.5 * near @ values
            optimiser.zero_grad()
            ce(logits, torch.tensor(LABELS[batch])).backward()
            optimiser.step()
            schedule.step()
    assert fitted.notes["epoch"] == 7
    assert np.allclose(fitted.head.keys, keys.detach().numpy(), atol=1e-6)
    assert not np.allclose(fitted.head.keys, X, atol=0.05)


def test_clap_without_constraint_is_a_probe_that_starts_at_the_text():
    free, held, still = (
        clap.fit(clap.ClapSettings(**changes), Task(TRAIN, None, TOWER)).head
        for changes in ({"constraint": "none"}, {}, {"epochs": 1, "warm_up": 1e-12})
    )
    assert np.allclose(still.weight, TEXT, atol=1e-6)
    away = [np.linalg.norm(head.weight - TEXT) for head in (free, held)]
    assert away[0] > 1.2 * away[1] > 0.1
    assert np.allclose(np.linalg.norm(free.weight, axis=1), 1, atol=1e-5)


def test_projected_head_refuses_incomplete_arrays_and_photos_without_states():
    head = ProjectedHead(np.ones((D, 9), np.float32), TEXT.astype(np.float32), 20.0)
    arrays = head.arrays()
    photos = Features(TRAIN.vectors, LABELS, TRAIN.class_names, states=DRAWS.normal(size=(24, 9)))
    assert np.allclose(ProjectedHead.from_arrays(arrays).scores(photos), head.scores(photos))
    with pytest.raises(ArtifactError, match="lacks the array 'text'"):
        ProjectedHead.from_arrays({k: v for k, v in arrays.items() if k != "text"})
    with pytest.raises(ArtifactError, match=r"image_projection \(5, 9\)"):
        ProjectedHead.from_arrays({**arrays, "image_projection": np.ones((5, 9))})
    with pytest.raises(InputError, match="without states"):
        head.scores(TRAIN)
