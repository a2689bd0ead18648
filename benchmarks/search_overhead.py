"""What a generation of an evolution strategy costs beside its forwards, in processor time.

    python benchmarks/search_overhead.py          # prints, writes results/search_overhead.json

A generation: ask and tell with S = 40 and made-up losses, the mean over so many generations that
eigendecompositions count in their proportion, after a warm-up. The unit: 40 forwards of a
text tower of ViT-B/16's size (random weights, 10 classes), in one batch, the median of three.
Strategies: CMA-ES with Hansen's gap between eigendecompositions and with the ten times longer one
of the methods here; separable CMA-ES and LM-MA-ES for d = 512, 2,048 and 8,192. Memory is what
Python and NumPy allocate: at rest, and the peak during one generation.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from tangents import class_names, random_tower

from sharpzo.optim import Cma, CmaSettings, EvolutionSettings, LmMa, Search, SepCma
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.tower import OnnxTextTower
from sharpzo.types import Array

RESULT = Path(__file__).parent / "results" / "search_overhead.json"
POPULATION, CLASSES = 40, 10


def losses(candidates: Array) -> Array:
    """Cheap, and different for every candidate."""
    return candidates[:, 0]


def generation_ms(search: Search, generations: int) -> float:
    """Mean processor milliseconds of an ask and a tell."""
    for _ in range(3):
        search.tell(losses(search.ask().points))
    begin = time.process_time()
    for _ in range(generations):
        search.tell(losses(search.ask().points))
    return 1e3 * (time.process_time() - begin) / generations


def memory_mb(make: Callable[[], Search]) -> dict[str, float]:
    """Allocated after two generations, and at the height of the third.

    CMA-ES has not decomposed C by then: eigenvectors (d^2 numbers) and LAPACK's workspace come on
    top.
    """
    tracemalloc.start()
    search = make()
    for _ in range(2):
        search.tell(losses(search.ask().points))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    search.tell(losses(search.ask().points))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"held_mb": round(held / 1e6, 2), "peak_mb": round(peak / 1e6, 2)}


def strategies() -> dict[str, tuple[int, int, Callable[[], Search]]]:
    """Dimension, generations to average over, and how to make it."""
    found: dict[str, tuple[int, int, Callable[[], Search]]] = {}
    for laziness, generations in ((1.0, 24), (10.0, 50)):
        how = CmaSettings(POPULATION, laziness=laziness, tol_x=0.0, tol_fun=0.0)
        name = f"CMA-ES, laziness {laziness:g}"
        found[name] = 512, generations, lambda how=how: Cma(512, how)
    plain = EvolutionSettings(POPULATION, tol_x=0.0, tol_fun=0.0)
    for kind, make in (("separable CMA-ES", SepCma), ("LM-MA-ES", LmMa)):
        for dim in (512, 2048, 8192):
            found[f"{kind}, d = {dim}"] = dim, 40, lambda m=make, d=dim: m(d, plain)
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = random_tower(Path(scratch) / "b16", 12)
        tower = OnnxTextTower(Checkpoint.open(folder), class_names(CLASSES), threads=1)
        contexts = np.repeat(tower.start[None], POPULATION, axis=0)
        times = []
        for _ in range(4):
            begin = time.process_time()
            tower.forward(contexts)
            times.append(1e3 * (time.process_time() - begin))
        forwards_ms = statistics.median(times[1:])
        tower.close()
    print(f"{POPULATION} forwards: {forwards_ms:.0f} ms")
    lines = []
    for name, (dim, generations, make) in strategies().items():
        spent = generation_ms(make(), generations)
        lines.append(
            {"search": name, "dim": dim, "generation_ms": round(spent, 2),
             "share_of_forwards": round(spent / forwards_ms, 4)} | memory_mb(make)
        )  # fmt: skip
        print(lines[-1], flush=True)
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "threads": 1,
        "numpy": np.__version__,
    }
    what = {"population": POPULATION, "classes": CLASSES, "forwards_ms": round(forwards_ms, 1)}
    RESULT.write_text(json.dumps(machine | what | {"lines": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
