"""Count the rooms that a command passes, and how often it goes back to one.

    python tools/rooms.py                 # fit, search (fit --method sharpzo), predict, bench
    python tools/rooms.py fit --calls     # every step with the calls that make it

The commands run on 28 photos of the demo, in this process and with all its Python calls traced; for
``bench`` the work of a cell, which has a process of its own, is done here as that process does it.

A *room* is a package or a module directly under ``src/sharpzo`` in which at least one function was
called. Modules that import no room (errors, types, settings, metrics, ...) are vocabulary: all may
use them, and they are not counted. A *step* is a pair of rooms, where code of the first calls code
of the second and the calling module names the second in an import. A call of what was handed in, by
a contract of ``types`` or as a callback, is no step: whoever reads the caller need not go there.
Each room is entered by one step; every further step into a room is a *return*, however often it is
made. So with R rooms and E steps between them there are E - (R - 1) returns.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType

from PIL import Image

import sharpzo
from sharpzo.data.demo import load_demo

SOURCE = Path(sharpzo.__file__).parent
SHOTS = {"train": 4, "val": 1, "test": 2}  # photos of each of four classes
RECIPE = 'data_sets = ["photos"]\nshots = [4]\nmethods = ["gda"]\n'
Step = tuple[str, str]


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports() -> dict[Path, set[str]]:
    """The rooms and vocabulary that each module names in its imports, anywhere in it."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sharpzo"):
                parts = (node.module or "").split(".")[1:2]
                names |= {*parts} or {alias.name for alias in node.names}
        found[path] = names
    return found


def vocabulary(imported: dict[Path, set[str]]) -> set[str]:
    """Top modules that import no room, only one another."""
    found = {path.stem for path in imported if path.parent == SOURCE}
    while True:
        left = {
            name for name in found
            if not {one for one in imported[SOURCE / f"{name}.py"] if one != "__version__"} - found
        }  # fmt: skip
        if left == found:
            return found
        found = left


class Walk:
    """The rooms of the calls made while it is traced, in the order in which they are entered."""

    def __init__(self) -> None:
        self._imports = imports()
        self._words = vocabulary(self._imports)
        self.rooms: list[str] = []
        self.steps: dict[Step, set[str]] = {}

    @property
    def returns(self) -> int:
        return len(self.steps) - (len(self.rooms) - 1)

    def _module(self, code: CodeType) -> Path | None:
        """The module of a room that has this function; None of the body of a module or class."""
        path = Path(code.co_filename)
        ours = code.co_filename.startswith(str(SOURCE)) and code.co_flags & CO_OPTIMIZED
        return path if ours and room_of(path) not in self._words else None

    def _call(self, frame: FrameType, event: str, argument: object) -> None:
        module = self._module(frame.f_code) if event == "call" else None
        if module is None:
            return
        back = frame.f_back
        while back is not None and self._module(back.f_code) is None:
            if back.f_code.co_name == "<module>" and back.f_code.co_filename.startswith(
                str(SOURCE)
            ):
                return  # an import: no command calls what a module makes then
            back = back.f_back
        room = room_of(module)
        if back is not None:
            caller = Path(back.f_code.co_filename)
            if room == room_of(caller) or room not in self._imports[caller]:
                return
            call = f"{caller.stem}.{back.f_code.co_qualname} -> {frame.f_code.co_qualname}"
            self.steps.setdefault((room_of(caller), room), set()).add(call)
        if room not in self.rooms:
            self.rooms.append(room)

    @contextlib.contextmanager
    def traced(self) -> Iterator[None]:
        sys.setprofile(self._call)
        threading.setprofile(self._call)  # the bench does the work of cells in threads
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


def command(walk: Walk, *arguments: object) -> None:
    from sharpzo.cli.app import app

    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet), walk.traced():
        app([*map(str, arguments), "--cache", "cache"], standalone_mode=False)


def bench(walk: Walk) -> None:
    """The command, whose engine does the work of a cell here."""
    from sharpzo.bench import compute, engines

    def ask(work, cells, cache, listen, started):
        return compute.attempt(work, cells, cache, listen)

    engines.ask = ask
    command(walk, "bench", "recipe.toml", "--data", ".")


PATHS: dict[str, Callable[[Walk], None]] = {
    "fit": lambda walk: command(walk, "fit", "photos", "--out", "run"),
    "search": lambda walk: command(
        walk, "fit", "photos", "--out", "search", "--method", "sharpzo", "--budget-forwards", 300
    ),
    "predict": lambda walk: command(walk, "predict", "run", "photos/test"),
    "bench": bench,
}


def photos(folder: Path) -> None:
    demo = load_demo()
    for name, split in (("train", demo.train), ("val", demo.val), ("test", demo.test)):
        assert split is not None
        for row, (photo, label) in enumerate(zip(split.photos, split.labels, strict=True)):
            place = folder / name / demo.class_names[label]
            if label < 4 and len([*place.glob("*")]) < SHOTS[name]:
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(photo.decode()).save(place / f"{row}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="*", choices=[*PATHS, []], help="all by default")
    parser.add_argument("--calls", action="store_true", help="show the calls of every step")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        photos(Path("photos"))
        Path("recipe.toml").write_text(RECIPE)
        for name, walk_along in PATHS.items():
            walk = Walk()
            walk_along(walk)  # predict reads the run of fit
            if given.paths and name not in given.paths:
                continue
            print(f"{name}: {len(walk.rooms)} rooms, {walk.returns} returns")
            entered: set[str] = set()
            for (one, other), calls in walk.steps.items():
                print(f"    {one} -> {other}{' (return)' if other in entered else ''}")
                entered.add(other)
                for call in sorted(calls) if given.calls else ():
                    print(f"        {call}")


if __name__ == "__main__":
    main()
