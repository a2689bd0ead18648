"""The step of central differences of a text tower, beside its exact tangents.

    python benchmarks/differences.py

Prints, for steps in token distances, the relative error of differences along whole contexts on the
embedded model, whose tangents are exact: rounding on the left, curvature on the right.
"""

from __future__ import annotations

import numpy as np

from sharpzo.data.demo import CLASS_NAMES
from sharpzo.towers.checkpoint import EMBEDDED, Checkpoint
from sharpzo.towers.tower import OnnxTextTower


def main() -> None:
    tower = OnnxTextTower(Checkpoint.open(EMBEDDED), CLASS_NAMES)
    draws = np.random.default_rng(1)
    directions = draws.normal(size=(8, *tower.start.shape)).astype(np.float32)
    directions *= tower.token_distance / np.linalg.norm(directions, axis=(1, 2), keepdims=True)
    _, exact = tower.jvp(tower.start, directions)
    for step in (0.001, 0.003, 0.01, 0.02, 0.03, 0.1, 0.3):
        ahead, behind = (tower.forward(tower.start + s * directions) for s in (step, -step))
        error = (ahead - behind) / np.float32(2 * step) - exact
        print(f"step {step:<6} error {np.linalg.norm(error) / np.linalg.norm(exact):.1e}")


if __name__ == "__main__":
    main()
