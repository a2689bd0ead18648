"""The box and the constants of evolution strategies are pycma's."""

import cma
import numpy as np
import pytest
from cma.transformations import BoxConstraintsLinQuadTransformation

from sharpzo.errors import InputError
from sharpzo.optim.evolution import constants, default_population, into_box, out_of_box


@pytest.mark.parametrize("bound", [0.03, 0.7, 1.0, 5.0, 100.0])
def test_the_box_is_pycmas(bound):
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


@pytest.mark.parametrize(("dim", "population"), [(2, 6), (10, 10), (40, 15), (512, 40)])
@pytest.mark.parametrize("active", [True, False])
def test_the_constants_are_pycmas(dim, population, active):
    # pycma 4.5 takes two-point adaptation from 300 dimensions on; the authors' 4.0.0 had CSA.
    options = {"popsize": population, "verbose": -9, "CMA_active": active}
    options["AdaptSigma"] = cma.sigma_adaptation.CMAAdaptSigmaCSA
    es = cma.CMAEvolutionStrategy(np.zeros(dim), 1.0, options)
    es.ask()
    csa = es.adapt_sigma.initialize(es)
    ours, rates = constants(dim, population, active), es.sm.parameters()
    np.testing.assert_allclose(ours.weights, es.sp.weights, rtol=1e-12)
    theirs = [es.sp.weights.mueff, es.sp.cc, rates["c1"], rates["cmu"], csa.cs, csa.damps]
    np.testing.assert_allclose(
        [ours.mu_eff, ours.c_c, ours.c_1, ours.c_mu, ours.c_sigma, ours.d_sigma],
        theirs,
        rtol=1e-12,
    )
    np.testing.assert_allclose(ours.chi, cma.utilities.math.Mh.chiN(dim), rtol=1e-5)
    np.testing.assert_allclose(ours.eigen_gap, es.sm.lazy_update_gap, rtol=1e-12)


def test_values_of_the_authors_run():
    # Figures of the authors' run for N = 512, lambda = 40: pycma 4.0.0.
    c = constants(512, 40, active=True)
    assert c.mu == 20
    assert f"{c.weights[c.weights < 0].sum():.2f}" == "-1.10"
    assert [round(w, 3) for w in c.weights[:4]] == [0.167, 0.129, 0.106, 0.090]


def test_weights_are_sane_for_every_small_case():
    for dim in range(1, 12):
        for population in range(2, 40):
            c = constants(dim, population, active=True)
            assert c.weights[: c.mu].sum() == pytest.approx(1)
            assert (c.weights[c.mu :] <= 0).all()
            assert 0 < c.c_1 + c.c_mu <= 1
            # Enough is left of C to stay positive definite (eq. 53).
            assert c.c_mu * -c.weights[c.mu :].sum() * dim <= 1 - c.c_1 - c.c_mu + 1e-12
            assert 1 - c.c_1 - c.c_mu * c.weights.sum() >= 0
    assert default_population(1) == 4
