"""Compare two checkouts on the demo photos: are the results of all methods equal to the bit?

``python tools/same_results.py A B`` records both, each in its own process, and prints one line
per case that differs, with its first different field. The exit code is 1 if a case differs. A and B
are checkouts, or recordings:

    python tools/same_results.py --record base.json CHECKOUT
    python tools/same_results.py base.json .
    python tools/same_results.py base.json . --only sharpzo --only zo-sgd
    python tools/same_results.py base.json . --rename sharpzo-fast=sharpzo@fast --ignore stage
    python tools/same_results.py base.json . --case sharpzo-fast=sharpzo,search.slopes=exact

A case is a method or METHOD@PRESET, fitted to 4 photos of each of 4 classes, with 500 forwards and
long loops capped; presets that are equal with these caps are fitted once. Fields are all settings,
the arrays (SHA-256), the history, run.json, and the scores of test photos: after the fit, from the
saved run, and among other class names. Further cases are other precisions and engines of the
towers, the command line, and the keys and results of bench cells. The runs of a recording are saved
beside it (NAME.runs); B reads those of A, too, and has to give the same scores. Seconds, memory,
dates and versions are left out.

``--rename OLD=NEW``: what A calls OLD is NEW in B, presets with it (OLD@x is then NEW@x, or
NEW/x if NEW is a preset). ``--case NAME=METHOD[@PRESET][,SETTING=VALUE…]``: a further case of a
side that is recorded now. ``--ignore NAME``: leave out fields with this part, beginning or pattern.

Results are equal on one machine and its libraries only: a recording is of no use on another.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from fnmatch import fnmatch
from functools import partial, reduce
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

# Below 500 forwards no search measures its step size.
FORWARDS, SEED = 500, 1
# Steps of methods whose single step is slow.
STEPS = {"blackvip": 2, "coop": 4, "coop-csc": 4}
# Caps of methods that take a slope along each number, or whose pass is slow.
OWN_CAPS = {"sharpzo": {"dim": 16}, "blackvip": {"batch": 4, "search.directions": 2}}
CLASSES = {"t-shirt": 0, "trouser": 1, "sandal": 5, "bag": 8}
PHOTOS = {"train": ("train-1", 4), "val": ("val-1", 2), "test": ("test", 3)}
UNSEEN = ("dress", "ankle boot", "bag")
# Numbers above these become these, so that views are few and all stages and refreshes are reached.
CAPS = {
    "key_views": 2,
    "ridge_views": 2,
    "views": 2,
    "epochs": 3,
    "batch": 8,
    "validate_every": 50,
    "search.directions": 8,
    "search.cma.population_size": 10,
    "search.switch.generation": 4,
    "search.switch.patience": 4,
    "search.sharpness.directions": 3,
    "search.sharpness.refresh_every": 2,
    "search.zo.refresh": 5,
    "search.zo.slow_after": 10,
}
# Other towers: what is computed, how, and in which process.
TOWERS: dict[str, dict[str, Any]] = {
    "templates": {"method": "projection", "template": "a {}, on black"},
    "float16": {"method": "sharpzo", "precision": "float16"},
    "int8": {"method": "fgn", "precision": "int8"},
    "int4": {"method": "zo-sgd", "precision": "int4"},
    "limit": {"method": "sharpzo", "memory_limit": "600MB"},
    "limit-csc": {"method": "fgn-csc", "memory_limit": "600MB"},
    "openvino": {"method": "sharpzo", "engine": "openvino"},
}
VOLATILE = {
    "seconds", "peak_memory_mb", "created", "sharpzo_version", "sharpzo", "arrays_sha256",
    "record_sha256", "history_sha256",
}  # fmt: skip

Fields = dict[str, str]


# --- recording ------------------------------------------------------------------------------------


def write_photos(folder: Path) -> None:
    """A few of the package's demo photos, in folders of splits and classes."""
    from PIL import Image
    from safetensors.numpy import load_file

    import sharpzo

    assert sharpzo.__file__
    (found,) = Path(sharpzo.__file__).parent.rglob("demo/photos.safetensors")
    content = load_file(found)
    for split, (key, many) in PHOTOS.items():
        for name, label in CLASSES.items():
            rows = [row for row in content[key] if content["labels"][row] == label]
            (folder / split / name).mkdir(parents=True)
            for row in rows[:many]:
                Image.fromarray(content["photos"][row]).save(folder / split / name / f"{row}.png")


def flat(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and exact texts of all that JSON holds, except for what no two runs share."""
    if isinstance(value, Mapping):
        pairs = [(name, one) for name, one in value.items() if name not in VOLATILE]
    elif isinstance(value, list | tuple):
        pairs = list(enumerate(value))
    else:
        yield at, repr(value)
        return
    if not pairs:
        yield at, "empty"
    for name, one in pairs:
        yield from flat(one, f"{at}.{name}" if at else str(name))


def digest(array: Any) -> str:
    return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"


def caps(method: str, settings: Any) -> dict[str, int]:
    """The changes that keep a fit with these settings short."""
    tree, found = asdict(settings), {}
    for name, most in (CAPS | OWN_CAPS.get(method, {})).items():
        *branch, leaf = name.split(".")
        value = reduce(lambda at, step: at.get(step) or {}, branch, tree).get(leaf)
        if isinstance(value, int) and value > most:
            found[name] = most
    return found


def fitted(
    run: Path, photos: Path, changes: Mapping[str, Any] | None = None, **parameters: Any
) -> Fields:
    """All that a fit gives, what its saved run gives, and what other class names give."""
    from safetensors.numpy import load_file

    from sharpzo import Budget, PromptClassifier, SharpzoError

    method, preset = parameters["method"], parameters.get("preset")
    changes = changes or {}
    settings = registry()[method].configure(preset, changes)
    budget = Budget(FORWARDS, steps=STEPS.get(method))
    tests = sorted((photos / "test").glob("*/*.png"))
    changes = {**changes, **caps(method, settings)}
    classifier = PromptClassifier(
        settings=changes, budget=budget, seed=SEED, threads=1, **parameters
    )
    classifier.fit(photos).save(run)
    loaded = PromptClassifier.load(run, cache=parameters["cache"])
    history = (run / "history.jsonl").read_text(encoding="utf-8").splitlines()
    fields = {
        "run": json.loads((run / "run.json").read_text(encoding="utf-8")),
        "history": [json.loads(line) for line in history],
        "accuracy": classifier.evaluate(photos).accuracy,
    }
    found = dict(flat(asdict(settings), "settings")) | dict(flat(fields))
    for name, array in sorted(load_file(run / "arrays.safetensors").items()):
        found[f"arrays.{name}"] = digest(array)
    found["scores.fitted"] = digest(classifier.predict_proba(tests))
    found["scores.loaded"] = digest(loaded.predict_proba(tests))
    for which, one in ("fitted", classifier), ("loaded", loaded):
        try:
            found[f"scores.renamed.{which}"] = digest(one.rename(UNSEEN).predict_proba(tests))
        except SharpzoError as error:
            found[f"scores.renamed.{which}"] = type(error).__name__
    return found


def call(*words: str) -> str:
    """Standard output of the command line."""
    done = subprocess.run(
        [sys.executable, "-m", "sharpzo", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"sharpzo {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def command_line(cache: Path) -> Fields:
    """What fit, predict and evaluate print and write, in the current folder."""
    common = "--cache", str(cache), "--json"
    words = "--method", "sharpzo", "--set", "search.zo.keep=0.5", "--budget-forwards", "300"
    outputs = {
        "fit": call("fit", "photos", "--out", "run", *words, "--threads", "1", *common),
        "predict": call("predict", "run", "photos/test", *common),
        "unseen": call("predict", "run", "photos/test", "--classes", ",".join(UNSEEN), *common),
        "evaluate": call("evaluate", "run", "photos", *common),
    }
    return dict(flat({name: json.loads(text) for name, text in outputs.items()}))


RECIPE = (
    'data_sets = ["photos"]\nbaseline = "{0}"\nseeds = [1, 2]\nbudgets = [100, 200]\nthreads = 1\n'
)


def bench(cache: Path) -> Fields:
    """Keys and contents of the cells of a small grid, and its table."""
    text = 'shots = [2]\nmethods = ["gda", "sharpzo", {method="zo-sgd", preset="adam"}]\n'
    Path("small.toml").write_text(RECIPE.format("gda") + text, encoding="utf-8")
    call("bench", "small.toml", "--data", ".", "--out", "bench", "--cache", str(cache))
    found = dict(flat(json.loads(Path("bench/bench.json").read_text(encoding="utf-8")), "recipe"))
    for cell in sorted(Path("bench/cells").glob("*.json")):
        found |= flat(json.loads(cell.read_text(encoding="utf-8")), cell.stem[:12])
    header, *rows = Path("bench/table.csv").read_text(encoding="utf-8").splitlines()
    kept = [at for at, name in enumerate(header.split(",")) if name not in VOLATILE]
    for number, row in enumerate(rows):
        words = row.split(",")
        found[f"table.{number}"] = ",".join(words[at] for at in kept if at < len(words))
    return found


OTHERS = {"command-line": command_line, "bench": bench}


def registry() -> Mapping[str, Any]:
    from sharpzo.methods import METHODS

    return METHODS


def wanted(name: str, only: list[str]) -> bool:
    return not only or any(one in (name, name.partition("@")[0]) for one in only)


def requested(text: str) -> tuple[str, dict[str, Any]]:
    """Name and parameters of a case as the command line has it."""
    name, _, what = text.partition("=")
    which, *pairs = what.split(",")
    method, _, preset = which.partition("@")
    changes = {}
    for pair in pairs:
        setting, _, value = pair.partition("=")
        try:
            changes[setting] = json.loads(value)
        except ValueError:
            changes[setting] = value
    return name, {"method": method, "preset": preset or None, "changes": changes}


def equal_to(settings: Any, first: str) -> Fields:
    """A case that is the same fit as another one, once both are capped."""
    return dict(flat(asdict(settings), "settings")) | {"fit": f"that of {first}"}


def fits(more: list[str], fit: Callable[..., Fields]) -> dict[str, Callable[[], Fields]]:
    """Cases of all methods and presets by name, of other towers and of the command line."""
    found: dict[str, Callable[[], Fields]] = {}
    for method in registry().values():
        firsts: dict[Any, str] = {}
        for preset in (None, *method.presets):
            name = f"{method.name}@{preset}" if preset else method.name
            settings = method.configure(preset)
            capped = method.configure(preset, caps(method.name, settings))
            first = firsts.setdefault(capped, name)
            if first == name:
                found[name] = partial(fit, name, method=method.name, preset=preset)
            else:
                found[name] = partial(equal_to, settings, first)
    asked = {f"tower@{name}": parameters for name, parameters in TOWERS.items()}
    asked |= dict(map(requested, more))
    return found | {name: partial(fit, name, **parameters) for name, parameters in asked.items()}


def attempt(case: Callable[..., Fields], *args: Any, **more: Any) -> Fields:
    try:
        return case(*args, **more)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def scores_of(run: Path, photos: Path, cache: Path) -> Fields:
    """Scores of a run that the other side has saved."""
    from sharpzo import PromptClassifier

    loaded = PromptClassifier.load(run, cache=cache)
    return {"scores.loaded": digest(loaded.predict_proba(sorted(photos.glob("test/*/*.png"))))}


def record(out: Path, only: list[str], more: list[str], theirs: Path | None) -> None:
    """Run the cases with the `sharpzo` that Python finds; write OUT, and the runs beside it."""
    warnings.simplefilter("ignore")
    out, theirs = out.resolve(), theirs.resolve() if theirs else None
    ours = out.with_suffix(".runs")
    shutil.rmtree(ours, ignore_errors=True)
    ours.mkdir(parents=True)
    home, cases, seconds = Path.cwd(), {}, {}
    with tempfile.TemporaryDirectory(prefix="same-results-") as folder:
        os.chdir(folder)  # records name folders: relative ones are the same for both sides
        photos, cache = Path("photos"), Path(folder) / "cache"
        write_photos(photos)
        cached = partial(fitted, photos=photos, cache=cache)
        todo = fits(more, lambda name, **what: cached(ours / quote(name, safe=""), **what))
        todo |= {name: partial(case, cache) for name, case in OTHERS.items()}
        for name, case in todo.items():
            if wanted(name, only):
                begin = time.process_time()
                cases[name] = attempt(case)
                seconds[name] = round(time.process_time() - begin, 2)
                print(f"\r{len(cases)} cases, {name:60}", end="", file=sys.stderr, flush=True)
        read = {
            unquote(run.name): attempt(scores_of, run, photos, cache)
            for run in sorted(theirs.iterdir() if theirs else ())
            if wanted(unquote(run.name), only)
        }
        os.chdir(home)
    print(file=sys.stderr)
    document = {"cases": cases, "read": read, "seconds": seconds}
    out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


# --- comparing ------------------------------------------------------------------------------------


def record_apart(checkout: Path, out: Path, words: list[str]) -> None:
    """Record a checkout in a process of its own, on one thread."""
    source = (checkout / "src").resolve()
    if not (source / "sharpzo").is_dir():
        sys.exit(f"{checkout} is neither a checkout of sharpzo nor a recording")
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    subprocess.run(
        [sys.executable, __file__, "--record", str(out), *words],
        env={**os.environ, **one, "PYTHONPATH": str(source)},
        check=True,
    )


def renamed(name: str, renames: Mapping[str, str]) -> str:
    """What the other side calls a case."""
    if name in renames:
        return renames[name]
    method, _, preset = name.partition("@")
    if method not in renames:
        return name
    return f"{renames[method]}{'/' if '@' in renames[method] else '@'}{preset}"


def ignored(field: str, patterns: list[str]) -> bool:
    return any(
        one in field.split(".") or field.startswith(f"{one}.") or fnmatch(field, one)
        for one in patterns
    )


def differences(a: Fields, b: Fields, patterns: list[str]) -> list[str]:
    """A sentence for each field that differs, in the order of A."""
    found = []
    for field in dict.fromkeys((*a, *b)):
        if ignored(field, patterns) or a.get(field) == b.get(field):
            continue
        if field not in b or field not in a:
            found.append(f"{field} is only in {'A' if field in a else 'B'}")
        else:
            found.append(f"{field}: {a[field]} in A, {b[field]} in B")
    return found


def compare(
    a: dict[str, Any],
    b: dict[str, Any],
    only: list[str],
    ignore: list[str],
    renames: dict[str, str],
) -> int:
    """Print what differs; how many cases do."""
    olds, news = a["cases"], b["cases"]
    pairs = {name: renamed(name, renames) for name in olds if wanted(name, only)}
    lines = {}
    for old, new in pairs.items():
        if new not in news:
            lines[old] = [f"B has no case {new}"]
            continue
        patterns = ignore if old == new else [*ignore, "run.method", "run.preset"]
        lines[old] = differences(olds[old], news[new], patterns)
        if old in b["read"]:
            was = {"scores.loaded": olds[old].get("scores.loaded", "none")}
            read = differences(was, b["read"][old], ignore)
            lines[old] += [f"A's run, read by B: {line}" for line in read]
    only_new = set(news) - set(pairs.values())
    lines |= {new: ["A has no such case"] for new in news if new in only_new and wanted(new, only)}
    for name, found in lines.items():
        if found:
            rest = f" (and {len(found) - 1} more)" if found[1:] else ""
            print(f"{name}: {found[0]}{rest}")
    failed = [old for old, new in pairs.items() if "error" in olds[old] and not lines[old]]
    if failed:
        print(f"the same error on both sides: {', '.join(failed)}")
    differ = sum(map(bool, lines.values()))
    print(f"{len(lines)} cases, {differ} differ")
    return differ


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sides", nargs="*", type=Path, metavar="CHECKOUT|RECORDING")
    parser.add_argument("--record", type=Path, metavar="OUT.json", help="record, compare nothing")
    parser.add_argument("--only", action="append", default=[], metavar="METHOD[@PRESET]")
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW")
    parser.add_argument("--case", action="append", default=[], metavar="NAME=METHOD…")
    parser.add_argument("--ignore", action="append", default=[], metavar="FIELD")
    parser.add_argument("--theirs", type=Path, help=argparse.SUPPRESS)  # runs of the other side
    given = parser.parse_args()
    words = [f"--only={one}" for one in given.only] + [f"--case={one}" for one in given.case]
    if given.record and not given.sides:
        return record(given.record, given.only, given.case, given.theirs)
    if given.record and len(given.sides) == 1:
        return record_apart(given.sides[0], given.record, words)
    if given.record or len(given.sides) != 2:
        parser.error("give two checkouts or recordings, or --record OUT.json and a checkout")
    documents, runs = [], None
    with tempfile.TemporaryDirectory(prefix="same-results-") as folder:
        for number, side in enumerate(given.sides):
            out = side
            if side.is_dir():
                out = Path(folder) / f"{number}.json"
                theirs = [f"--theirs={runs}"] if runs and runs.is_dir() else []
                record_apart(side, out, words + theirs)
            documents.append(json.loads(out.read_text(encoding="utf-8")))
            runs = out.with_suffix(".runs").resolve()
    before, after = documents
    renames = dict(one.split("=", 1) for one in given.rename)
    sys.exit(1 if compare(before, after, given.only, given.ignore, renames) else 0)


if __name__ == "__main__":
    main()
