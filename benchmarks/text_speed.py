"""How fast a forward of the text tower is, what each saving gives, and how far the floor is.

    python benchmarks/text_speed.py savings      # one saving after the other, against naive torch
    python benchmarks/text_speed.py engines      # engines, precisions, classes, candidates
    python benchmarks/text_speed.py batches      # candidates per call: is the default the best?
    python benchmarks/text_speed.py generation   # a generation of SharpZO as published, projected

Each writes benchmarks/results/text-NAME.json. Towers: ViT-B/16's size with random weights, and the
embedded model. Rows of a table are measured in turns, ``--rounds`` times, and a row's ratio is the
median over the rounds of its ratio to that round's first row, so that a machine whose speed drifts
disturbs little. Seconds are those of the clock; with ``--processor`` they are processor seconds (of
all threads), for a machine that others use as well. The floor is the count of multiply-adds over
the fastest large matrix product of the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from tangents import WORDS, random_tower

from sharpzo.errors import EngineError
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.config import TextConfig
from sharpzo.towers.graph import Builder, Graph
from sharpzo.towers.prompts import Prompts
from sharpzo.towers.runtime import Arithmetic, Engine, Runtime, Session, cores
from sharpzo.towers.text import TextWriter, read_block
from sharpzo.towers.tower import OnnxTextTower

RESULTS = Path(__file__).parent / "results"
ARITHMETIC: tuple[tuple[Engine, Arithmetic], ...] = (
    ("onnxruntime", "float32"), ("openvino", "float32"), ("openvino", "bfloat16"),
    ("cuda", "float32"),
)  # fmt: skip
Call = Callable[[], object]


def class_names(count: int) -> list[str]:
    """Names of three words, five tokens with the full stop and EOS; four words beyond 125."""
    names = [f"{a} {b} {c}" for a in WORDS for b in WORDS for c in WORDS]
    names += [f"{name} {word}" for name in names for word in WORDS]
    names += [f"{name} {word}" for name in names[125:750] for word in WORDS]
    return names[:count]


def flops(config: TextConfig, prompts: Prompts) -> float:
    """Floating-point operations of one forward with all savings: two a multiply-add."""
    m, n = config.width, prompts.n_context
    lengths = np.array([len(suffix) for suffix in prompts.suffixes])
    tokens, k = int(lengths.sum()), len(lengths)
    square, mlp = m * m, 2 * m * config.mlp_width
    whole = 4 * square + mlp  # query, key, value, output, MLP of a token
    rest = config.layers - 2
    products = (config.layers - 1) * n * whole + n * 2 * square  # the context; at last k and v
    products += tokens * (square + mlp) if config.layers > 1 else 0  # first block: q, k, v constant
    products += rest * tokens * whole
    products += tokens * 2 * square + k * (2 * square + mlp)  # last block
    products += k * m * config.projection
    # Scores and mixing: a token sees SOS, the context and its own suffix up to itself.
    seen = float((lengths * (1 + n) + lengths * (lengths + 1) / 2).sum())
    products += (config.layers - 1) * 2 * m * (seen + n * (n + 3) / 2)
    products += 2 * m * float((1 + n + lengths).sum())
    return 2.0 * products


def padded_flops(config: TextConfig, k: int) -> float:
    """The same where every class is padded and nothing is shared."""
    m, side = config.width, config.context_length
    token = 4 * m * m + 2 * m * config.mlp_width
    products = config.layers * k * side * (token + 2 * m * side) + k * m * config.projection
    return 2.0 * products


def unfolded(checkpoint: Checkpoint, prompts: Prompts) -> Graph:
    """The product's graph, but what the first block makes of the words is no constant."""
    config, build = checkpoint.text, Builder()
    writer = TextWriter(build, checkpoint, prompts)
    for layer in range(config.layers):
        block = read_block(checkpoint, layer)
        writer.add_block(f"text.{layer}", block, False, layer == config.layers - 1)
    writer.add_features()
    k = len(prompts.suffixes)
    shapes = {"features": ("P", k, config.projection)}
    return build.finish({"context": ("P", prompts.n_context, config.width)}, shapes, "unfolded")


def contexts_of(tower: OnnxTextTower, many: int) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(many, *tower.start.shape))
    return (tower.start + 0.1 * tower.token_distance / 16 * noise).astype(np.float32)


def peak(
    threads: int,
    clock: Callable[[], float],
    engine: Engine = "onnxruntime",
    precision: Arithmetic = "float32",
) -> float:
    """FLOP/s of an engine's own product of matrices of 2,000 rows, the best of three."""
    side = 2048
    build = Builder()
    weight = build.weight("w", np.random.default_rng(0).normal(size=(side, side)).astype("f4"))
    build.op("MatMul", "x", weight, name="y")
    graph = build.finish({"x": ("N", side)}, {"y": ("N", side)}, "peak")
    x = np.ones((side, side), np.float32)
    times = []
    runtime = Runtime(engine, precision, threads)
    runtime.require()
    with closing(runtime.open(graph)) as session:
        for _ in range(4):
            begin = clock()
            session.run(["y"], {"x": x})
            times.append(clock() - begin)
    return 2 * side**3 / min(times[1:])


def measure(
    calls: dict[str, tuple[Call, int]], rounds: int, clock: Callable[[], float]
) -> dict[str, dict[str, float]]:
    """Milliseconds per forward and the ratio to the first of ``calls``, each with its forwards."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call, _ in calls.values():
        call()
    for _ in range(rounds):
        for name, (call, forwards) in calls.items():
            begin = clock()
            call()
            times[name].append((clock() - begin) / forwards)
    first = times[next(iter(calls))]
    return {
        name: {
            "ms": round(statistics.median(row) * 1e3, 3),
            "ms_least": round(min(row) * 1e3, 3),
            "times_faster": round(
                statistics.median(a / b for a, b in zip(first, row, strict=True)), 2
            ),
        }
        for name, row in times.items()
    }


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def savings(folder: Path, args: argparse.Namespace, clock: Callable[[], float]) -> dict:
    """ViT-B/16's size, 10 classes: naive torch, then one saving after the other."""
    import torch
    from naive import NaiveTower, write_padded

    torch.set_num_threads(args.threads)
    checkpoint = Checkpoint.open(folder)
    tower = OnnxTextTower(checkpoint, class_names(10), threads=args.threads)
    prompts, config = tower.prompts, checkpoint.text
    contexts = contexts_of(tower, args.candidates)
    naive = NaiveTower(checkpoint, prompts)
    longest = 1 + prompts.n_context + max(map(len, prompts.suffixes))
    graphs = {
        "ONNX Runtime": write_padded(checkpoint, prompts, config.context_length, False),
        "stop at EOS": write_padded(checkpoint, prompts, longest, False),
        "last block at EOS alone": write_padded(checkpoint, prompts, longest, True),
        "SOS and context once for all classes": unfolded(checkpoint, prompts),
    }
    sessions = {name: Session(graph, args.threads) for name, graph in graphs.items()}
    one = OnnxTextTower(checkpoint, class_names(10), threads=args.threads, batch=1)
    few = contexts[: max(1, args.candidates // 16)]

    def serial(session: Session, some: np.ndarray) -> Call:
        return lambda: [session.run(["features"], {"context": c[None]}) for c in some]

    calls: dict[str, tuple[Call, int]] = {
        "naive, torch": (lambda: naive.forward(few[:1]), 1),
        "ONNX Runtime": (serial(sessions["ONNX Runtime"], few[:1]), 1),
        "stop at EOS": (serial(sessions["stop at EOS"], few), len(few)),
    }
    for name in list(graphs)[2:]:
        calls[name] = (serial(sessions[name], few), len(few))
    calls["words of the first block as constants"] = (lambda: one.forward(few), len(few))
    calls["candidates in batches"] = (lambda: tower.forward(contexts), len(contexts))
    wanted = naive.forward(contexts[:2])
    errors = {
        "candidates in batches": relative(tower.forward(contexts)[:2], wanted),
        "words of the first block as constants": relative(one.forward(contexts[:2]), wanted),
    }
    for name, session in sessions.items():
        errors[name] = relative(session.run(["features"], {"context": contexts[:2]})[0], wanted)
    try:
        vino = OnnxTextTower(
            checkpoint, class_names(10), threads=args.threads, engine="openvino", batch=16
        )
        calls["OpenVINO in its place"] = (lambda: vino.forward(contexts), len(contexts))
        errors["OpenVINO in its place"] = relative(vino.forward(contexts)[:2], wanted)
    except Exception as error:
        print(f"without OpenVINO: {error}")
    rows = measure(calls, args.rounds, clock)
    best = peak(args.threads, clock)
    for name, row in rows.items():
        row["relative_error"] = float(f"{errors.get(name, 0.0):.1e}")
    return {
        "gflop": round(flops(config, prompts) / 1e9, 2),
        "gflop_naive": round(padded_flops(config, len(prompts.suffixes)) / 1e9, 2),
        "peak_gflop_a_second": round(best / 1e9, 1),
        "floor_ms": round(flops(config, prompts) / best * 1e3, 2),
        "rows": rows,
    }


def engines(folder: Path, args: argparse.Namespace, clock: Callable[[], float]) -> dict:
    """Every engine and precision that works here, by classes and candidates, with the floor of its
    arithmetic; matrices of fewer bits are multiplied in float32."""
    found = []
    peaks = {}
    for engine, precision in ARITHMETIC:
        try:
            peaks[engine, precision] = peak(args.threads, clock, engine, precision)
        except EngineError as error:
            print(f"no floor of {engine} {precision}: {error}", flush=True)
    for model, path in (("ViT-B/16 size", folder), ("embedded", resolve(None))):
        checkpoint = Checkpoint.open(path)
        for classes in args.classes:
            for candidates in args.calls:
                found += list(_engines(model, checkpoint, classes, candidates, args, clock, peaks))
    gflop = {" ".join(how): round(best / 1e9, 1) for how, best in peaks.items()}
    return {"gflop_a_second_of_one_product": gflop, "rows": found}


def _engines(
    model: str, checkpoint: Checkpoint, classes: int, candidates: int,
    args: argparse.Namespace, clock: Callable[[], float], peaks: dict[tuple[str, str], float],
) -> Iterator[dict]:  # fmt: skip
    names = class_names(classes) if model != "embedded" else _nouns(classes)
    exact = OnnxTextTower(checkpoint, names, threads=args.threads)
    work = flops(checkpoint.text, exact.prompts)
    if work * candidates > args.most * 1e9:
        return
    contexts = contexts_of(exact, candidates)
    calls: dict[str, tuple[Call, int]] = {}
    errors: dict[str, float] = {}
    wanted = exact.forward(contexts)
    for engine, precision in (
        ("onnxruntime", "float32"), ("onnxruntime", "float16"), ("onnxruntime", "int8"),
        ("onnxruntime", "int4"), ("openvino", "float32"), ("openvino", "bfloat16"),
        ("cuda", "float32"),
    ):  # fmt: skip
        try:
            tower = OnnxTextTower(
                checkpoint, names, threads=args.threads, engine=engine, precision=precision
            )
            errors[f"{engine} {precision}"] = relative(tower.forward(contexts), wanted)
        except Exception as error:
            print(f"without {engine} {precision}: {error}", flush=True)
            continue
        calls[f"{engine} {precision}"] = (lambda t=tower: t.forward(contexts), candidates)
    for name, row in measure(calls, args.rounds, clock).items():
        line = {"model": model, "classes": classes, "candidates": candidates, "how": name, **row}
        line["gflop_a_second"] = round(work / row["ms"] / 1e6, 1)
        engine, precision = name.split()
        arithmetic = precision if (engine, precision) in ARITHMETIC else "float32"
        line["floor_ms"] = round(1e3 * work / peaks[engine, arithmetic], 2)
        line["relative_error"] = float(f"{errors[name]:.1e}")
        print(json.dumps(line), flush=True)
        yield line


def _nouns(count: int) -> list[str]:
    """Pronounceable names for the embedded model's vocabulary, two to four tokens each."""
    parts = ["river", "stone", "garden", "paper", "window", "silver", "forest", "engine", "bridge",
             "winter"]  # fmt: skip
    return [f"{a} {b} {c}" for a in parts for b in parts for c in parts][:count]


def batches(folder: Path, args: argparse.Namespace, clock: Callable[[], float]) -> dict:
    """Candidates per call, in powers of two, against the default of `tower.TOKENS`."""
    found = []
    for model, path in (("ViT-B/16 size", folder), ("embedded", resolve(None))):
        checkpoint = Checkpoint.open(path)
        for classes in args.classes[:2]:
            names = class_names(classes) if model != "embedded" else _nouns(classes)
            usual = OnnxTextTower(checkpoint, names, threads=args.threads)
            contexts = contexts_of(usual, args.candidates)
            calls: dict[str, tuple[Call, int]] = {
                "default": (lambda t=usual, c=contexts: t.forward(c), len(contexts))
            }
            for batch in (1, 2, 4, 8, 16, 32):
                tower = OnnxTextTower(checkpoint, names, threads=args.threads, batch=batch)
                calls[str(batch)] = (lambda t=tower, c=contexts: t.forward(c), len(contexts))
            for name, row in measure(calls, args.rounds, clock).items():
                line = {"model": model, "classes": classes, "batch": name, **row}
                print(json.dumps(line), flush=True)
                found.append(line)
    return {"rows": found}


def generation(folder: Path, args: argparse.Namespace, clock: Callable[[], float]) -> dict:
    """SharpZO as published on EuroSAT-sized work: a slice of its forwards, and the whole."""
    from sharpzo.methods import find

    checkpoint = Checkpoint.open(folder)
    tower = OnnxTextTower(checkpoint, class_names(10), threads=args.threads)
    settings = find("sharpzo").configure("paper/eurosat", {})
    dim, population = settings.dim, 40
    first, second = 500 * (2 * dim + population), 20_000 * 2
    contexts = contexts_of(tower, 256)
    row = measure({"forwards": (lambda: tower.forward(contexts), 256)}, args.rounds, clock)
    ms = row["forwards"]["ms"]
    return {
        "dim": dim, "population": population, "generations": 500, "steps": 20_000,
        "forwards": first + second, "ms_a_forward": ms,
        "projected_hours": round((first + second) * ms / 3.6e6, 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["savings", "engines", "batches", "generation"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 8, 32, 128], help="candidates")
    parser.add_argument("--most", type=float, default=1500, help="GFLOP of a call at most")
    parser.add_argument("--suffix", default="", help="of the file's name")
    parser.add_argument("--processor", action="store_true", help="processor seconds")
    args = parser.parse_args()
    clock = time.process_time if args.processor else time.perf_counter
    with tempfile.TemporaryDirectory() as scratch:
        folder = random_tower(Path(scratch) / "b16", 12)
        work = {f.__name__: f for f in (savings, engines, batches, generation)}[args.what]
        result = work(folder, args, clock)
    machine = {
        "command": " ".join(["python benchmarks/text_speed.py", *sys.argv[1:]]),
        "cpu": _cpu(),
        "threads": args.threads,
        "onnxruntime": version("onnxruntime"),
    }
    print(json.dumps(result, indent=1))
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"text-{args.what}{args.suffix}.json"
    file.write_text(json.dumps({**machine, **result}, indent=1) + "\n")


def _cpu() -> str:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if unit in flags]
    return f"{platform.machine()}, {os.cpu_count()} cores, {' '.join(units)}"


if __name__ == "__main__":
    main()
