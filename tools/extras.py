"""Install the wheel, with each extra alone, into an empty environment, and use what it is for.

``python tools/extras.py [--python PYTHON] [--sdist] [EXTRA ...]``, from anywhere; without an EXTRA
all of them, and the core (``core``) first. Needs hatchling (extra ``test``) and a package registry.
Prints one line per extra and ends with exit code 1 if one fails. ``--sdist`` installs what the
source distribution builds instead of the wheel.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
CORE = "core"
# A few photos of the demo as a person has them: one folder per class.
PHOTOS = """
from pathlib import Path
from PIL import Image
from sharpzo.data.demo import load_demo
demo = load_demo(1)
for split, each in (("train", 4), ("val", 1), ("test", 1)):
    labelled = getattr(demo, split)
    for k, name in enumerate(demo.class_names[:3]):
        folder = Path("photos", split, name)
        folder.mkdir(parents=True)
        for row in [row for row, label in enumerate(labelled.labels) if label == k][:each]:
            Image.fromarray(labelled.photos[row].decode()).save(folder / f"{row}.png")
"""
# A server is asked for its first page, and ended as a system ends it; what serves photos gets one.
SERVED = """
import json, re, subprocess, sys, urllib.request
from pathlib import Path
command = [sys.executable, "-m", "sharpzo", *"{line}".split()]
server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
try:
    address = re.search(r"http://[^;#\\s]*", server.stdout.readline())[0]
    assert urllib.request.urlopen(address, timeout=60).status == 200
    if "serve" in command:
        photo = next(Path("photos", "test").rglob("*.png")).read_bytes()
        assert json.load(urllib.request.urlopen(address, photo, timeout=60))["label"]
    server.terminate()
    assert server.wait(60) == 0
finally:
    server.kill()
"""
RECIPE = 'data_sets = ["photos"]\nshots = [2]\nmethods = ["gda"]\n'


class Failed(Exception):
    """A command of a use failed, or left nothing behind; the text says which."""


class Environment:
    """An empty virtual environment, with a folder beside it in which its commands run."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder, self._home = folder / "work", folder / "environment"
        self.folder.mkdir(parents=True)
        variables = {name: value for name, value in os.environ.items() if "PYTHON" not in name}
        self._variables = variables | {"XDG_CACHE_HOME": str(folder / "cache")}
        subprocess.run([python, "-m", "venv", self._home], check=True, env=self._variables)
        self.scripts = self._home / ("Scripts" if os.name == "nt" else "bin")

    def run(self, *command: str | Path) -> str:
        """Run a program of the environment; return what it prints."""
        program, *arguments = map(str, command)
        done = subprocess.run(
            [self.scripts / program, *arguments], cwd=self.folder, env=self._variables,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            encoding="utf-8", errors="replace", check=False,
        )  # fmt: skip
        if done.returncode:
            raise Failed(f"{' '.join([program, *arguments])[:200]}: {done.stdout[-2000:]}")
        return done.stdout

    def sharpzo(self, *arguments: str) -> str:
        """Run the command line."""
        return self.run("sharpzo", *arguments)

    def python(self, code: str) -> str:
        """Run a few lines."""
        return self.run("python", "-c", code)

    def leaves(self, *names: str) -> None:
        """Raise Failed if a file is missing or empty."""
        for name in names:
            path = self.folder / name
            if not path.is_file() or not path.stat().st_size:
                raise Failed(f"{name} is missing or empty")


def core(use: Environment) -> None:
    use.sharpzo("demo", "--method", "ladder+tokens", "--out", "demo")
    use.sharpzo("fit", "photos", "--out", "run")
    found = use.sharpzo("predict", "run", "photos/test", "--json")
    if '"t-shirt"' not in found:
        raise Failed(f"predict has no class in {found[:300]}")
    use.sharpzo("evaluate", "run", "photos")


def test(use: Environment) -> None:
    """Tests of the repository against the installed package, not the checkout."""
    for name in ("tests", "pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, use.folder / name)
    use.run(
        "python", "-m", "pytest", "-q", "tests/spine/test_metrics.py", "tests/optim/test_cma.py"
    )


def torch(use: Environment) -> None:
    use.sharpzo("fit", "photos", "--out", "run", "--method", "coop", "--budget-steps", "2")


def bench(use: Environment) -> None:
    use.sharpzo("bench", "recipe.toml", "--data", ".", "--out", "table")
    use.leaves("table/table.parquet")


def plots(use: Environment) -> None:
    use.sharpzo("bench", "recipe.toml", "--data", ".", "--out", "table")
    if not list((use.folder / "table").glob("*.svg")):
        raise Failed("there is no plot in the bench's folder")


def ray(use: Environment) -> None:
    use.sharpzo("bench", "recipe.toml", "--data", ".", "--out", "table", "--engine", "ray")
    use.leaves("table/summary.md")


def openvino(use: Environment) -> None:
    use.sharpzo(
        "fit", "photos", "--out", "run", "--method", "sharpzo", "--budget-forwards", "60",
        "--engine", "openvino",
    )  # fmt: skip


def heic(use: Environment) -> None:
    """An encoder of HEIC is no package of ours: the photo is that of the tests."""
    tests = ROOT / "tests" / "data" / "test_decoding.py"
    begin = tests.read_text("utf-8").split("HEIC = base64.b64decode(")[1].split("\n)")[0]
    use.python(f"import base64\nopen('photo.heic', 'wb').write(base64.b64decode({begin.strip()}))")
    use.sharpzo("fit", "photos", "--out", "run")
    use.sharpzo("predict", "run", "photo.heic")


def report(use: Environment) -> None:
    use.sharpzo("fit", "photos", "--out", "run")
    use.sharpzo("report", "run", "--no-landscape")
    use.leaves("run/report.html")


def web(use: Environment) -> None:
    use.sharpzo("fit", "photos", "--out", "run")
    for line in ("serve run --port 0", "ui --port 0 --no-browser"):
        use.python(SERVED.format(line=line))


def tensorboard(use: Environment) -> None:
    tracked(use, "tensorboard")
    if not list((use.folder / "runs" / "run").glob("events.*")):
        raise Failed("there is no event file")


def mlflow(use: Environment) -> None:
    tracked(use, "mlflow")
    use.leaves("mlflow.db")
    refused(use, "fit", "photos", "--out", "none", "--track", "mlflow:http://127.0.0.1:9")


def tracked(use: Environment, tracker: str) -> None:
    use.sharpzo(
        "fit", "photos", "--out", "run", "--method", "sharpzo", "--budget-forwards", "60",
        "--track", tracker,
    )  # fmt: skip


def docs(use: Environment) -> None:
    for name in ("docs", "src", "tools", "mkdocs.yml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, use.folder / name)
    use.run("python", "-m", "mkdocs", "build", "--strict")
    use.leaves("site/index.html", "site/reference.html")


def reference(use: Environment) -> None:
    """transformers writes a random CLIP, and the towers read it. What writes it for the tests asks
    pytest for packages, which is no part of this extra."""
    folder = ROOT / "tests" / "towers"
    use.python(
        f"import importlib, sys, types\nsys.path.insert(0, {str(folder)!r})\n"
        "sys.modules['pytest'] = types.SimpleNamespace(importorskip=importlib.import_module)\n"
        "from pathlib import Path\nimport random_models as models\n"
        "vision = {**models.VISION, 'image_size': 32, 'patch_size': 8}\n"
        "models.save_clip(Path('model'), models.TEXT, vision)\nimport sklearn"
    )
    use.sharpzo("fit", "photos", "--out", "run", "--method", "gda", "--model", "model")


def refused(use: Environment, *arguments: str) -> None:
    """A command that has to end soon, in one sentence."""
    began = time.monotonic()
    try:
        use.sharpzo(*arguments)
    except Failed as error:
        if time.monotonic() - began > 60 or "Traceback" in str(error):
            raise
    else:
        raise Failed(f"{' '.join(arguments)} was not refused")


USES: dict[str, Callable[[Environment], None]] = {
    use.__name__: use
    for use in (
        core,
        test,
        torch,
        bench,
        plots,
        ray,
        openvino,
        heic,
        report,
        web,
        docs,
        reference,
        tensorboard,
        mlflow,
    )
}


def extras() -> set[str]:
    """The extras of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return set(project["optional-dependencies"])


def build(folder: Path) -> tuple[Path, Path]:
    """Build the wheel and the source distribution; return their paths."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def check(name: str, package: Path, folder: Path, python: str = sys.executable) -> str:
    """Install ``package`` with one extra, or the core alone, into an empty environment, use it, and
    return the Python version and the size; raises Failed."""
    use = Environment(folder, python)
    wanted = str(package) if name == CORE else f"{package}[{name}]"
    use.run("python", "-m", "pip", "install", "--quiet", "--no-compile", wanted)
    use.run("python", "-m", "pip", "check")
    use.python(PHOTOS)
    (use.folder / "recipe.toml").write_text(RECIPE, "utf-8")
    USES[name](use)
    version = use.python("import sys; print(*sys.version_info[:2], sep='.')").strip()
    size = sum(path.stat().st_size for path in use.scripts.parent.rglob("*") if path.is_file())
    return f"Python {version}, {size / 1e6:,.0f} MB installed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("extras", nargs="*", metavar="EXTRA", default=list(USES))
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environments")
    parser.add_argument("--sdist", action="store_true", help="install the source distribution")
    asked = parser.parse_args()
    if unknown := set(asked.extras) - set(USES):
        parser.error(f"there is no extra {', '.join(unknown)}; known: {', '.join(USES)}")
    failed = 0
    with tempfile.TemporaryDirectory() as place:
        wheel, sdist = build(Path(place))
        for name in asked.extras:
            began = time.monotonic()
            folder = Path(place, name)
            try:
                said = check(name, sdist if asked.sdist else wheel, folder, asked.python)
            except Failed as error:
                said, failed = f"FAILED: {error}", failed + 1
            print(f"{name:<12} {time.monotonic() - began:5.0f} s  {said}", flush=True)
            shutil.rmtree(folder)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
