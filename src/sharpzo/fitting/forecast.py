"""What more photos per class would bring, from learning curves of the training photos alone.

The method is fitted to halves of the training photos, and to quarters, and evaluated on the rest.
With e_2 and e_4 the errors, each doubling of the photos is taken to multiply the error by

    rho = (0.6 + 0.7 e_2)**(3/4) (e_2 / e_4)**(1/4),  0.6 <= rho <= 1                   (1)

so that all photos have the error rho e_2, and twice as many rho**2 e_2. The ratio alone is noisy:
few photos are left to measure it on. What is usual for such an error (the more photos are wrong,
the slower it falls; held-out development photos of three data sets) is nearer to what twice the
photos bring.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sharpzo.methods import Method, Task, fit
from sharpzo.rng import generator
from sharpzo.types import Array, Features, TextTower

FEWEST = 8  # photos of each class: two in a quarter
MOST = 1000  # photos in all: the fits to halves would take longer than the one itself
REPEATS, FEW = 3, 320  # halvings of so many photos in all; of more, one
USUAL = 0.6, 0.7  # of equation 1


def forecast(
    method: Method[Any], settings: Any, train: Features, tower: TextTower, seed: int
) -> dict[str, Any] | None:
    """The gain in accuracy that twice the photos would bring, and the classes of the lowest recall,
    first the lowest; None for fewer than `FEWEST` photos of a class, or more than `MOST` in all."""
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    if counts.min() < FEWEST or len(train) > MOST:
        return None
    right: dict[int, list[float]] = {2: [], 4: []}
    recalls = np.zeros(len(counts))
    for repeat in range(REPEATS if len(train) <= FEW else 1):
        for many in right:
            part = _parts(train.labels, many, seed, repeat)
            for own in range(2):
                shown, rest = train.take(part == own), train.take(part != own)
                head = fit(method, settings, Task(shown, None, tower, seed)).head
                hits = head.scores(rest).argmax(axis=1) == rest.labels
                right[many].append(float(hits.mean()))
                if many == 2:
                    recalls += [hits[rest.labels == k].mean() for k in range(len(counts))]
    half, quarter = (1 - float(np.mean(right[many])) for many in (2, 4))
    usual, measured = USUAL[0] + USUAL[1] * half, half / max(quarter, 1e-9)
    rho = float(np.clip(usual**0.75 * measured**0.25, 0.6, 1))
    worst = recalls.argsort(kind="stable")[:2]
    return {
        "photos_per_class": float(counts.mean()),
        "gain": rho * (1 - rho) * half,
        "classes": [train.class_names[k] for k in worst],
    }


def _parts(labels: Array, many: int, seed: int, repeat: int) -> Array:
    """Which of ``many`` parts each photo (N,) is in, the classes spread over all of them."""
    order = generator(seed, "forecast", step=repeat, direction=many).permutation(len(labels))
    part = np.empty(len(labels), np.int64)
    for k in np.unique(labels):
        rows = order[labels[order] == k]
        part[rows] = np.arange(len(rows)) % many
    return part
