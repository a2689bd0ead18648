"""Give every reader of documents and photos millions of wrong files.

    pip install atheris                              # guided by coverage; the harness is for Linux
    python tools/fuzz.py all 10000000 --work DIR     # goes on where it was stopped
    python tools/fuzz.py one run.json --work DIR -runs=100000   # one target, libFuzzer's options

An execution that ends with anything but a `SharpzoError`, takes two seconds or 200 MB stops its
target and leaves the file in DIR/found. Whole documents are mutated as what they are (JSON by its
values, safetensors by its header, a pickle inside its zip, hashes made right again), and as bytes.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import logging
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

HERE = Path(__file__).resolve().parent
CORPUS = HERE.parent / "tests" / "faults" / "corpus"
SECONDS, MEGABYTES = 2, 200
LARGEST = 1 << 20  # bytes of a file
VARIANTS = 15  # of what libFuzzer makes, in each of its runs
_INTERESTING: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 255, 2**31, 2**63, -(2**63), 2**64, 10**30, 10**400, 0.5,
    -0.0, 1e-300, 1e300, float("nan"), float("inf"), "", " ", "a", "1", "../x", "/etc/passwd",
    "\0", "\x1b[2J", "[/b]", "=cmd|'/c calc'!A1", "é", "\ud800", "{}", "{0.x}", "x" * 300, [], {},
    [[]], [None], {"": ""},
)  # fmt: skip


# --- structure-aware mutations --------------------------------------------------------------------


def place(value: Any, draws: random.Random) -> tuple[Any, Any] | None:
    """A container of a document, at any depth, and one of its keys; None if there is none."""
    found = None
    while isinstance(value, dict | list) and value:
        key = draws.choice(list(value)) if isinstance(value, dict) else draws.randrange(len(value))
        found, value = (value, key), value[key]
        if draws.random() < 0.3:
            break
    return found


def changed(document: Any, draws: random.Random) -> Any:
    """A document with one to three changes: a value for another one, gone, twice, or elsewhere."""
    for _ in range(draws.choice((1, 1, 1, 2, 3))):
        found = place(document, draws)
        if found is None:
            return deepcopy(draws.choice(_INTERESTING))
        container, key = found
        value = container[key]
        match draws.randrange(9):
            case 0 | 1:
                container[key] = deepcopy(draws.choice(_INTERESTING))
            case 2:
                del container[key]
            case 3:
                other, name = place(document, draws) or found
                container[key] = deepcopy(other[name])
            case 4 if isinstance(container, list):
                container.insert(key, deepcopy(value))
            case 4:
                container[draws.choice((f"{key}_", "", key.upper(), "x"))] = value
            case 5 if isinstance(value, int | float) and not isinstance(value, bool):
                by = draws.choice((1, -1, 1 / 3, 1e9))
                container[key] = (
                    value + 1 if by == 1 else int(value * by) if value == 1 else value * by
                )
            case 5 if isinstance(value, str):
                container[key] = draws.choice((value[1:], value * 2, value + "\n", value.upper()))
            case 6:
                container[key] = [value]
            case 7:
                container[key] = {"a": value}
            case _ if isinstance(container, list):
                draws.shuffle(container)
            case _:
                container[key] = [value] * (2 if isinstance(value, dict | list) else 1000)
    return document


def loads(data: bytes) -> Any:
    """JSON, also with NaN and the like."""
    try:
        return msgspec.json.decode(data)
    except ValueError:
        return json.loads(data)


def dumps(document: Any) -> bytes:
    """JSON, also with NaN and the like."""
    try:
        if random.random() < 0.7:
            return msgspec.json.encode(document)
    except (ValueError, TypeError, OverflowError, UnicodeError):
        pass
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


def as_json(data: bytes, draws: random.Random) -> bytes:
    """Another JSON document, now and then nested too deeply."""
    return b"[" * 100_000 if draws.random() < 0.001 else dumps(changed(loads(data), draws))


def as_lines(data: bytes, draws: random.Random) -> bytes:
    """JSON Lines with one line changed."""
    lines = data.splitlines()
    number = draws.randrange(len(lines))
    lines[number] = as_json(lines[number], draws)
    return b"\n".join(lines) + b"\n"


def as_safetensors(data: bytes, draws: random.Random) -> bytes:
    """A file whose header is another one of the right length."""
    length = int.from_bytes(data[:8], "little")
    header = as_json(data[8 : 8 + length], draws)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def as_bytes(data: bytes, draws: random.Random) -> bytes:
    """Bytes with one to three changed, a stretch gone, there twice, or cut off."""
    found = bytearray(data)
    for _ in range(draws.choice((1, 1, 2, 3))):
        at = draws.randrange(len(found) + 1)
        to = min(len(found), at + draws.choice((1, 1, 4, 30)))
        match draws.randrange(6):
            case 0:
                del found[at:to]
            case 1:
                found[at:at] = found[at:to]
            case 2:
                del found[at:]
            case 3:
                found[at:to] = draws.randbytes(to - at)
            case _ if at < len(found):
                found[at] ^= 1 << draws.randrange(8)
    return bytes(found)


# --- targets --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """``kind`` says how a folder is made, ``mutate`` how its file is changed beside what libFuzzer
    does, ``put`` writes it (None: as it is), ``read`` reads the folder, ``seed`` is what is
    mutated, from the file's content. ``parse`` takes what JSON holds in place of all that: it
    needs no file, and is the fastest."""

    kind: str
    read: Callable[[Path], Any] = Path.stat
    mutate: Callable[[bytes, random.Random], bytes] | None = None
    put: Callable[[Path, Path, bytes], None] | None = None
    seed: Callable[[bytes], bytes] = bytes
    parse: Callable[[Any], Any] | None = None


def targets() -> dict[str, Target]:
    """Every target by its name; imports sharpzo."""
    import kinds
    from kinds import KINDS
    from sharpzo.bench.results import About, Result
    from sharpzo.errors import CheckpointError
    from sharpzo.fitting.job import Job
    from sharpzo.methods import find
    from sharpzo.storage import artifact
    from sharpzo.storage.artifact import digest_values
    from sharpzo.storage.journal import read_journal
    from sharpzo.storage.record import as_record
    from sharpzo.towers.checkpoint import Checkpoint
    from sharpzo.towers.config import convert, parse_image, parse_text
    from sharpzo.towers.pair import PairFile
    from sharpzo.towers.preprocess import Preprocessing
    from sharpzo.towers.siglip_config import SIGLIP, parse_siglip_image, parse_siglip_text
    from sharpzo.towers.tokenizer import Tokenizer
    from sharpzo.types import Step

    def open_model(name: str = "model", words: bool = True) -> Callable[[Path], Any]:
        def read(folder: Path) -> None:
            checkpoint = Checkpoint.open(folder / name)
            checkpoint.logit_scale, checkpoint.logit_bias  # noqa: B018
            Preprocessing.open(checkpoint)
            if words:
                Tokenizer.open(checkpoint)

        return read

    def sealed_record(folder: Path, file: Path, data: bytes) -> None:
        """A record, or a cell's or bench's, with the hash that it would have."""
        try:
            values = json.loads(data)
            values["record_sha256"] = digest_values(values)
            data = json.dumps(values).encode("utf-8", "surrogatepass")
        except (ValueError, TypeError, AttributeError, RecursionError):
            pass  # no object at all
        file.write_bytes(data)

    records: dict[Path, dict[str, Any]] = {}

    def sealed_arrays(folder: Path, file: Path, data: bytes) -> None:
        """Arrays whose hash is in the record."""
        place = folder / "run" / artifact.RECORD
        if place not in records:
            records[place] = json.loads(place.read_bytes())
        values = records[place] | {"arrays_sha256": hashlib.sha256(data).hexdigest()}
        values["record_sha256"] = digest_values(values)
        place.write_bytes(json.dumps(values).encode())
        file.write_bytes(data)

    def sealed_snapshot(folder: Path, file: Path, data: bytes) -> None:
        file.write_bytes(hashlib.sha256(data).digest() + data)

    def pickled(folder: Path, file: Path, data: bytes) -> None:
        """A pickle inside its zip."""
        source = folder / "archive"
        if not source.exists():
            shutil.copy(file, source)
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(file, "w") as new:
            for info in old.infolist():
                new.writestr(info.filename, data if info.filename.endswith("data.pkl") else
                             old.read(info))  # fmt: skip

    def pickle_of(content: bytes) -> bytes:
        import io

        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.read("model/data.pkl")

    def plain(name: str, mutate: Any = None, read: Any = None, **more: Any) -> Target:
        return Target(name, read or KINDS[name].read, mutate, **more)

    def values(name: str, parse: Callable[[Any], Any]) -> Target:
        return Target(name, mutate=as_json, parse=parse)

    def configuration(config_: Any) -> None:
        config_ = as_object(config_)
        siglip = config_.get("model_type") in SIGLIP
        parse_siglip_text(config_) if siglip else parse_text(config_)
        parse_siglip_image(config_) if siglip else parse_image(config_)

    def history(folder: Path) -> None:
        read_journal(folder / "run" / "history.jsonl")

    def record(folder: Path) -> None:
        artifact.read(folder / "run")

    def typed(kind: type) -> Callable[[Any], Any]:
        def parse(found: Any) -> None:
            with suppress(msgspec.ValidationError, UnicodeError):  # what readers make errors of
                msgspec.convert(found, kind)

        return parse

    def as_object(found: Any) -> dict[str, Any]:
        """What `read_json` would return."""
        if not isinstance(found, dict):
            raise CheckpointError("no object")
        return found

    method = find("cma-es")

    def settings(found: Any) -> None:
        """Settings of a search, as a document or a caller gives them."""
        given = found.get("settings") if isinstance(found, dict) else found
        if isinstance(given, dict):  # what `Fitter` refuses otherwise
            method.configure(None, given)

    model = open_model()
    return {
        "run.json": plain("run.json", as_json, put=sealed_record),
        "arrays.safetensors": plain("arrays.safetensors", as_safetensors, put=sealed_arrays),
        "run.json alone": plain("run.json", as_json, record, put=sealed_record),
        "history.jsonl": plain("history.jsonl of a stopped fit", as_lines, history),
        "started.json": plain("started.json", as_json, lambda folder: Job.of(folder / "run"),
                              put=sealed_record),
        "search.snapshot": plain("search.snapshot", as_safetensors, kinds.read_stopped,
                                 put=sealed_snapshot, seed=lambda content: content[32:]),
        "cell of a bench": plain("cell of a bench", as_json, put=sealed_record),
        "bench.json": plain("bench.json", as_json, put=sealed_record),
        "recipe": plain("recipe"),
        "config.json": plain("config.json", as_json, model),
        "preprocessor_config.json": plain("preprocessor_config.json", as_json, model),
        "model.safetensors.index.json": plain("model.safetensors.index.json", as_json, model),
        "model.safetensors": plain("model.safetensors", as_safetensors, model),
        "vocab.json": plain("vocab.json", as_json, model),
        "merges.txt": plain("merges.txt", None, model),
        "tokenizer.json": plain("tokenizer.json", as_json, model),
        "open_clip_config.json": plain("open_clip_config.json", as_json,
                                       open_model(words=False)),
        "pickle of a state dict": plain("open_clip_pytorch_model.bin", None,
                                        open_model(words=False), put=pickled, seed=pickle_of),
        "zip of a state dict": plain("open_clip_pytorch_model.bin", None, open_model(words=False)),
        "dual_encoder.json": plain("dual_encoder.json", as_json, open_model(words=False)),
        "ONNX of a text encoder": plain("ONNX of a text encoder", None, open_model(words=False)),
        "split_zhou_EuroSAT.json": plain("split_zhou_EuroSAT.json", as_json),
        "variants.txt": plain("variants.txt"),
        "images_variant_train.txt": plain("images_variant_train.txt"),
        "classnames.txt": plain("classnames.txt"),
        "CSV of labels": plain("CSV of labels"),
        "JSON Lines of labels": plain("JSON Lines of labels", as_lines),
        "zip": plain("zip"),
        "cache of features": plain("cache of features"),
        **{name: plain(name) for name in KINDS if name.startswith("photo as ")},
        "values of run.json": values("run.json", as_record),
        "values of config.json": values("config.json", configuration),
        "values of a cell": values("cell of a bench", typed(Result)),
        "values of bench.json": values("bench.json", typed(About)),
        "values of started.json": values("started.json", typed(Job)),
        "values of dual_encoder.json": values(
            "dual_encoder.json", lambda found: convert(found, PairFile, "dual_encoder.json")
        ),
        "values of a step": Target("history.jsonl of a stopped fit", mutate=as_json,
                                   parse=typed(Step), seed=lambda text: text.splitlines()[0]),
        "values of settings": values("started.json", settings),
    }  # fmt: skip


def variants(target: Target, data: bytes) -> Iterator[bytes]:
    """What libFuzzer gives, and further variants of it: always the same."""
    draws = random.Random(zlib.crc32(data))
    yield data
    for number in range(VARIANTS):
        mutate = target.mutate if target.mutate and number % 4 else as_bytes
        try:
            variant = mutate(data, draws)
        except Exception:  # no document
            variant = as_bytes(data, draws)
        yield variant[:LARGEST]


def read(target: Target, folder: Path, file: Path, data: bytes) -> None:
    """Give a reader a file; raises what is no SharpzoError."""
    from sharpzo.errors import SharpzoError

    with suppress(SharpzoError):
        if target.parse is not None:
            try:
                found = loads(data)
            except (ValueError, RecursionError):
                return
            target.parse(found)
            return
        if target.put is None:
            file.write_bytes(data)
        else:
            target.put(folder, file, data)
        target.read(folder)


def one(name: str, work: Path, options: list[str]) -> None:
    """Run one target in this process until its options say stop; does not return."""
    import atheris

    with atheris.instrument_imports(include=["sharpzo"], enable_loader_override=False):
        target = targets()[name]
    from kinds import KINDS

    logging.disable(logging.CRITICAL)
    kind, folder = KINDS[target.kind], work / "now" / slug(name)
    shutil.rmtree(folder, ignore_errors=True)
    kind.make(folder)
    file = kind.path(folder)
    content = target.seed(file.read_bytes())
    corpus = work / "corpus" / slug(name)
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "seed").write_bytes(content)
    for given in (CORPUS / slug(name)).glob("*"):
        shutil.copy(given, corpus)
    words = sorted(set(re.findall(rb"[A-Za-z_][A-Za-z_0-9]{2,30}", content[:20_000])))[:200]
    dictionary = work / f"{slug(name)}.dict"
    dictionary.write_text("".join(f'"{word.decode()}"\n' for word in [*words, b"photo"]))

    def execute(data: bytes) -> None:
        for variant in variants(target, data):
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor, which others use, too
            try:
                read(target, folder, file, variant)
            except BaseException:
                (work / "now" / f"{slug(name)}.input").write_bytes(variant)
                raise
            signal.setitimer(signal.ITIMER_PROF, 0)

    gc.freeze()  # what was imported is no garbage, and would be looked through again and again
    execute(content)
    # What the C code allocates is bounded by the address space; photos are of bounded size anyway.
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (MEGABYTES << 20),) * 2)
    most = max(2 * len(content), 4096)
    arguments = [
        sys.argv[0], "-timeout=120", "-rss_limit_mb=2000", f"-max_len={most}", "-len_control=0",
        f"-dict={dictionary}", f"-artifact_prefix={work / 'found'}/{slug(name)}-", *options,
        str(corpus),
    ]  # fmt: skip
    atheris.Setup(arguments, execute)
    atheris.Fuzz()


def slug(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"\W+", "-", name).strip("-")


def all_targets(many: int, work: Path, slice_: int) -> dict[str, Any]:
    """Run all targets in turn, a slice of seconds each, until so many executions are done."""
    sys.path.insert(0, str(HERE))
    place = work / "progress.json"
    state = json.loads(place.read_text()) if place.exists() else {}
    names = list(targets())
    turn = 0
    while sum(one["runs"] for one in state.values()) < many:
        # Each target once; then by turns the one that had least time, and a fast one.
        times = {name: state.get(name, {}).get("seconds", 0.0) for name in names}
        if turn % 2:
            times = {name: s * s / max(state[name]["runs"], 1) if s else 0.0
                     for name, s in times.items()}  # fmt: skip
        name, turn = min(names, key=times.__getitem__), turn + 1
        mine = state.setdefault(name, {"runs": 0, "seconds": 0.0, "found": 0})
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, __file__, "one", name, "--work", str(work),
             f"-max_total_time={slice_}", f"-seed={int(time.time()) & 0xFFFF}",
             "-print_final_stats=1"],
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
        mine["runs"] += int(runs[1]) * (1 + VARIANTS) if runs else 0
        mine["seconds"] += round(time.monotonic() - begin, 1)
        if done.returncode:  # the file that did it is in work / "found" or work / "now"
            mine["found"] += 1
            where = work / "found" / f"{slug(name)}-{int(time.time())}"
            where.with_suffix(".log").write_text(said[-20_000:])
            shutil.copytree(work / "now", where)
        temporary = place.with_suffix(".tmp")
        temporary.write_text(json.dumps(state, indent=1))
        os.replace(temporary, place)
        print(f"{name}: {json.dumps(mine)}, code {done.returncode}", flush=True)
    total = sum(one["runs"] for one in state.values())
    wrong = sum(one["found"] for one in state.values())
    return {
        "what": "fuzz",
        "targets": len(state),
        "runs": total,
        "found": wrong,
        "sound": not wrong,
    }


def main() -> None:
    """Run one target or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["one", "all", "list"])
    parser.add_argument("which", nargs="?", default="10000000")
    parser.add_argument("--work", type=Path, default=Path("fuzz-work"))
    parser.add_argument("--slice", type=int, default=60)
    chosen, options = parser.parse_known_args()
    for name in ("found", "now"):
        (chosen.work / name).mkdir(parents=True, exist_ok=True)
    if chosen.what == "one":
        one(chosen.which, chosen.work.resolve(), options)
    elif chosen.what == "list":
        print(*targets(), sep="\n")
    else:
        found = all_targets(int(chosen.which), chosen.work.resolve(), chosen.slice)
        print(json.dumps(found))
        sys.exit(not found["sound"])


if __name__ == "__main__":
    main()
