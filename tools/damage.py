"""One wrong byte, or an end that is missing, in every kind of file that sharpzo reads."""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kinds import KINDS, Kind
from sharpzo.errors import SharpzoError

SECONDS = 2.0  # of the processor, for one file
NEAR = 2000  # bytes of both ends, where headers are: a third of the places each
DEEP = 25  # of files that are read without a complaint, every so many are read in depth

# What may happen to a damaged file. "other": a text of people, or a photo, that says something else
# now, which cannot be told from what was meant.
GOOD = ("refused", "same", "refused by the run", "other")
BAD = ("silent", "crash", "hang")


def damages(content: bytes, flips: int, cuts: int, seed: int) -> Iterator[bytes]:
    """Versions of a file with one byte changed each, then versions that end too early."""
    draws, size = random.Random(seed), len(content)

    def at() -> int:
        first, last = (0, min(NEAR, size)), (max(0, size - NEAR), size)
        return draws.randrange(*draws.choice((first, last, (0, size))))

    for _ in range(flips):
        place, by = at(), draws.choice((1 << draws.randrange(7), draws.randrange(1, 256)))
        yield content[:place] + bytes([content[place] ^ by]) + content[place + 1 :]
    for number in range(cuts):
        yield content[: at()] if number else b""


def outcome(kind: Kind, folder: Path, straight: Any, deep: bool) -> str:
    """What happens to a reader of a damaged file; "crash: …" with an error that is none of ours."""
    try:
        try:
            found = kind.read(folder)
        except SharpzoError as error:
            return "refused" if str(error).strip() else "crash: an error without a word"
        if deep and kind.deep is not None:
            try:
                kind.deep(folder)
            except SharpzoError:
                return "refused"
        if found == straight:
            return "same"
        if kind.sealed is None:
            return "other" if kind.free else "silent"
        try:
            kind.sealed(folder)
        except SharpzoError:
            return "refused by the run"
        return "silent"
    except Exception as error:
        return f"crash: {error!r:.300}"


def damage(
    kind: Kind, folder: Path, flips: int, cuts: int, seed: int,
    forked: Callable[[Callable[[], None]], int],
) -> Counter[str]:  # fmt: skip
    """Read so many damaged versions of a file, in a child; one that dies is replaced."""
    made = forked(lambda: kind.make(folder))
    if os.waitpid(made, 0)[1]:
        raise SystemExit(f"{kind.file} could not be made")
    file = kind.path(folder)
    content = file.read_bytes()
    versions = list(damages(content, flips, cuts, seed))
    found: Counter[str] = Counter()
    done = 0
    while done < len(versions):
        reading, writing = os.pipe()

        def work(start: int = done, reading: int = reading, writing: int = writing) -> None:
            os.close(reading)
            logging.disable(logging.CRITICAL)
            warnings.simplefilter("ignore")
            gc.freeze()
            straight = kind.read(folder)
            if kind.sealed is not None:
                kind.sealed(folder)
            for number, version in enumerate(versions[start:], start=start):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(version)
                signal.setitimer(signal.ITIMER_PROF, SECONDS)  # ends this process if it is over
                said = outcome(kind, folder, straight, number % DEEP == 0)
                signal.setitimer(signal.ITIMER_PROF, 0)
                os.write(writing, (json.dumps(said) + "\n").encode())

        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        child = forked(work)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = [json.loads(line) for line in pipe]
        found.update(said)
        done += len(said)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if done < len(versions):
            found["hang" if code == -signal.SIGPROF else f"crash: ended with {code}"] += 1
            done += 1
            if not said and code > 0:
                raise SystemExit(f"{kind.file} could not be read undamaged")
    return found


def damage_all(
    flips: int, cuts: int, seed: int, names: list[str], say: Callable[[str, Any], None],
    forked: Callable[[Callable[[], None]], int],
) -> dict[str, Any]:  # fmt: skip
    """The sums over kinds of files, and whether nothing was read wrong without a word."""
    total: Counter[str] = Counter()
    for name in names or KINDS:
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            found = damage(KINDS[name], Path(folder) / "made", flips, cuts, seed, forked)
        say(name, {**found, "seconds": round(time.monotonic() - begin)})
        for outcome_, many in found.items():
            total[outcome_.split(":")[0]] += many
    sums = {name: total[name] for name in (*GOOD, *BAD)}
    return {
        "what": "bytes", "kinds": len(names or KINDS), "files": sum(total.values()), **sums,
        "sound": not any(total[name] for name in BAD),
    }  # fmt: skip
