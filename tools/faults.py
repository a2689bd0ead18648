"""Break what sharpzo keeps, in every way at hand, and check that nothing is lost.

    python tools/faults.py kills 1000     # kill -9 of searches, snapshots after every event
    python tools/faults.py fits 100       # the same of `sharpzo fit` with the embedded model
    python tools/faults.py bench 200      # of a bench
    python tools/faults.py claims 100     # ten processes on one run folder, bench and cache
    python tools/faults.py disk           # no space at every write (as root on a tmpfs)
    python tools/faults.py life 60000     # memory of a search of so many steps
    python tools/faults.py photos         # a hundred hostile photos
    python tools/faults.py cost           # share of a search's time
    python tools/faults.py bytes 500      # so many bytes flipped in every kind of file, and cuts

Each prints what it did, one JSON line at the end, and ends with code 1 if anything was lost.
Children are forked from a process that has imported everything. Unix only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from sharpzo.budget import Budget
from sharpzo.errors import ArtifactError
from sharpzo.methods import METHODS, fit
from sharpzo.settings import override
from sharpzo.storage import artifact, journal
from sharpzo.storage.claim import STARTED, claim, take_up
from sharpzo.storage.files import Hold
from sharpzo.storage.journal import HISTORY, SNAPSHOT, Journal, read_journal, read_snapshot
from sharpzo.testing.methods import toy_task
from sharpzo.towers.feature_store import FeatureStore
from sharpzo.types import Step

FORWARDS = 300
# Searches on toys: method -> what makes them short, and shows both stages of SharpZO.
TOYS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name, one in METHODS.items()
       if one.milestones and name not in ("blackvip", "coop", "coop-csc", "sharpzo-fast")},
    "sharpzo": ("sharpzo", {"search.switch.generation": 8}),
    "sharpzo jvp": ("sharpzo-fast", {"search.switch.generation": 2, "search.cma.population_size": 8,
                                     "search.zo.directions": 8, "search.zo.queries": 4}),
    "blackvip": ("blackvip", {"batch": 2, "image_passes": 150}),
}  # fmt: skip


# --- processes ------------------------------------------------------------------------------------


def forked(work: Callable[[], None]) -> int:
    """Run ``work`` in a child and return its process id; the child ends with code 0 or 1."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def killed(process: int, delay: float) -> bool | None:
    """Let a process run for ``delay`` seconds and kill it: True. It may have ended before: False if
    all was well, and None if not."""
    ends = time.monotonic() + delay
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return False if status == 0 else None
        if time.monotonic() >= ends:
            break
        time.sleep(0.0005)
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return True if os.WIFSIGNALED(status) else False if status == 0 else None


def quietly(work: Callable[[], None]) -> Callable[[], None]:
    """The same without output."""

    def silent() -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        work()

    return silent


def timed(work: Callable[[], None]) -> float:
    """Seconds of an undisturbed child."""
    begin = time.monotonic()
    if killed(forked(work), 3600) is not False:
        raise SystemExit("an undisturbed run failed")
    return time.monotonic() - begin


# --- kills ----------------------------------------------------------------------------------------


def record(method: str) -> Any:
    """What a run.json of a search on toys has to say."""
    return {
        "sharpzo_version": "0", "created": "2026-01-01T00:00:00Z", "method": method, "preset": None,
        "template": "a photo of a {}.", "seed": 1, "class_names": ["a", "b"], "settings": {},
        "model": {"id": None, "sha256": "0" * 64}, "preprocessing": {},
        "data": {"source": "toys", "shots": None, "training_photos": 24, "validation_photos": 12,
                 "notes": [], "skipped": []},
        "validation": {"accuracy": None}, "test": {"accuracy": None}, "forwards": FORWARDS,
        "steps": 0, "seconds": 0.0, "peak_memory_mb": None, "stopped": "", "notes": {},
    }  # fmt: skip


def search(folder: Path, name: str, forwards: int = FORWARDS) -> None:
    """Fit on toys in a run folder, from wherever it is; a snapshot after every event."""
    method, changes = METHODS[TOYS[name][0]], TOYS[name][1]
    settings = override(method.settings, changes | {"validate_every": 10})
    begun = (folder / STARTED).exists()
    with take_up(folder) if begun else claim(folder, json.dumps({"toy": name}).encode()) as claimed:
        claimed.journal.begin({"toy": name})
        task = replace(
            toy_task(method),
            budget=Budget(forwards=forwards), milestones=(forwards // 2,),
            journal=claimed.journal, listen=claimed.journal.append,
        )  # fmt: skip
        fitted = fit(method, settings, task)
        claimed.write({**fitted.arrays, **fitted.head.arrays()}, record(method.name))


def snapshots_after_every_event() -> None:
    """In place of one every second at most: half of a search's time is then spent in them."""
    journal.EVERY, journal.SHARE, journal.PRICE = 0.0, float("inf"), -1.0


def steps(folder: Path) -> list[Step]:
    """The history without its seconds."""
    return [replace(step, seconds=0.0) for step in read_journal(folder / HISTORY)]


def equal(folder: Path, other: Path) -> bool:
    """Whether histories and arrays are the same."""
    arrays = [(one / artifact.ARRAYS).read_bytes() for one in (folder, other)]
    return arrays[0] == arrays[1] and steps(folder) == steps(other)


def kill_and_resume(
    work: Callable[[Path], None], place: Path, straight: Path, most: float, many: int,
    random_: random.Random,
) -> dict[str, int]:  # fmt: skip
    """Kill a run ``many`` times in all at random moments, finishing it now and then; compare each
    finished one with the ``straight`` one."""
    found = dict.fromkeys(
        ("kills", "in_a_snapshot_write", "after_a_snapshot", "finished", "equal", "failed"), 0
    )
    while found["kills"] < many:
        folder = place / "run"
        shutil.rmtree(folder, ignore_errors=True)
        for attempt in range(1000):
            if artifact.is_finished(folder):  # killed between its last write and its end
                found["finished"] += 1
                found["equal"] += equal(folder, straight)
                break
            enough = found["kills"] >= many or attempt > 25
            delay = 3600.0 if enough else random_.uniform(0, most)
            ended = killed(forked(lambda folder=folder: work(folder)), delay)
            if ended is None:
                found["failed"] += 1
                break
            if ended is False:
                found["finished"] += 1
                found["equal"] += equal(folder, straight)
                break
            found["kills"] += 1
            found["in_a_snapshot_write"] += any(folder.glob(f"{SNAPSHOT}.*.tmp"))
            found["after_a_snapshot"] += (folder / SNAPSHOT).exists()
            read_snapshot(folder) if folder.exists() else None
    return found


def kills(many: int, seed: int = 1, names: list[str] | None = None) -> dict[str, Any]:
    """Kill searches of every method on toys, in turn."""
    snapshots_after_every_event()
    random_, found = random.Random(seed), {}
    names = names or list(TOYS)
    with tempfile.TemporaryDirectory() as place:
        for number, name in enumerate(names):
            share = many // len(names) + (number < many % len(names))
            (mine := Path(place) / name).mkdir()
            seconds = timed(quietly(lambda mine=mine, name=name: search(mine / "straight", name)))

            def work(folder: Path, name: str = name) -> None:
                search(folder, name)

            found[name] = kill_and_resume(
                work, mine, mine / "straight", seconds, share, random_
            )  # fmt: skip
            say(name, found[name])
    return total("kills", found)


def total(what: str, found: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Sums over all, and whether nothing was lost."""
    names = next(iter(found.values()))
    sums = {name: sum(one[name] for one in found.values()) for name in names}
    return {"what": what, **sums, "sound": sums["equal"] == sums["finished"] and not sums["failed"]}


def say(name: str, found: dict[str, Any]) -> None:
    """A line about one case."""
    print(f"{name}: {json.dumps(found)}", flush=True)


# --- the command line -----------------------------------------------------------------------------

FITS = {
    "sharpzo": ["--method", "sharpzo", "--set", "validate_every=20",
                "--set", "search.switch.generation=10", "--budget-forwards", "400"],
    "cma-es": ["--method", "cma-es", "--set", "validate_every=20", "--budget-forwards", "400"],
    "fgn-csc": ["--method", "fgn-csc", "--set", "validate_every=50", "--budget-forwards", "400"],
    "zip": ["--method", "zip", "--set", "validate_every=20", "--budget-forwards", "300"],
    "ladder+gda": ["--method", "ladder+gda"],  # no search: encoding and tables
}  # fmt: skip


def demo_photos(root: Path, per_class: int = 6, split: str = "train") -> Path:
    """Photos of three classes of the demo in folders."""
    from PIL import Image

    from sharpzo.data.demo import load_demo

    demo = load_demo(1)
    labelled = getattr(demo, split)
    for name in ("sandal", "dress", "bag"):
        (root / split / name).mkdir(parents=True)
        for row in np.flatnonzero(labelled.labels == demo.class_names.index(name))[:per_class]:
            Image.fromarray(labelled.photos[row].decode()).save(root / split / name / f"{row}.png")
    return root


def command(*arguments: object) -> Callable[[], None]:
    """What runs the command line."""

    def work() -> None:
        from sharpzo.cli import main

        main(list(map(str, arguments)))

    return quietly(work)


def fits(many: int, seed: int = 1, names: list[str] | None = None) -> dict[str, Any]:
    """Kill `sharpzo fit` with the embedded model anywhere: while it encodes, searches, tests and
    writes."""
    random_, found = random.Random(seed), {}
    names = names or list(FITS)
    with tempfile.TemporaryDirectory() as place:
        photos = demo_photos(Path(place) / "photos")
        for number, name in enumerate(names):
            share = many // len(names) + (number < many % len(names))
            (mine := Path(place) / name).mkdir()
            given = [*FITS[name], "--threads", "1", "--cache", mine / "cache"]

            def work(folder: Path, given: list[Any] = given) -> None:
                if (folder / STARTED).exists():
                    command("fit", "--resume", folder)()
                else:
                    command("fit", photos / "train", "--out", folder, *given)()

            seconds = timed(lambda mine=mine, work=work: work(mine / "straight"))
            shutil.rmtree(mine / "cache")
            journal.EVERY, journal.SHARE = 0.1, 0.5
            found[name] = kill_and_resume(work, mine, mine / "straight", seconds, share, random_)
            say(name, found[name])
    return total("fits", found)


# --- a bench --------------------------------------------------------------------------------------

RECIPE = """
title = "A few photos"
data = {data}
baseline = "zero-shot"
threads = 1
data_sets = ["few"]
shots = [2]
seeds = [1, 2]
budgets = [30, 60]
methods = ["zero-shot", "projection",
  {{ method = "cma-es", settings = {{ validate_every = 10, search.cma.population_size = 8 }} }}]
"""


def bench(many: int, seed: int = 1) -> dict[str, Any]:
    """Kill a bench and its cells' processes; the same command goes on until all is done."""
    import csv

    from sharpzo.bench.table import MEASURED

    random_ = random.Random(seed)
    found = dict.fromkeys(("kills", "finished", "equal", "failed"), 0)

    def table(out: Path) -> list[dict[str, str]]:
        with (out / "table.csv").open() as file:
            rows = list(csv.DictReader(file))
        return [{k: v for k, v in row.items() if k not in MEASURED} for row in rows]

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        demo_photos(place / "few", 7)
        demo_photos(place / "few", 4, "test")
        (place / "recipe.toml").write_text(RECIPE.format(data=json.dumps(str(place))))

        def work(out: Path) -> Callable[[], None]:
            return command("bench", place / "recipe.toml", "--out", out)

        seconds = timed(work(place / "straight"))
        print(f"undisturbed: {seconds:.1f} s", flush=True)
        while found["kills"] < many:
            out = place / "bench"
            shutil.rmtree(out, ignore_errors=True)
            while True:
                delay = random_.uniform(0, seconds / 3) if found["kills"] < many else 3600
                ended = killed(forked(work(out)), delay)
                found["kills"] += ended is True
                if not ended:
                    break
            found["failed"] += ended is None
            if ended is False:
                found["finished"] += 1
                found["equal"] += table(out) == table(place / "straight")
            say("bench", found)
    return total("bench", {"bench": found})


# --- ten processes at once ------------------------------------------------------------------------


def together(many: int, work: Callable[[int], None]) -> list[int]:
    """Run ``work`` in so many children that begin at the same moment; return their exit codes."""
    reading, writing = os.pipe()

    def waiting(number: int) -> None:
        os.close(writing)
        os.read(reading, 1)  # until the other end is closed
        work(number)

    children = [forked(lambda number=number: waiting(number)) for number in range(many)]
    os.close(writing)
    os.close(reading)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def claims(rounds: int, processes: int = 10) -> dict[str, Any]:
    """Ten processes claim one run folder, hold one bench, and fill one cache, at once."""
    found = dict.fromkeys(("rounds", "one_run", "one_bench", "whole_cache", "whole_table"), 0)
    with tempfile.TemporaryDirectory() as place:
        for number in range(rounds):
            folder = Path(place) / f"{number}"
            folder.mkdir()

            def run(one: int, folder: Path = folder) -> None:
                """Code 0: granted and written; 3: refused."""
                try:
                    with claim(folder / "run", b"{}") as claimed:
                        claimed.journal.append(Step(one, "toy", one, 0.0, 0.0))
                        time.sleep(0.002)
                        claimed.write({"weight": np.full(3, one, np.float32)}, record("x"))
                except ArtifactError:
                    raise SystemExit(3) from None

            def hold(one: int, folder: Path = folder) -> None:
                try:
                    held = Hold(folder, "the bench")
                except ArtifactError:
                    raise SystemExit(3) from None
                (folder / f"held-{one}").touch()
                time.sleep(0.5)
                held.release()

            def cache(one: int, folder: Path = folder) -> None:
                store = FeatureStore(folder / "cache")
                for k in range(5):
                    store.write("ab", {f"{one:02x}{k:02x}": np.full(8, one + k, np.float32)})

            def table(one: int, folder: Path = folder) -> None:
                from sharpzo.storage.files import write_atomically

                for _ in range(5):
                    write_atomically(folder / "table.csv", bytes([97 + one]) * 50_000)

            codes = together(processes, run)
            run_ = artifact.read(folder / "run")
            writer = codes.index(0) if 0 in codes else -1
            whole = [step.step for step in read_journal(folder / "run" / HISTORY)] == [writer]
            found["one_run"] += (
                sorted(codes) == [0, *[3] * (processes - 1)]
                and whole and bool((run_.arrays["weight"] == writer).all())
            )  # fmt: skip
            codes = together(processes, hold)
            found["one_bench"] += (
                codes.count(0) == len(list(folder.glob("held-*"))) == 1
                and codes.count(3) == processes - 1
            )
            codes = together(processes, cache)
            keys = {f"{one:02x}{k:02x}": one + k for one in range(processes) for k in range(5)}
            there = FeatureStore(folder / "cache").read("ab", keys, 8)
            found["whole_cache"] += not any(codes) and all(
                key in there and bool((there[key] == value).all()) for key, value in keys.items()
            )
            codes = together(processes, table)
            content = (folder / "table.csv").read_bytes()
            found["whole_table"] += (
                not any(codes) and len(content) == 50_000 and (len(set(content)) == 1)
            )
            found["rounds"] += 1
    sound = all(value == rounds for value in found.values())
    return {"what": "claims", "processes": processes, **found, "sound": sound}


# --- a full disk ----------------------------------------------------------------------------------


@contextmanager
def small_disk(place: Path, size: int):
    """A file system of so many bytes; without the right to mount one, SystemExit."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        raise SystemExit("a small file system cannot be mounted here: run as root")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def disk(names: list[str] | None = None, every: int = 1) -> dict[str, Any]:
    """Fill the disk of a running search, all but 0, 1 or 3 pages, at (every so many) of its steps.

    The search ends as if nothing had been, its run is in its place or elsewhere, and the last
    snapshot is whole: on another disk the search goes on from it.
    """
    snapshots_after_every_event()
    names = names or ["sharpzo", "cma-es", "fgn"]
    found = dict.fromkeys(
        ("cases", "equal", "in_place", "elsewhere", "snapshots_read", "resumed_equal"), 0
    )
    page = os.sysconf("SC_PAGE_SIZE")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["TMPDIR"] = tempfile.tempdir = str(place)
        for name in names:
            search(place / f"straight {name}", name)
            events = len(read_journal(place / f"straight {name}" / HISTORY))
            for event in range(1, events, every):
                for pages in (0, 1, 3):
                    with small_disk(place / "disk", 4 << 20) as small:
                        found["cases"] += 1
                        one = full_during(small, place, name, event, pages * page)
                        for key, value in one.items():
                            found[key] += value
                    (place / "disk").rmdir()
            say(name, found)
    sound = found["cases"] == found["equal"] == found["in_place"] + found["elsewhere"]
    sound = sound and found["snapshots_read"] == found["resumed_equal"] == found["cases"]
    return {"what": "disk", **found, "sound": bool(sound)}


def full_during(small: Path, place: Path, name: str, event: int, left: int) -> dict[str, int]:
    """A search whose disk gets full at an event, all but ``left`` bytes."""
    straight, out, ballast = place / f"straight {name}", small / "run", small / "ballast"
    append, seen, kept = Journal.append, [0], place / "kept"
    had: list[bool] = []

    def appended(self: Journal, step: Step) -> None:
        seen[0] += 1
        if seen[0] == event:
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            room = max(0, ballast.stat().st_size - left)
            os.truncate(ballast, room)
            had.append((out / SNAPSHOT).exists())
        append(self, step)

    Journal.append = appended  # type: ignore[method-assign]
    before = set(place.iterdir())
    try:
        search(out, name)
    finally:
        Journal.append = append  # type: ignore[method-assign]
    elsewhere = [one for one in set(place.iterdir()) - before if one.name.startswith("run-")]
    where = elsewhere[0] if elsewhere else out
    found = {
        "equal": equal(where, straight), "in_place": not elsewhere, "elsewhere": bool(elsewhere),
        "snapshots_read": 1, "resumed_equal": 1,
    }  # fmt: skip
    if elsewhere:
        snapshot = read_snapshot(out)
        found["snapshots_read"] = snapshot is not None or not had[0]
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(out, kept)  # the disk is full: on another one the search goes on
        (kept / "lock").unlink(missing_ok=True)
        search(kept, name)
        found["resumed_equal"] = equal(kept, straight)
        shutil.rmtree(where)
    return {key: int(value) for key, value in found.items()}


# --- damaged files --------------------------------------------------------------------------------


def flipped(flips: int = 500, seed: int = 1, names: list[str] | None = None) -> dict[str, Any]:
    """Flip bytes of every kind of file that is read, and cut files off: 2 cuts for 5 flips."""
    from damage import damage_all

    return damage_all(flips, flips * 2 // 5, seed, names or [], say, forked)


# --- hostile photos -------------------------------------------------------------------------------

LARGEST, LONGEST = 300 << 20, 10.0  # bytes above what the process had, seconds of the processor


def photos(names: list[str] | None = None) -> dict[str, Any]:
    """Read each of the hostile photos in a process of its own: decode it as a search does, check it
    as a fit does first, and say what it would take."""
    from hostile_photos import files
    from sharpzo.data.decoding import decode
    from sharpzo.data.photo import Photo
    from sharpzo.errors import PhotoError
    from sharpzo.memory import peak, resident, watch_anew

    found = dict.fromkeys(("photos", "refused", "decoded", "crashed", "above", "late"), 0)
    largest, longest = 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "usual.jpg"
        from PIL import Image

        Image.new("RGB", (64, 64)).save(photo)
        decode(photo)  # what it calls is loaded now
        for number, (what, suffix, make) in enumerate(files(set(names) if names else None)):
            path = Path(folder) / f"{number}.{suffix}"
            make(path)
            reading, writing = os.pipe()

            def work(path: Path = path, writing: int = writing) -> None:
                before = resident() if watch_anew() else None
                begin, said = time.process_time(), "decoded"
                one = Photo(path.name, path=path).sized(224)
                for read in (one.check, one.decode, lambda: decode(path)):
                    try:
                        read()
                    except PhotoError as error:
                        said = str(error)
                took = time.process_time() - begin
                above = (peak() or 0) - (before or 0)
                os.write(writing, json.dumps([said, took, above]).encode())

            child = forked(work)
            os.close(writing)
            with os.fdopen(reading) as pipe:
                said = pipe.read()
            os.waitpid(child, 0)
            found["photos"] += 1
            if not said:
                found["crashed"] += 1
                say(what, {"crashed": True})
                continue
            sentence, took, above = json.loads(said)
            found["decoded" if sentence == "decoded" else "refused"] += 1
            found["above"] += above > LARGEST
            found["late"] += took > LONGEST
            largest, longest = max(largest, above), max(longest, took)
            say(what, {"said": sentence, "seconds": round(took, 2), "mb": round(above / 1e6)})
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    sound = not found["crashed"] and not found["above"] and not found["late"]
    more = {"largest_mb": round(largest / 1e6), "longest_s": round(longest, 1)}
    return {"what": "photos", **found, **more, "sound": sound}


# --- long life ------------------------------------------------------------------------------------


def life(steps: int = 60_000, names: list[str] | None = None) -> dict[str, Any]:
    """Memory of a search on toys: the most between the 1,000th and the 6,000th of 60,000 steps, and
    since; and the size of its history."""
    from sharpzo.memory import resident

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        for name in names or TOYS:
            reading, writing = os.pipe()

            def work(name: str = name, writing: int = writing) -> None:
                method, changes = METHODS[TOYS[name][0]], TOYS[name][1]
                seen: list[int] = []

                with claim(Path(place) / name, b"{}") as claimed:

                    def listen(step: Step) -> None:
                        claimed.journal.append(step)
                        if step.step >= steps // 60:
                            # Python's collector lets it swing: the most of the first tenth, and
                            # of the rest.
                            now, part = resident() or 0, int(step.step > steps // 10)
                            seen[part:] = [max([now, *seen[part:]])]

                    claimed.journal.begin({})
                    settings = override(method.settings, changes)
                    task = replace(toy_task(method), budget=Budget(steps=steps),
                                   journal=claimed.journal, listen=listen)  # fmt: skip
                    fitted = fit(method, settings, task)
                    size = (claimed.folder / HISTORY).stat().st_size
                    said = [fitted.steps, str(fitted.reason), claimed.journal.count, size]
                    said += seen
                    os.write(writing, json.dumps(said).encode())
                    claimed.write({}, record(method.name))

            child = forked(work)
            os.close(writing)
            with os.fdopen(reading) as pipe:
                said = pipe.read()
            os.waitpid(child, 0)
            done, why, lines, size, *memory = json.loads(said)
            found[name] = {
                "steps": done, "stopped": why, "lines": lines, "history_kb": round(size / 1000),
            }  # fmt: skip
            if len(memory) == 2:  # some end before, because they have converged
                first, most = memory
                found[name] |= {"mb": round(first / 1e6, 1), "grown": round(most / first - 1, 4)}
            say(name, found[name])
    largest = max(one.get("grown", 0.0) for one in found.values())
    lived = sum("grown" in one for one in found.values())
    return {
        "what": "life",
        "searches": len(found),
        "measured": lived,
        "grown": largest,
        "sound": largest <= 0.02,
    }


# --- cost -----------------------------------------------------------------------------------------


def cost(seconds: float = 20.0) -> dict[str, Any]:
    """Share of a search's time that journal and snapshots take, with the embedded model."""
    from sharpzo.data.demo import load_demo
    from sharpzo.fitting.fitter import Fitter

    found: dict[str, Any] = {}
    kept = tempfile.mkdtemp()
    for method in ("sharpzo", "cma-es", "sep-cma-es", "fgn", "fgn-csc", "zo-sgd", "zip"):
        spent = [0.0, 0]

        class Measured(Journal):
            """Counts the seconds of its own work."""

            def append(self, step: Step, spent: list[Any] = spent) -> None:
                begin = time.perf_counter()
                super().append(step)
                spent[0] += time.perf_counter() - begin

            def after(self, state: Any, seconds: float, spent: list[Any] = spent) -> None:
                begin, before = time.perf_counter(), self._last
                super().after(state, seconds)
                spent[0] += time.perf_counter() - begin
                spent[1] += self._last != before and before > 0

        fitter = Fitter(method, budget=Budget(seconds=seconds), threads=1, cache=kept)
        with tempfile.TemporaryDirectory() as folder:
            one = Measured(Path(folder))
            fitted = fitter.fit(load_demo(1), journal=one, warn=lambda sentence: None)
            size = (Path(folder) / SNAPSHOT).stat().st_size
            one.close()
        share = spent[0] / fitted.fit.seconds
        found[method] = {
            "seconds": round(fitted.fit.seconds, 1), "steps": one.count,
            "snapshots": spent[1], "snapshot_kb": round(size / 1000), "share": round(share, 5),
        }  # fmt: skip
        say(method, found[method])
    shutil.rmtree(kept)
    largest = max(one["share"] for one in found.values())
    return {"what": "cost", "largest_share": largest, "sound": largest <= 0.01}


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=[
        "kills", "fits", "bench", "claims", "disk", "cost", "bytes", "photos", "life",
    ])  # fmt: skip
    parser.add_argument("many", type=int, nargs="?", default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", help="one method or kind of file of several")
    chosen = parser.parse_args()
    begin = time.monotonic()
    if chosen.what == "life":
        found = life(chosen.many if chosen.many > 100 else 60_000, chosen.only)
    elif chosen.what == "bytes":
        found = flipped(chosen.many, chosen.seed, chosen.only)
    elif chosen.what in ("kills", "fits", "bench"):
        found = globals()[chosen.what](chosen.many, chosen.seed)
    else:
        found = {
            "claims": lambda: claims(chosen.many),
            "disk": disk,
            "cost": cost,
            "photos": photos,
        }[chosen.what]()
    print(json.dumps(found | {"minutes": round((time.monotonic() - begin) / 60, 1)}))
    sys.exit(not found["sound"])


if __name__ == "__main__":
    main()
