import numpy as np
import pytest

from sharpzo.optim.gradients import Differences, sample_gradient

rng = np.random.default_rng(7)
A = rng.normal(size=(6, 6))
POINT = rng.normal(size=6)


def smooth(x):
    return np.sum(np.tanh(x @ A) ** 2, axis=1) + np.sum(x**3, axis=1)


def smooth_gradient(w):
    inner = np.tanh(w @ A)
    return A @ (2 * inner * (1 - inner**2)) + 3 * w**2


def cge(point, mu):
    """Every coordinate of a point."""
    return Differences(point, np.eye(len(point)), mu)


def asked(probe):
    return probe.request().points


def test_cge_block_is_every_coordinate_both_ways():
    block = asked(cge(POINT, 0.1))
    assert block.shape == (12, 6)
    np.testing.assert_allclose(block[2] - POINT, [0, 0, 0.1, 0, 0, 0], atol=1e-15)
    np.testing.assert_allclose(block[8] - POINT, [0, 0, -0.1, 0, 0, 0], atol=1e-15)


def test_cge_equals_the_analytic_gradient():
    probe = cge(POINT, 1e-5)
    estimate = probe.slopes(smooth(asked(probe)))
    np.testing.assert_allclose(estimate, smooth_gradient(POINT), rtol=1e-6, atol=1e-7)


def test_cge_error_is_of_second_order():
    errors = [
        np.abs(probe.slopes(smooth(asked(probe))) - smooth_gradient(POINT)).max()
        for probe in (cge(POINT, 1e-1), cge(POINT, 1e-2))
    ]
    assert errors[0] / errors[1] > 50  # two-sided: mu^2, one-sided would give 10


def test_rge_is_unbiased():
    q = 4000
    directions = rng.standard_normal((q, 6))
    probe = Differences(POINT, directions, 1e-5)
    single = probe.slopes(smooth(asked(probe)))[:, None] * directions
    deviation = single.std(axis=0) / np.sqrt(q)
    assert (np.abs(single.mean(axis=0) - smooth_gradient(POINT)) < 3 * deviation + 1e-6).all()


def test_rge_on_a_masked_direction_moves_only_what_the_mask_keeps():
    kept = np.array([1, 0, 1, 0, 0, 1])
    directions = rng.standard_normal((5, 6)) * kept
    block = asked(Differences(POINT, directions, 0.3))
    assert (block[:, kept == 0] == POINT[kept == 0]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_pair_with_a_non_finite_loss_contributes_nothing(bad):
    losses = np.array([1.0, bad, 3.0, bad, 0.5, 2.0, bad, bad])
    assert cge(np.zeros(4), 0.25).slopes(losses).tolist() == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_sided_differences_need_the_loss_at_the_point(bad):
    probe = Differences(np.zeros(2), np.eye(2), 0.5, one_sided=True)
    assert asked(probe).tolist() == [[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]]
    assert probe.slopes(np.array([1.0, 2.0, bad])).tolist() == [2.0, 0.0]
    assert probe.slopes(np.array([bad, 2.0, 3.0])).tolist() == [0.0, 0.0]


def test_one_dimension():
    probe = cge(np.array([2.0]), 0.5)
    assert asked(probe).tolist() == [[2.5], [1.5]]
    assert probe.slopes(np.array([6.25, 2.25])).tolist() == [4.0]


def test_sample_gradient_is_the_slope_of_a_plane_in_expectation():
    """Of a linear loss the estimate is the true slope times the samples' covariance over its mean
    eigenvalue, exactly; that covariance tends to the identity."""
    slope = np.array([2.0, -1.0, 0.5])
    for seed in range(3):
        samples = 0.3 * np.random.default_rng(seed).standard_normal((4000, 3)) + 5
        found = sample_gradient(samples, samples @ slope + 7)
        covariance = np.cov(samples.T)
        expected = covariance @ slope / (np.trace(covariance) / 3)
        np.testing.assert_allclose(found, expected)
        np.testing.assert_allclose(found, slope, atol=0.3)


def test_sample_gradient_leaves_out_what_is_not_finite():
    samples = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [9.0, 9.0]])
    losses = np.array([3.0, -3.0, -2.0, 2.0, np.inf])
    np.testing.assert_allclose(sample_gradient(samples, losses), [3.0, -2.0])
    assert not sample_gradient(samples, np.full(5, np.inf)).any()
    assert not sample_gradient(np.ones((3, 2)), np.arange(3.0)).any()
