"""Evaluations that our CMA-ES and pycma need to reach 1e-8, what lazier eigendecompositions cost
in evaluations, and the overhead of a generation.

    python benchmarks/cma_parity.py            # prints the table, writes results/cma_parity.json

Both start from the same points, uniform in [-3, 3]^d, with sigma 0.5, the default population and
negative weights on. A run that ends elsewhere (Rosenbrock has a second minimum) counts as a
failure and stays out of the median.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from sharpzo.optim import Cma, CmaSettings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import cma as pycma

TARGET, SIGMA, SEEDS = 1e-8, 0.5, 20
RESULT = Path(__file__).parent / "results" / "cma_parity.json"
Objective = Callable[[np.ndarray], np.ndarray]


def sphere(x: np.ndarray) -> np.ndarray:
    return np.sum(x**2, axis=1)


def ellipsoid(x: np.ndarray) -> np.ndarray:
    return x**2 @ 1e6 ** np.linspace(0, 1, x.shape[1])


def rosenbrock(x: np.ndarray) -> np.ndarray:
    return np.sum(100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (x[:, :-1] - 1) ** 2, axis=1)


def start(dim: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-3, 3, dim)


def ours(objective: Objective, dim: int, seed: int, laziness: float = 1.0) -> int | None:
    settings = CmaSettings(sigma=SIGMA, laziness=laziness)
    search = Cma(dim, settings, seed=seed, start=start(dim, seed))
    while search.stopped is None and search.best[1] > TARGET:
        search.tell(objective(search.ask().points))
    return search.step * search.population_size if search.best[1] <= TARGET else None


def theirs(objective: Objective, dim: int, seed: int) -> int | None:
    options = {"verbose": -9, "seed": seed + 1, "CMA_active": True}
    es = pycma.CMAEvolutionStrategy(start(dim, seed), SIGMA, options)
    while not es.stop() and es.best.f > TARGET:
        candidates = es.ask()
        es.tell(candidates, list(objective(np.array(candidates))))
    return es.countevals if es.best.f <= TARGET else None


def summary(counts: list[int | None]) -> tuple[float, int]:
    reached = [count for count in counts if count is not None]
    return float(np.median(reached)), len(counts) - len(reached)


def lazy_rows() -> list[dict[str, float]]:
    """Median evaluations on the ellipsoid for multiples of Hansen's eigendecomposition gap."""
    rows = []
    for dim in (10, 40):
        for laziness in (1.0, 10.0, 30.0):
            counts = [ours(ellipsoid, dim, seed, laziness) for seed in range(5)]
            rows.append({"dim": dim, "laziness": laziness, "evaluations": summary(counts)[0]})
            print(rows[-1], flush=True)
    return rows


def overhead(laziness: float, dim: int = 512, population: int = 40, generations: int = 73) -> dict:
    """Milliseconds that a generation costs besides the losses."""
    search = Cma(dim, CmaSettings(population_size=population, laziness=laziness))
    search.tell(sphere(search.ask().points - 1))
    spent = []
    for _ in range(generations):
        before = time.perf_counter()
        candidates = search.ask().points
        middle = time.perf_counter()
        losses = sphere(candidates - 1)
        after = time.perf_counter()
        search.tell(losses)
        spent.append(1e3 * (time.perf_counter() - after + middle - before))
    return {
        "search": f"sharpzo, laziness {laziness:g}",
        "dim": dim,
        "population": population,
        "median_ms": round(float(np.median(spent)), 2),
        "mean_ms": round(float(np.mean(spent)), 2),
    }


def pycma_overhead(dim: int = 512, population: int = 40, generations: int = 24) -> dict:
    options = {"verbose": -9, "popsize": population, "seed": 1}
    options["AdaptSigma"] = pycma.sigma_adaptation.CMAAdaptSigmaCSA
    es = pycma.CMAEvolutionStrategy(np.zeros(dim), 0.3, options)
    spent = []
    for _ in range(generations):
        before = time.perf_counter()
        candidates = es.ask()
        middle = time.perf_counter()
        losses = list(sphere(np.array(candidates) - 1))
        after = time.perf_counter()
        es.tell(candidates, losses)
        spent.append(1e3 * (time.perf_counter() - after + middle - before))
    return {
        "search": "pycma, CSA",
        "dim": dim,
        "population": population,
        "median_ms": round(float(np.median(spent)), 2),
        "mean_ms": round(float(np.mean(spent)), 2),
    }


def main() -> None:
    rows = []
    for objective in (sphere, ellipsoid, rosenbrock):
        for dim in (10, 40):
            mine, my_failures = summary([ours(objective, dim, s) for s in range(SEEDS)])
            other, other_failures = summary([theirs(objective, dim, s) for s in range(SEEDS)])
            rows.append(
                {
                    "objective": objective.__name__,
                    "dim": dim,
                    "sharpzo": mine,
                    "pycma": other,
                    "ratio": round(mine / other, 3),
                    "sharpzo_failures": my_failures,
                    "pycma_failures": other_failures,
                }
            )
            print(" ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
    lazy = lazy_rows()
    cost = [overhead(1.0), overhead(10.0), pycma_overhead()]
    print(*cost, sep="\n")
    RESULT.parent.mkdir(exist_ok=True)
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "blas_threads": int(os.environ["OPENBLAS_NUM_THREADS"]),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pycma": pycma.__version__.split()[0],
    }
    text = json.dumps(
        {
            "command": "python " + " ".join(sys.argv[:1]),
            "target": TARGET,
            "sigma": SIGMA,
            "seeds": SEEDS,
            "machine": machine,
            "median_evaluations": rows,
            "laziness_ellipsoid": lazy,
            "overhead": cost,
        },
        indent=2,
    )
    RESULT.write_text(text + "\n")


if __name__ == "__main__":
    main()
