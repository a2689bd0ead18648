"""What a tangent costs: time in forwards, and peak memory against the number of directions.

    python benchmarks/tangents.py            # prints the tables, writes results/tangents.json

Towers: the embedded model and one of ViT-B/16's size with random weights (and its first 3 layers,
to see whether depth costs memory), 10 classes; ``--classes`` gives other numbers. Time: the tower's
own calls, ``forward`` of 32 contexts and ``jvp`` along 32 directions, in turns, medians of
``--rounds``, in forwards; a tangent is jvp's time / 32, the primal included. ``step``: one call
along 8 directions, as a search of exact slopes makes them. ``specific``: every class has a context
of its own; ``specific_tokens`` is what methods count for it. Memory: the graph
in one call of p directions, one process a p, its peak resident size as the parent sees it. Times
are processor seconds of the process, so that other work on the machine counts as little as
possible.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from itertools import chain, islice, product
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.prompts import layout
from sharpzo.towers.runtime import Session
from sharpzo.towers.tangent import build_tangent
from sharpzo.towers.tower import OnnxTextTower

RESULT = Path(__file__).parent / "results" / "tangents.json"
DIRECTIONS, STEP = 32, 8
WORDS = ("cat", "dog", "photo", "the", "of")  # in the vocabulary of the random towers


def class_names(count: int) -> list[str]:
    """Names of one word and more, all different, at most 3,905."""
    every = chain.from_iterable(product(WORDS, repeat=n) for n in range(1, 6))
    return [" ".join(words) for words in islice(every, count)]


def write_random_tower(folder: Path, layers: int) -> None:
    """A checkpoint of ViT-B/16's text tower (512 wide, 8 heads) with random weights."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "towers"))
    from random_models import save_clip

    vision = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 1,
              "num_attention_heads": 4, "image_size": 32, "patch_size": 8}  # fmt: skip
    save_clip(folder, {"vocab_size": 49408, "num_hidden_layers": layers}, vision, width=512)


def random_tower(folder: Path, layers: int) -> Path:
    """The same in a process of its own: a child counts its parent's size at birth as its own."""
    flags = ["--write", str(folder), str(layers)]
    subprocess.run([sys.executable, __file__, *flags], check=True, capture_output=True)
    return folder


def cost(folder: Path, classes: int, rounds: int, threads: int) -> dict[str, float]:
    """Milliseconds of one forward in a batch, and what else costs in such forwards."""
    shared = OnnxTextTower(Checkpoint.open(folder), class_names(classes), threads=threads)
    own = shared.variant(specific=True)
    calls: dict[str, Callable[[], object]] = {}
    for name, tower in (("", shared), ("specific_", own)):
        draws = np.random.default_rng(0).normal(size=(DIRECTIONS, *tower.start.shape))
        noise = draws.astype(np.float32)
        contexts = tower.start + np.float32(0.1 * tower.token_distance / 16) * noise
        calls[f"{name}forward"] = lambda t=tower, c=contexts: t.forward(c)
        calls[f"{name}tangent"] = lambda t=tower, c=contexts, v=noise: t.jvp(c[0], v)
    few = np.random.default_rng(1).normal(size=(STEP, *shared.start.shape)).astype(np.float32)
    calls["step"] = lambda: shared.jvp(shared.start, few)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            begin = time.process_time()
            call()
            times[name].append(time.process_time() - begin)
    first = times.pop("forward")[1:]
    found = {"forward_ms": round(statistics.median(first) / DIRECTIONS * 1e3, 3)}
    for name, row in times.items():
        unit = DIRECTIONS if name == "step" else 1
        ratios = [unit * t / f for f, t in zip(first, row[1:], strict=True)]
        found[name] = round(statistics.median(ratios), 3)
        found[f"{name}_least"], found[f"{name}_most"] = round(min(ratios), 3), round(max(ratios), 3)
    return {**found, "specific_tokens": round(own.tokens / shared.tokens, 3)}


def child(folder: Path, classes: int, directions: int, threads: int) -> None:
    """Run the tangent graph once; the parent reads how much memory this process needed."""
    checkpoint = Checkpoint.open(folder)
    prompts = layout(checkpoint, class_names(classes))
    shape = (max(directions, 1), prompts.n_context, checkpoint.text.width)
    with closing(Session(build_tangent(checkpoint, prompts), threads)) as session:
        if directions:
            inputs = {"context": np.ones((1, *shape[1:]), np.float32)}
            inputs["directions"] = np.ones(shape, np.float32)
            session.run(["derivatives"], inputs)


def peak_mb(folder: Path, classes: int, directions: int, threads: int) -> float:
    """Peak resident size in MB of a process that computes so many directions in one call."""
    flags = ["--child", str(folder), str(classes), str(directions), str(threads)]
    process = subprocess.Popen([sys.executable, __file__, *flags])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the child for {directions} directions failed")
    return round(usage.ru_maxrss * 1024 / 1e6, 1)


def memory(folder: Path, classes: int, threads: int) -> dict[str, object]:
    """Peaks for 0 (the session alone) to 128 directions and the slope of the last doubling."""
    counts = (0, 8, 16, 32, 64, 128)
    peaks = {p: peak_mb(folder, classes, p, threads) for p in counts}
    return {"peak_mb": peaks, "mb_a_direction": round((peaks[128] - peaks[64]) / 64, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[10])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", nargs=4, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write_random_tower(Path(args.write[0]), int(args.write[1]))
        return
    if args.child:
        folder, *numbers = args.child
        child(Path(folder), *map(int, numbers))
        return
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        towers = {
            "embedded": resolve(None),
            "ViT-B/16 size": random_tower(Path(scratch) / "b16", 12),
            "ViT-B/16 size, 3 layers": random_tower(Path(scratch) / "b16-3", 3),
        }
        few = args.classes[0]  # memory first, while this process is small
        peaks = {name: memory(folder, few, args.threads) for name, folder in towers.items()}
        for name, folder in towers.items():
            for classes in args.classes:
                rounds = args.rounds if classes <= 10 else max(3, args.rounds // 3)
                line = {"tower": name, "classes": classes}
                line |= cost(folder, classes, rounds, args.threads)
                lines.append(line | (peaks[name] if classes == few else {}))
                print(lines[-1], flush=True)
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "threads": args.threads,
        "onnxruntime": version("onnxruntime"),
    }
    machine |= {"directions": DIRECTIONS, "step": STEP}
    RESULT.write_text(json.dumps({**machine, "lines": lines}, indent=1))


if __name__ == "__main__":
    main()
