"""Peak memory and seconds of a backpropagated step, plain and with activation checkpointing, and
of a forward of our text tower: ViT-B/16's text tower with random weights, ten class names, a
context of 16 vectors, one thread.

    python benchmarks/memory_backprop.py     # prints the table, writes results/memory_backprop.json

Each contender is a process of its own, watched from outside: the peak is what the kernel says of
the process when it has ended, so it holds the interpreter and the engine, too (``imported`` is the
resident size after the imports, ``ready`` after the tower has been made). A step of CoOp is a
forward and a backward of one context; a forward of ours is one candidate. A forward counts as one
of the forwards that searches spend, so ``forwards`` per step says what a step is worth in time.
Seconds are CPU seconds of the process, which other work on the machine disturbs least.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "memory_backprop.json"
CLASSES = ["annual crop", "forest", "herbaceous vegetation", "highway", "industrial buildings",
           "pasture", "permanent crop", "residential buildings", "river", "lake"]  # fmt: skip
TOKENS, STEPS, VOCABULARY = 16, 5, 49408
CONTENDERS = ("forward", "coop", "coop, activation checkpointing", "coop's tower, forward alone")


def resident_mb() -> float:
    """What this process holds now, in MB."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


def make_checkpoint(folder: Path) -> None:
    """Text weights of ViT-B/16's size; words and their pieces are the embedded model's."""
    import numpy as np
    from safetensors.numpy import save_file

    from sharpzo.towers.checkpoint import EMBEDDED

    draws = np.random.default_rng(0)
    width, wide, layers, length = 512, 2048, 12, 77

    def matrix(*shape: int) -> np.ndarray:
        return (draws.standard_normal(shape, np.float32) / shape[-1] ** 0.5).astype(np.float16)

    tensors = {
        "text_model.embeddings.token_embedding.weight": matrix(VOCABULARY, width),
        "text_model.embeddings.position_embedding.weight": matrix(length, width),
        "text_projection.weight": matrix(512, width),
        "logit_scale": np.array(4.6, np.float16),
    }
    norms = ["text_model.final_layer_norm"]
    for layer in range(layers):
        name = f"text_model.encoder.layers.{layer}"
        norms += [f"{name}.layer_norm1", f"{name}.layer_norm2"]
        shapes = {f"self_attn.{part}_proj": (width, width) for part in ("q", "k", "v", "out")}
        shapes |= {"mlp.fc1": (wide, width), "mlp.fc2": (width, wide)}
        for part, shape in shapes.items():
            tensors[f"{name}.{part}.weight"] = matrix(*shape)
            tensors[f"{name}.{part}.bias"] = np.zeros(shape[0], np.float16)
    for name in norms:
        tensors[f"{name}.weight"] = np.ones(width, np.float16)
        tensors[f"{name}.bias"] = np.zeros(width, np.float16)
    save_file(tensors, folder / "model.safetensors")
    shutil.copy(EMBEDDED / "tokenizer.json", folder)
    frame = json.loads((EMBEDDED / "config.json").read_text())["text_config"]
    text = {"vocab_size": VOCABULARY, "bos_token_id": frame["bos_token_id"],
            "eos_token_id": frame["eos_token_id"]}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "text_config": text}))


def measure(contender: str, folder: Path) -> None:
    """Run one contender in this process and print what it took, as JSON."""
    import numpy as np

    if contender == "forward":
        from sharpzo.towers.tower import OnnxTextTower
    else:
        import torch

        from sharpzo.towers.torch_text import TorchTextTower

        torch.set_num_threads(1)
    from sharpzo.towers.checkpoint import Checkpoint
    from sharpzo.towers.prompts import layout, start

    imported = resident_mb()
    checkpoint = Checkpoint.open(folder)
    if contender == "forward":
        tower = OnnxTextTower(checkpoint, CLASSES, n_context=TOKENS, threads=1)
        context = tower.start[None]

        def step() -> None:
            tower.forward(context)
    else:
        prompts = layout(checkpoint, CLASSES, n_context=TOKENS)
        model = TorchTextTower(checkpoint, prompts, checkpointing="checkpointing" in contender)
        leaf = torch.tensor(start(checkpoint, prompts), requires_grad=True)
        photos = torch.randn(32, 512, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(32) % len(CLASSES)

        def step() -> None:
            if "alone" in contender:
                with torch.no_grad():
                    model(leaf)
                return
            text = torch.nn.functional.normalize(model(leaf), dim=-1)
            loss = torch.nn.functional.cross_entropy(100.0 * photos @ text.T, labels)
            torch.autograd.grad(loss, leaf)

    ready = resident_mb()
    seconds = []
    for _ in range(STEPS):
        begin = time.process_time()
        step()
        seconds.append(time.process_time() - begin)
    result = {"imported_mb": imported, "ready_mb": ready, "seconds": float(np.median(seconds))}
    print(json.dumps(result))


def watch(contender: str, folder: Path) -> dict[str, float | str]:
    """Run a contender as a child and ask the kernel for its peak.

    The parent imports nothing large: a child inherits the peak of the process that made it.
    """
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, __file__, contender, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, **threads},
    )
    assert child.stdout is not None
    said = json.loads(child.stdout.read())
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, f"{contender} ended with {child.returncode}"
    return {"contender": contender, "peak_mb": usage.ru_maxrss * 1024 / 1e6, **said}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        subprocess.run([sys.executable, __file__, "checkpoint", name], check=True)
        rows = [watch(contender, Path(name)) for contender in CONTENDERS]
    forward = float(rows[0]["seconds"])
    for row in rows:
        row["forwards"] = float(row["seconds"]) / forward
        row.update({k: round(v, 3) for k, v in row.items() if isinstance(v, float)})
    print("| | peak MB | of it above `ready` | seconds a step | in forwards of ours |")
    print("|---|---|---|---|---|")
    for row in rows:
        above = float(row["peak_mb"]) - float(row["ready_mb"])
        print(
            f"| {row['contender']} | {row['peak_mb']:.0f} | {above:.0f} | {row['seconds']:.2f} | "
            f"{row['forwards']:.1f} |"
        )
    setting = {"classes": len(CLASSES), "context": TOKENS, "steps": STEPS, "threads": 1}
    report = {"machine": platform.processor() or platform.machine(), **setting, "rows": rows}
    RESULT.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "checkpoint":
        make_checkpoint(Path(sys.argv[2]))
    else:
        measure(sys.argv[1], Path(sys.argv[2]))
