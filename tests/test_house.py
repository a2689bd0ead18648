"""The rules of the house that a machine can check."""

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path
from statistics import median

import sharpzo

SOURCE = Path(sharpzo.__file__).parent
MODULES = {
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
# Imports point down this list only; members of one row do not import each other.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"web"},
    {"report", "export"},
    {"bench", "testing"},
    {"classifier", "models"},
    {"hub", "trackers"},
    {"fitting", "audit", "diagnosis"},
    {"methods"},
    {"tuning", "evaluate"},
    {"optim", "linear"},
    {"towers"},
    {"data"},
    {"storage"},
    {"budget"},
    {"detour"},
    {"descent", "metrics", "settings", "memory", "machine", "process", "rng"},
    {"types"},
    {"errors", "wording"},
]
LAYER = {name: i for i, layer in enumerate(LAYERS) for name in layer}


def imported(path: Path) -> set[str]:
    """Modules of ours that a module imports, at its top or later; the root itself is no room."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sharpzo."):
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else node.module for name in whole}
    return names


def test_imports_point_down():
    for module in MODULES.keys() - {"sharpzo", "sharpzo.assets"}:
        for name in imported(MODULES[module]):
            room, other = module.split(".")[1], name.split(".")[1]
            assert room == other or LAYER[room] < LAYER[other], f"{module} imports {name}"


def test_no_module_imports_itself_by_way_of_others():
    TopologicalSorter({name: imported(path) for name, path in MODULES.items()}).prepare()


def test_the_house_is_small():
    lines = {name: path.read_text("utf-8").count("\n") for name, path in MODULES.items()}
    assert not {name: many for name, many in lines.items() if many > 400}
    assert median(lines.values()) <= 160
    assert len(MODULES) <= 229


def test_a_file_name_means_one_thing():
    names = Counter(path.name for path in MODULES.values())
    assert {name for name, many in names.items() if many > 1} == {"__init__.py"}


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_importing_sharpzo_loads_nothing_heavy():
    loaded = run("import sharpzo, sys; print(' '.join(sys.modules))").split()
    heavy = {"numpy", "onnxruntime", "onnx", "PIL", "typer", "rich", "torch", "tokenizers"}
    assert not heavy & set(loaded)


def test_every_public_name_is_there():
    assert all(getattr(sharpzo, name) is not None for name in sharpzo.__all__)


def loaded_by(*arguments: str) -> set[str]:
    code = "import sys\nfrom sharpzo.cli import main\ntry:\n    main(sys.argv[1:])\nfinally:\n"
    code += "    print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_commands_help_loads_no_runtime():
    loaded = loaded_by("--help")
    assert "sharpzo.cli.apply" in loaded
    assert not {"onnxruntime", "onnx", "torch", "pydantic"} & loaded


def test_a_command_imports_its_own_file_alone():
    loaded = loaded_by("predict", "no-such-run", "photo.jpg")
    assert "sharpzo.cli.apply" in loaded
    assert not {"sharpzo.cli.fit", "sharpzo.cli.bench", "sharpzo.cli.report", "pydantic"} & loaded


def test_nothing_is_pickled_or_evaluated():
    for path in MODULES.values():
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
