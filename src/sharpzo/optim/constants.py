"""Hansen's default strategy parameters of CMA-ES as a function of dimension and population.

Section and equation numbers: N. Hansen, The CMA Evolution Strategy: A Tutorial, arXiv
1604.00772. Where pycma differs from the tutorial by a detail (c_sigma, c_1, c_mu), pycma's value
stands here, because SharpZO's authors ran pycma and the tests compare against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sharpzo.types import Array


@dataclass(frozen=True, eq=False)
class Constants:
    """Strategy parameters: ``weights`` (P,) in the order of rank, learning rates and dampings."""

    weights: Array
    mu: int  # number of positive weights
    mu_eff: float  # variance-effective number of parents
    c_sigma: float  # 1 / memory of the path of sigma
    d_sigma: float  # damping of sigma
    c_c: float  # 1 / memory of the path of C
    c_1: float  # learning rate of the rank-one update
    c_mu: float  # learning rate of the rank-mu update
    chi: float  # E ||N(0, I)||
    eigen_gap: float  # generations between two eigendecompositions


def default_population(dim: int) -> int:
    """Return 4 + floor(3 ln d) (eq. 48).

    >>> default_population(512)
    22
    """
    return 4 + math.floor(3 * math.log(dim))


def constants(dim: int, population_size: int, active: bool) -> Constants:
    """Return the default parameters; ``active`` gives the worse half negative weights.

    >>> c = constants(512, 40, active=True)
    >>> c.mu, round(c.mu_eff, 2), f"{c.c_c:.2e} {c.c_1:.2e} {c.c_mu:.2e}"
    (20, 11.31, '7.79e-03 7.59e-06 7.30e-05')
    """
    raw = math.log((population_size + 1) / 2) - np.log(np.arange(1, population_size + 1))  # eq. 49
    positive = np.maximum(raw, 0)
    negative = np.minimum(raw, 0)
    mu_eff = float(positive.sum() ** 2 / (positive**2).sum())
    mu_eff_minus = float(negative.sum() ** 2 / (negative**2).sum())

    c_sigma = min(0.5, (mu_eff + 2) / (dim + mu_eff + 3))  # eq. 55; tutorial: + 5
    d_sigma = 1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (dim + 1)) - 1) + c_sigma  # eq. 55
    c_c = (4 + mu_eff / dim) / (dim + 4 + 2 * mu_eff / dim)  # eq. 56
    c_1 = min(1, population_size / 6) * 2 / ((dim + 1.3) ** 2 + mu_eff)  # eq. 57
    c_mu = min(1 - c_1, 2 * (0.25 + mu_eff - 2 + 1 / mu_eff) / ((dim + 2) ** 2 + mu_eff))  # eq. 58

    weights = positive / positive.sum()  # eq. 53
    if active:
        # Eqs. 50-53: no decay of C on average; not more than mu_eff-; C stays positive definite.
        total = min(
            1 + c_1 / c_mu,
            1 + 2 * mu_eff_minus / (mu_eff + 2),
            (1 - c_1 - c_mu) / (dim * c_mu),
        )
        weights = weights + total * negative / -negative.sum()
    return Constants(
        weights=weights,
        mu=int(np.count_nonzero(positive)),
        mu_eff=mu_eff,
        c_sigma=c_sigma,
        d_sigma=d_sigma,
        c_c=c_c,
        c_1=c_1,
        c_mu=c_mu,
        chi=math.sqrt(2) * math.exp(math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2)),
        eigen_gap=1 / (10 * dim * (c_1 + c_mu)),  # appendix B.2
    )
