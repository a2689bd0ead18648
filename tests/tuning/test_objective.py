import numpy as np
import pytest

from fakes import FakeTower, make_features
from sharpzo.errors import InputError
from sharpzo.metrics import cross_entropy, normalise, softmax
from sharpzo.tuning.contexts import ContextMap, unit_std
from sharpzo.tuning.objective import BATCH, PromptObjective, measure_smoothing


@pytest.fixture
def objective():
    tower = FakeTower()
    contexts = ContextMap(tower.start, dim=5, std=0.3, seed=1)
    return PromptObjective(tower, make_features(tower), contexts)


def test_loss_is_the_mean_cross_entropy_of_scaled_cosines(objective):
    tower, train = objective.tower, objective.train
    w = np.random.default_rng(0).normal(size=5)
    context = tower.start + (objective.contexts.matrix @ w).reshape(tower.start.shape)
    text = normalise(tower.forward(context[None].astype(np.float32))[0])
    probabilities = softmax(tower.logit_scale * train.vectors @ text.T)
    expected = -np.log(probabilities[np.arange(len(train)), train.labels]).mean()
    assert objective.losses(w[None])[0] == pytest.approx(expected, rel=1e-5)


def test_batches_give_the_losses_of_single_candidates_and_count_forwards(objective):
    many = np.random.default_rng(0).normal(size=(2 * BATCH + 3, 5))
    together = objective.losses(many)
    assert objective.forwards == len(many)
    assert np.allclose(together, [objective.losses(w[None])[0] for w in many], rtol=1e-6)
    assert objective.forwards == 2 * len(many)
    objective.evaluate(many[0])
    assert objective.forwards == 2 * len(many) + 1


def test_a_loss_that_is_no_number_becomes_infinite_and_is_counted(objective):
    candidates = np.zeros((3, 5))
    candidates[1] = np.nan
    with np.errstate(invalid="ignore"):
        losses = objective.losses(candidates)
    assert np.isinf(losses[1])
    assert np.isfinite(losses[[0, 2]]).all()
    assert objective.failures == 1


def test_context_map_is_rebuilt_from_its_seed_and_scaled_by_the_tower():
    tower = FakeTower(width=400)
    std = unit_std(tower)
    one, same, other = (
        ContextMap(tower.start, dim=50, std=std, seed=seed).matrix for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    moved = one @ (np.ones(50) / np.sqrt(50))  # |w| = 1 moves a token by one token distance
    lengths = np.linalg.norm(moved.reshape(tower.start.shape), axis=1)
    assert lengths == pytest.approx(tower.token_distance, rel=0.2)


def test_an_empty_context_is_refused():
    with pytest.raises(InputError, match="words before"):
        ContextMap(np.zeros((0, 8), np.float32), dim=4, std=1.0, seed=1)


def test_cross_entropy_does_not_overflow():
    assert cross_entropy(np.array([[1e4, 0.0]], np.float32), np.array([1])) == pytest.approx(1e4)


class Noisy:
    """f(w) = sin(sum w) with rounding noise of a known size."""

    def __init__(self, noise):
        self.noise, self.draws, self.forwards = noise, np.random.default_rng(0), 0

    def losses(self, candidates):
        self.forwards += len(candidates)
        return np.sin(candidates.sum(axis=1)) + self.noise * self.draws.normal(size=len(candidates))


@pytest.mark.parametrize("noise", [1e-8, 1e-6, 1e-4])
def test_smoothing_is_near_the_best_step_for_the_noise(noise):
    objective, direction = Noisy(noise), np.array([1.0, 0.0])
    mu = measure_smoothing(objective, np.zeros(2), direction)
    assert objective.forwards == 12
    ideal = (3 * noise) ** (1 / 3)  # the third derivative is -1
    assert ideal / 2 < mu < 2 * ideal
    # A longer direction gets a step that is shorter in proportion.
    assert measure_smoothing(Noisy(noise), np.zeros(2), 10 * direction) == pytest.approx(mu / 10)
