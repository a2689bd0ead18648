"""How many tokens should pass a block side by side: `text.CHUNK`, in time and memory.

    python benchmarks/class_chunks.py                       # prints one line per row
    python benchmarks/class_chunks.py --add --cases 300t4 --layers 4   # tangents

Writes results/class-chunks.json.

Towers: ViT-B/16's size with random weights and the embedded model. A call is one candidate's
forward, a forward of several candidates at once, or the tangent graph along several directions
(``together`` says how many); chunk 0 is all classes at once. Rows of a table are measured in turns,
``--rounds`` times; ``times_faster`` is the median of the ratio to chunk 0 in the same round.
``activations_mb`` is what the first call adds to a process that has compiled the graph, in a
process per row; ``difference`` is that of the features or derivatives from chunk 0's, relative.
Seconds are processor seconds of one thread, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from tangents import random_tower
from text_speed import Call, _cpu, _nouns, class_names, measure, relative

from sharpzo.memory import MB, resident
from sharpzo.towers import text
from sharpzo.towers.checkpoint import EMBEDDED, Checkpoint
from sharpzo.towers.prompts import layout, start
from sharpzo.towers.runtime import Session
from sharpzo.towers.tangent import build_tangent

RESULT = Path(__file__).parent / "results" / "class-chunks.json"
CASES = {  # name -> classes, what, candidates or directions in one call
    "10": (10, "forward", 16), "100": (100, "forward", 1), "100x8": (100, "forward", 8),
    "1000": (1000, "forward", 1), "1000x8": (1000, "forward", 8),
    "300t4": (300, "tangents", 4), "1000t4": (1000, "tangents", 4),
    "1000t16": (1000, "tangents", 16), "1000t32": (1000, "tangents", 32),
}  # fmt: skip


def prepare(folder: Path, classes: int, what: str, together: int, chunk: int) -> Call:
    """Compile the graph of a case; return what one call of it is."""
    checkpoint = Checkpoint.open(folder)
    names = _nouns(classes) if folder == EMBEDDED else class_names(classes)
    prompts = layout(checkpoint, names)
    text.CHUNK = chunk or sys.maxsize
    context = start(checkpoint, prompts)[None]
    noise = np.random.default_rng(0).normal(size=(together, *context.shape[1:])).astype(np.float32)
    if what == "tangents":
        inputs, output = {"context": context, "directions": noise}, "derivatives"
        session = Session(build_tangent(checkpoint, prompts), threads=1)
    else:
        inputs, output = {"context": context + np.float32(0.01) * noise}, "features"
        session = Session(text.build_text(checkpoint, prompts), threads=1)
    checkpoint.weights.release()
    return lambda: session.run([output], inputs)


def activations(folder: Path, case: str, chunk: int) -> float:
    """MB that the first call of a case takes, in a process of its own."""
    command = [sys.executable, __file__, "--child", str(folder), case, str(chunk)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def child(folder: Path, case: str, chunk: int) -> None:
    call = prepare(folder, *CASES[case], chunk)
    before = resident() or 0
    found = call()
    print(round(((resident() or 0) - before - found.nbytes) / MB, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["ViT-B/16 size", "embedded"])
    parser.add_argument("--cases", nargs="+", default=["1000", "100", "10"], choices=CASES)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 512, 256])
    parser.add_argument("--layers", type=int, default=12, help="of the random tower")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--add", action="store_true", help="to the rows of the last result")
    parser.add_argument("--child", nargs=3, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        folder, case, chunk = args.child
        child(Path(folder), case, int(chunk))
        return
    last = json.loads(RESULT.read_text()) if args.add else {"rows": [], "commands": []}
    rows = last["rows"]
    commands = [*last["commands"], " ".join(["python benchmarks/class_chunks.py", *sys.argv[1:]])]
    with tempfile.TemporaryDirectory() as scratch:
        for model in args.models:
            embedded = model == "embedded"
            folder = EMBEDDED if embedded else random_tower(Path(scratch) / "b16", args.layers)
            layers = Checkpoint.open(folder).text.layers
            for case in args.cases:
                classes, what, together = CASES[case]
                calls: dict[str, tuple[Call, int]] = {}
                compiling, memory, differences = {}, {}, {}
                for chunk in (0, *args.sizes):
                    name = str(chunk)
                    memory[name] = activations(folder, case, chunk)
                    begin = time.process_time()
                    call = prepare(folder, classes, what, together, chunk)
                    compiling[name] = round(time.process_time() - begin, 2)
                    calls[name] = (call, together)
                    found = call()
                    if not chunk:
                        wanted = found
                    differences[name] = float(f"{relative(found, wanted):.1e}")
                for name, row in measure(calls, args.rounds, time.process_time).items():
                    line = {"model": model, "layers": layers, "classes": classes, "what": what,
                            "together": together, "chunk": int(name), **row,
                            "compiling_s": compiling[name], "activations_mb": memory[name],
                            "difference": differences[name]}  # fmt: skip
                    print(json.dumps(line), flush=True)
                    rows.append(line)
    machine = {
        "commands": commands,
        "cpu": _cpu(), "threads": 1, "onnxruntime": version("onnxruntime"),
    }  # fmt: skip
    RESULT.write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
