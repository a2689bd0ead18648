import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sharpzo.errors import InputError
from sharpzo.optim import ZoSettings
from sharpzo.optim.zo import kept, mask, scores

W = np.array([0.5, -2.0, 1.0, 0.1])
G = np.array([3.0, 0.1, -1.0, -4.0])


def test_z_score_is_equation_5():
    squared = G**2
    expected = np.abs(W) ** 2 * (squared - squared.mean()) / np.sqrt(np.var(squared))
    np.testing.assert_allclose(scores("z", W, G), expected, rtol=1e-14)


def test_z_score_can_be_negative_and_then_a_large_weight_lowers_it():
    values = scores("z", np.array([2.0, 1.0, 1.0]), np.array([0.0, 0.0, 5.0]))
    assert values[0] < values[1] < 0 < values[2]


def test_release_keeps_the_lowest_of_the_score_on_absolute_gradients():
    theirs = W**2 * (np.abs(G) - np.abs(G).mean()) / (np.abs(G).std() + 1e-8)
    lowest = np.argsort(theirs)[:2]  # pruning_score ascending, first prune_ratio * d
    chosen = mask(scores("release", W, G), 0.5)
    assert set(np.flatnonzero(chosen)) == set(lowest)


def test_magnitude_and_dense():
    assert mask(scores("magnitude", W), 0.5).tolist() == [False, True, True, False]
    assert mask(scores("dense", W), 1.0).all()


def test_equal_gradients_give_equal_scores_not_a_division_by_zero():
    assert (scores("z", W, np.ones(4)) == 0).all()
    assert np.isfinite(scores("release", W, np.ones(4))).all()


def test_a_score_that_needs_a_gradient_says_so():
    with pytest.raises(InputError, match="needs a gradient"):
        scores("z", W)


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.1, np.nan])
def test_keep_is_a_share(keep):
    with pytest.raises(InputError, match="keep is"):
        ZoSettings(keep=keep)


@given(
    st.integers(1, 40).flatmap(
        lambda d: arrays(float, d, elements=st.floats(-3, 3) | st.just(np.nan) | st.just(np.inf))
    ),
    st.floats(0.01, 1.0),
)
def test_mask_keeps_the_highest(values, keep):
    before = values.copy()
    chosen = mask(values, keep)
    if (values == values[0]).all():  # no coordinate is preferred
        assert chosen.all()
        return
    assert chosen.sum() == kept(keep, len(values))
    assert len(values) * keep - 1e-6 <= chosen.sum() < len(values) * keep + 1
    ordered = np.where(np.isnan(values), -np.inf, values)
    if not chosen.all():
        assert ordered[chosen].min() >= ordered[~chosen].max()
        edge = ordered[chosen].min()
        ties = np.flatnonzero(ordered == edge)
        inside = chosen[ties]
        assert (inside[:-1] >= inside[1:]).all()  # ties go to the lower index
    assert before.tobytes() == values.tobytes()


def test_at_zero_the_gradient_alone_decides():
    gradient = np.array([0.1, 3.0, -2.0, 0.2])
    chosen = mask(scores("z", np.zeros(4), gradient), 0.5)
    assert chosen.tolist() == [False, True, True, False]
