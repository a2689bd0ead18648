import numpy as np
import pytest
from cma.transformations import BoxConstraintsLinQuadTransformation

from sharpzo.errors import InputError
from sharpzo.optim.evolution import into_box, out_of_box


@pytest.mark.parametrize("bound", [0.03, 0.7, 1.0, 5.0, 100.0])
def test_equals_pycma(bound):
    x = np.random.default_rng(0).normal(scale=4 * bound, size=400)
    theirs = BoxConstraintsLinQuadTransformation([[-bound, bound]] * len(x))(x)
    np.testing.assert_allclose(into_box(x, bound), theirs, atol=1e-12 * max(1, bound))


def test_identity_inside_is_exact():
    x = np.random.default_rng(0).uniform(-4.7, 4.7, size=1000)
    assert into_box(x, 5.0).tobytes() == x.tobytes()
    assert into_box(x, None) is x


@pytest.mark.parametrize("bound", [0.03, 1.0, 5.0])
def test_inverse(bound):
    x = np.linspace(-bound, bound, 1001)
    np.testing.assert_allclose(into_box(out_of_box(x, bound), bound), x, atol=1e-12)


def test_start_outside_the_box_is_refused():
    with pytest.raises(InputError, match=r"5.5.*outside the box of \+-5"):
        out_of_box(np.array([0.0, 5.5]), 5.0)
