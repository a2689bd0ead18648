"""The rules of the house that a machine can check."""

import ast
import subprocess
import sys
from pathlib import Path

import sharpzo

SOURCE = Path(sharpzo.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
# Imports point down this list only; members of one row do not import each other.
LAYERS = [
    {"cli"},
    {"report"},
    {"bench", "testing"},
    {"classifier"},
    {"fitting"},
    {"trained"},
    {"methods"},
    {"run"},
    {"evaluate", "objective"},
    {"contexts", "optim", "linear"},
    {"towers"},
    {"data"},
    {"artifact"},
    {"journal", "record"},
    {"budget", "descent", "metrics", "settings", "memory", "process", "rng"},
    {"detour"},
    {"types"},
    {"errors", "wording"},
]
LAYER = {name: i for i, layer in enumerate(LAYERS) for name in layer}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sharpzo."):
            names.add(node.module.split(".")[1])
    return names


def test_imports_point_down():
    for path in MODULES:
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room in ("__init__", "__main__", "assets"):
            continue
        for name in imported(path) - {room}:
            assert LAYER[name] > LAYER[room], f"{path}: {room} imports {name}"


def test_modules_are_small():
    long = {str(p): n for p in MODULES if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_importing_sharpzo_loads_nothing_heavy():
    loaded = run("import sharpzo, sys; print(' '.join(sys.modules))").split()
    heavy = {"numpy", "onnxruntime", "onnx", "PIL", "typer", "rich", "torch", "tokenizers"}
    assert not heavy & set(loaded)


def test_the_commands_help_loads_no_runtime():
    loaded = run(
        "import sys\nfrom sharpzo.cli.app import app\nprint(' '.join(sys.modules))"
    ).split()
    assert not {"onnxruntime", "onnx", "torch"} & set(loaded)


def test_nothing_is_pickled_or_evaluated():
    for path in MODULES:
        text = path.read_text()
        for word in ("import pickle", "joblib", "torch.load", "allow_pickle=True", "eval("):
            assert word not in text, f"{path.name} has {word}"


def test_one_place_imports_onnx_runtime():
    """By the time it is imported its reports are off, and they are off from the start."""
    root = SOURCE.parent.parent
    importing = {
        str(path.relative_to(root))
        for folder in ("src", "benchmarks", "experiments", "tools")
        for path in (root / folder).rglob("*.py")
        if "import onnxruntime" in path.read_text(encoding="utf-8")
    }
    assert importing == {"src/sharpzo/towers/runtime.py"}
