"""Peak memory of `sharpzo fit`, seen from outside: with the least limit that works, without a
limit, and of backpropagation on the same photos and model.

    python benchmarks/memory.py              # prints one line per run, writes results/memory.json

Models: random weights of the sizes of CLIP ViT-B/16, RN50 and ViT-L/14, with a vocabulary of 49,408
pieces, and of SigLIP-B/16 with 32,000, float32 files; 16 random photos of 64 x 64 pixels for each
of 10 classes. Runs of a model, in this order (``--runs`` names fewer):

* ``least``, ``least, int8``: method ``sharpzo``, 200 forwards, with the least limit, which is what
  a run before it with a limit of 1 MB names in its refusal;
* ``least, default method``: ``ladder+gda``, one forward, as `fit` runs without further wishes;
* ``unlimited``: method ``sharpzo`` without a limit, which keeps its image features;
* the same with ``fgn`` and ``fgn-csc``, and in 250 MB: 200 forwards are three linearisations of the
  one and one of the other, and later ones add no more than the old directions (5 MB);
* ``250 MB, ladder+image``: with ``--shots 20`` 16 photos of each class are for training and 4 for
  validation, and each trains the last image block through four views;
* ``coop``, ``coop, checkpointing``: backpropagation (torch, extra ``torch``), 20 steps of 32
  photos, with the image features that the run before has kept: the peak is that of tuning.

Peak: every 10 ms the resident sizes (RSS, from /proc) of the process and all its descendants are
added up; the largest sum counts. Pages that several of them share (libraries, the mapped
checkpoint) count once for each, so the sum is no less than what they take; PSS, which counts them
once, is sampled as well, more rarely, as it is slow to read. Pages of the checkpoint that the
system keeps as its file cache after they were let go belong to no process and are not counted.
``said`` is the peak that sharpzo itself prints. Seconds are processor seconds, of all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RESULT = Path(__file__).parent / "results" / "memory.json"
RUN = [sys.executable, "-c", "from sharpzo.cli import run; run()"]
SEARCH = ["--method", "sharpzo"]
FGN = ["--method", "fgn"]
IMAGE = ["--method", "ladder+image", "--shots", "16", "--memory-limit", "250MB"]
COOP = ["--method", "coop", "--budget-steps", "20"]
RUNS = {
    "least": SEARCH,
    "least, int8": [*SEARCH, "--precision", "int8"],
    "least, default method": [],
    "unlimited": SEARCH,
    "least, fgn": FGN,
    "250 MB, fgn": [*FGN, "--memory-limit", "250MB"],
    "least, fgn, int8": [*FGN, "--precision", "int8"],
    "unlimited, fgn": FGN,
    "least, fgn-csc": ["--method", "fgn-csc"],
    "250 MB, fgn-csc": ["--method", "fgn-csc", "--memory-limit", "250MB"],
    "unlimited, fgn-csc": ["--method", "fgn-csc"],
    "250 MB, ladder+image": IMAGE,
    "coop": COOP,
    "coop, checkpointing": [*COOP, "--set", "checkpointing=true"],
}
WORDS = ("cat", "dog", "bird", "tree", "house")
NAMES = [*WORDS, *(f"{a} {b}" for a, b in islice(product(WORDS, WORDS), 5))]
PIECES = 49_408
MODELS = {
    "ViT-B/16": (
        {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8},
        {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
         "num_hidden_layers": 12, "patch_size": 16},
        512,
    ),
    "RN50": (
        {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8},
        {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 1,
         "num_hidden_layers": 1, "patch_size": 32},
        1024,
    ),
    "SigLIP-B/16": ({}, {}, 768),
    "ViT-L/14": (
        {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16,
         "num_hidden_layers": 24, "patch_size": 14},
        768,
    ),
}  # fmt: skip


def write_model(folder: Path, name: str) -> None:
    """A checkpoint of random weights, and a vocabulary as large as CLIP's."""
    tests = Path(__file__).parent.parent / "tests"
    sys.path[:0] = [str(tests), str(tests / "towers")]
    from random_models import save_clip

    text, vision, width = MODELS[name]
    if name.startswith("SigLIP"):
        write_siglip(folder)
        return
    save_clip(folder, {**text, "vocab_size": PIECES, "num_hidden_layers": 12},
              {**vision, "image_size": 224}, width=width)  # fmt: skip
    letters = sorted(json.loads((folder / "vocab.json").read_text("utf-8")))
    letters = [piece for piece in letters if len(piece.removesuffix("</w>")) == 1]
    pairs = product("abcdefghijklmnopqrstuvwxyz", repeat=2)
    merges = [(a, b) for a, b in pairs] + [(a, f"{b}</w>") for a, b in product(
        "abcdefghijklmnopqrstuvwxyz", repeat=2)]  # fmt: skip
    twos, ends = [a + b for a, b in merges[:676]], [a + b for a, b in merges[676:]]
    merges += list(islice(product(twos, ends), PIECES - 2 - len(letters) - len(merges)))
    pieces = [*letters, *(a + b for a, b in merges), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    assert len(vocabulary) == PIECES
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), "utf-8")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"bos_token_id": PIECES - 2, "eos_token_id": PIECES - 1}
    (folder / "config.json").write_text(json.dumps(config))

    if name == "RN50":
        with_resnet(folder)


def with_resnet(folder: Path) -> None:
    """Put the ResNet's tensors in place of the small image tower, in a folder of OpenCLIP."""
    from open_clip_models import from_transformers, save_resnet

    from_transformers(folder, folder / "plain")
    save_resnet(folder / "plain", folder, stages=(3, 4, 6, 3), stem=64, heads=32, side=224)
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)


def write_siglip(folder: Path) -> None:
    """SigLIP of base size at 224 pixels, and a tokenizer that has the words."""
    from siglip_models import save_real
    from tokenizers import Tokenizer

    save_real(folder, "siglip-b16")
    core = Tokenizer.from_file(str(folder / "tokenizer.json"))
    core.add_tokens([*WORDS])
    core.save(str(folder / "tokenizer.json"))


def write_photos(folder: Path, shots: int) -> None:
    draws = np.random.default_rng(0)
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        for i in range(shots):
            pixels = draws.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def descendants(pid: int) -> list[int]:
    """The process and all that it has started, and they, as far as they still run."""
    found = [pid]
    for one in found:
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:  # it has ended
            continue
    return found


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def proportional(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss: +(\d+)", rollup, re.MULTILINE)[1]) * 1024  # type: ignore[index]
    except (OSError, TypeError):
        return 0


def watch(command: list[str]) -> tuple[str, dict[str, float]]:
    """Run a command; return what it printed, and its peaks in MB and processor seconds."""
    before = os.times()
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output: list[bytes] = []
    reader = threading.Thread(target=lambda: output.append(process.stdout.read()))  # type: ignore[union-attr]
    reader.start()
    most, most_shared, looks = 0, 0, 0
    while process.poll() is None:
        pids = descendants(process.pid)
        most = max(most, sum(map(resident, pids)))
        if looks % 10 == 0:
            most_shared = max(most_shared, sum(map(proportional, pids)))
        looks += 1
        time.sleep(0.01)
    reader.join()
    after = os.times()
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    return output[0].decode(), {
        "peak_mb": round(most / 1e6, 1),
        "peak_pss_mb": round(most_shared / 1e6, 1),
        "processor_seconds": round(spent, 1),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def fit(
    model: Path, photos: Path, out: Path, args: argparse.Namespace, extra: list[str]
) -> dict[str, Any]:
    command = [*RUN, "fit", str(photos), "--out", str(out), "--model", str(model), "--threads",
               str(args.threads), "--json", *extra]  # fmt: skip
    printed, measured = watch(command)
    line = printed.strip().splitlines()[-1]
    least = re.search(r"need at least ([\d,]+) MB", line)
    if least:
        return {"least_mb": int(least[1].replace(",", "")), **measured}
    said = json.loads(line)
    return {"method": said["method"], **measured, "said_mb": round(said["peak_memory_mb"], 1),
            "forwards": said["forwards"], "tuning_seconds": said["seconds"]}  # fmt: skip


def measure(run: str, model: Path, photos: Path, out: Path, args: argparse.Namespace) -> dict:
    keeps = run == "unlimited" or "coop" in run
    extra = [*RUNS[run], *(["--cache", str(out / "cache")] if keeps else ["--no-cache"])]
    if not any(word in run for word in ("coop", "default", "image")):
        extra += ["--budget-forwards", str(args.forwards)]
    limit = "250MB" if "MB" in run else None
    if "least" in run:
        refused = fit(model, photos, out / "refused", args, [*extra, "--memory-limit", "1MB"])
        limit = f"{refused['least_mb']}MB"
        extra += ["--memory-limit", limit]
    return {"run": run, "limit": limit, **fit(model, photos, out / run, args, extra)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--forwards", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--add", action="store_true", help="to the runs that are written there")
    parser.add_argument("--write", nargs=2, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write_model(Path(args.write[0]), args.write[1])
        return
    runs: list[dict] = json.loads(args.out.read_text())["runs"] if args.add else []
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch) / "photos"
        write_photos(photos, args.shots)
        for number, name in enumerate(args.models):
            folder, out = Path(scratch) / f"model-{number}", Path(scratch) / f"runs-{number}"
            subprocess.run([sys.executable, __file__, "--write", str(folder), name], check=True,
                           capture_output=True)  # fmt: skip
            for run in args.runs:
                line = {"model": name, "photos": len(NAMES) * args.shots, "threads": args.threads}
                line |= measure(run, folder, photos, out, args)
                runs.append(line)
                print(line, flush=True)
                report = {"cpu": platform.processor() or platform.machine(), "runs": runs,
                          "onnxruntime": version("onnxruntime")}  # fmt: skip
                args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
