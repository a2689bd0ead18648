"""The penalty of a head, chosen on the validation photos along a warm-started path."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sharpzo.metrics import accuracy, cross_entropy
from sharpzo.types import Array, Features, Head

H = TypeVar("H", bound=Head)


def choose_penalty(
    fit: Callable[[float, Array], tuple[Array, H]],
    start: Array,
    *,
    penalties: tuple[float, ...],
    fallback: float,
    validation: Features | None,
) -> tuple[Array, H, float]:
    """Return parameters, head and penalty of the highest validation accuracy.

    Ties go to the lower validation cross-entropy. Penalties are tried from the strongest to the
    weakest, each from the solution before, which is also the order in which the problems get
    harder. Without validation photos ``fallback`` is fitted alone.
    """
    if validation is None:
        return (*fit(fallback, start), fallback)
    best: tuple[tuple[float, float], Array, H, float] | None = None
    parameters = start
    for penalty in sorted(penalties, reverse=True):
        parameters, head = fit(penalty, parameters)
        logits = head.scores(validation)
        rank = (
            -accuracy(logits, validation.labels),
            float(cross_entropy(logits, validation.labels)),
        )
        if best is None or rank < best[0]:
            best = rank, parameters, head, penalty
    assert best is not None
    return best[1:]
