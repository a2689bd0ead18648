"""Mean and 95 % interval over seeds, and paired differences: few values, so Student's t."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# 97.5 % quantiles of Student's t for 1 to 9 degrees of freedom.
_QUANTILES = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)
_NORMAL = 1.959963985


@dataclass(frozen=True)
class Interval:
    """``mean`` of ``n`` values, and half the width of its 95 % interval; None from one value."""

    mean: float
    half: float | None
    n: int


def t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t; beyond the table Fisher's expansion (A & S 26.7.5).

    >>> round(t_quantile(2), 2), round(t_quantile(30), 3)
    (4.3, 2.042)
    """
    if freedom < 1:
        raise ValueError(f"degrees of freedom are {freedom}; at least 1 is needed")
    if freedom <= len(_QUANTILES):
        return _QUANTILES[freedom - 1]
    z, v = _NORMAL, freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def interval(values: Sequence[float]) -> Interval:
    """Mean ± t * s / sqrt(n) of at least one value.

    >>> interval([0.5, 0.6, 0.7])
    Interval(mean=0.6, half=0.24842, n=3)
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(round(mean, 6), None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = t_quantile(n - 1) * math.sqrt(variance / n)
    return Interval(round(mean, 6), round(half, 5), n)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Interval | None:
    """Interval of the differences of what both have measured on the same seeds; None if nothing."""
    both = sorted(ours.keys() & theirs.keys())
    return interval([ours[seed] - theirs[seed] for seed in both]) if both else None
