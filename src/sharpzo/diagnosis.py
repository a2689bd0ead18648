"""Will it run here, and how fast? One `Finding` per question, each with its advice.

Engines and towers are measured in a process of its own (`towers/measure.py`), so that one that
this processor cannot run is a finding, too.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from sharpzo import __version__, machine
from sharpzo.errors import CheckpointError, EngineError, InputError
from sharpzo.memory import MB
from sharpzo.process import Child

State = Literal["ok", "advice", "broken"]
APART = 0.01  # relative difference of features that rounding does not explain: it makes 1e-5
SMALL = 1000 * MB  # of room for a process: less is worth a memory limit
DISK = 1000 * MB  # free beside the cache: less and it cannot grow to its limit
FITTED = 160  # photos of the fit, and forwards of the search, whose time is estimated
SEARCH = 5000
OTHERS = ("openvino",)  # engines that are measured where they are installed
DEVELOPERS = ("test", "reference", "docs")  # extras that no command needs
_REQUIRED = re.compile(r"([\w.-]+)(?:\[[^]]*\])?[^;]*(?:;.*extra\s*==\s*['\"]([\w-]+)['\"])?")
_MARKED = re.compile(r";(?!.*extra).*")  # for other Pythons or systems


@dataclass(frozen=True)
class Finding:
    """What was ``found`` about ``name``, in words and as ``values``, and what can be done."""

    name: str
    state: State
    found: str
    advice: str
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])


def diagnose(
    model: str | Path | None = None, threads: int | None = None, cache: Path | None = None
) -> list[Finding]:
    """Look at the machine, and measure ``model`` (None: the embedded one) with ``threads``.

    Takes seconds. Whatever is broken is a finding, also a ``model`` that cannot be read; raises
    InputError for a wrong number of threads.
    """
    findings = [_platform(), *_packages(), _instructions(), _threads(threads)]
    try:
        costs, measured = _measured(model, threads)
    except (InputError, CheckpointError) as error:
        costs, measured = {}, [_no_model(str(error))]
    return [*findings, _memory(costs.get("peak")), _cache(cache), *measured]


def _platform() -> Finding:
    bits = 8 * struct.calcsize("P")
    found = (
        f"sharpzo {__version__}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}, {bits} bits"
    )
    values = {
        "sharpzo": __version__, "python": platform.python_version(), "bits": bits,
        "system": platform.system(), "machine": platform.machine(),
    }  # fmt: skip
    if bits < 64:
        return Finding(
            "system", "broken", found,
            "Install a 64-bit system (of Raspberry Pi OS, too): ONNX Runtime has no packages for "
            "others.",
            values,
        )  # fmt: skip
    return Finding("system", "ok", found, "Give these versions when you report a fault.", values)


def requirements() -> dict[str, list[str]]:
    """The packages that sharpzo asks for by extra, "" for the core; {} where it is run from its
    source without being installed."""
    try:
        listed = metadata.requires("sharpzo") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for line in listed:
        match = _REQUIRED.match(line)
        if match and not _MARKED.search(line):
            found.setdefault(match[2] or "", []).append(match[1])
    return found


def versions(packages: list[str]) -> dict[str, str | None]:
    """Installed versions by package; None for one that is missing."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _packages() -> list[Finding]:
    needed = requirements()
    core = versions(needed.pop("", []))
    missing = [name for name, version in core.items() if version is None]
    found = ", ".join(f"{name} {version or 'MISSING'}" for name, version in core.items())
    first = (
        Finding(
            "packages", "broken", found, f"Install them: pip install {' '.join(missing)}", core
        )
        if missing
        else Finding(
            "packages", "ok", found or "not installed: run from source",
            "All that the core needs is there.", core,
        )
    )  # fmt: skip
    extras = {name: versions(needed[name]) for name in needed if name not in DEVELOPERS}
    there = [name for name, found in extras.items() if all(found.values())]
    absent = [name for name in extras if name not in there]
    advice = (
        f"Install one with: pip install 'sharpzo[{absent[0]}]'; docs/dependencies.md says what "
        "each is for."
        if absent
        else "All of them are there."
    )
    return [
        first,
        Finding(
            "extras", "ok",
            f"installed: {', '.join(there) or 'none'}; missing: {', '.join(absent) or 'none'}",
            advice, {"extras": extras},
        ),
    ]  # fmt: skip


def _instructions() -> Finding:
    found = machine.instructions()
    values = {"instructions": found}
    if found is None:
        return Finding(
            "processor", "ok", f"{platform.machine()}; this system does not list instructions",
            "The times below are what counts.", values,
        )  # fmt: skip
    said = f"{platform.machine()} with {', '.join(found) or 'none of the fast instructions'}"
    wide = {"AVX2", "AVX-512", "NEON", "SVE"}
    if not wide.intersection(found):
        return Finding(
            "processor", "advice", said,
            "An old processor: expect several times the time of a newer one, and give searches a "
            "budget (--budget-seconds).",
            values,
        )  # fmt: skip
    if {"bfloat16", "AMX"}.intersection(found) and platform.machine() in ("x86_64", "AMD64"):
        return Finding(
            "processor", "advice", said,
            "Long searches may be faster in bfloat16: --engine openvino --precision bfloat16 "
            "(extra openvino).",
            values,
        )  # fmt: skip
    return Finding(
        "processor", "ok", said,
        "Searches are fastest in float32 here; --precision int8 saves memory.",
        values,
    )  # fmt: skip


def _threads(threads: int | None) -> Finding:
    from sharpzo.towers.runtime import Runtime, cores

    Runtime(threads=threads)  # which refuses numbers that are none
    usable, present = cores(), os.cpu_count() or 1
    values = {"usable": usable, "present": present, "used": threads or usable}
    found = f"{threads or usable} used, {usable} usable of {present} in the machine"
    if (threads or usable) > usable:
        return Finding(
            "threads", "advice", found,
            f"Use --threads {usable}: more threads than cores wait for each other.", values,
        )  # fmt: skip
    if usable < present:
        return Finding(
            "threads", "ok", found,
            "The affinity or the container of this process sets this limit.",
            values,
        )  # fmt: skip
    return Finding("threads", "ok", found, "--threads N leaves cores to others.", values)


def _memory(peak: int | None) -> Finding:
    now = machine.memory()
    room = now.room
    values = {"total": now.total, "available": now.available, "limit": now.limit, "peak": peak}
    sizes = [(now.total, "in the machine"), (now.available, "free"),
             (now.limit, "allowed by the container or unit")]  # fmt: skip
    found = ", ".join(f"{size / MB:,.0f} MB {what}" for size, what in sizes if size is not None)
    found += f"; measuring the model took {peak / MB:,.0f} MB" if peak else ""
    if room is not None and (room < SMALL or (peak or 0) > room / 2):
        return Finding(
            "memory", "advice", found,
            f"Give commands a limit that they keep, such as --memory-limit {room * 7 // 10 // MB}MB"
            " (docs/memory.md).",
            values,
        )  # fmt: skip
    return Finding(
        "memory", "ok", found or "this system does not say",
        "No limit is needed; --memory-limit keeps one.", values,
    )  # fmt: skip


def _cache(cache: Path | None) -> Finding:
    if cache is None:
        return Finding(
            "cache", "advice", "there is no home folder that could hold one",
            "Name a folder by --cache, or photos are encoded again by every command.",
        )  # fmt: skip
    from sharpzo.towers.feature_store import FeatureStore
    from sharpzo.towers.graph_store import GraphStore

    there = next(path for path in (cache, *cache.parents) if path.is_dir())
    store = FeatureStore(cache)
    usage, graphs = store.usage(), GraphStore(cache, store.limit).bytes()
    free = shutil.disk_usage(there).free
    values = {
        "folder": str(cache), "photos": usage.photos, "bytes": usage.bytes + graphs,
        "limit": usage.limit, "free": free,
    }  # fmt: skip
    found = (
        f"{cache}: features of {usage.photos:,} photos, {(usage.bytes + graphs) / MB:,.0f} MB of "
        f"{usage.limit / MB:,.0f} MB allowed, {free / MB:,.0f} MB free on the disk"
    )
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding(
            "cache", "advice", f"{found}; cannot be written: {error.strerror}",
            "Name another folder by --cache, or photos are encoded again by every command.", values,
        )  # fmt: skip
    if free < DISK:
        return Finding(
            "cache", "advice", found,
            "The disk is nearly full: a smaller limit is SHARPZO_CACHE_SIZE=100MB, and "
            "'sharpzo cache --clear' empties it.",
            values,
        )  # fmt: skip
    return Finding("cache", "ok", found, "'sharpzo cache --clear' empties it.", values)


def _measured(
    model: str | Path | None, threads: int | None
) -> tuple[dict[str, Any], list[Finding]]:
    """What `measure` found in a process of its own, and what follows."""
    try:
        from sharpzo.towers.checkpoint import resolve
    except ImportError as error:
        return {}, [_no_engine(str(error))]
    folder = str(resolve(model))
    others = versions(list(OTHERS))
    engines = ["onnxruntime", *(name for name in OTHERS if others[name] is not None)]
    findings: list[Finding] = []
    costs: dict[str, Any] = {}
    for tried in (engines, engines[:1]):  # a broken second engine does not hide the first
        try:
            with Child("sharpzo.towers.measure") as child:
                child.send({"model": folder, "threads": threads, "engines": tried})
                costs = child.receive()
            break
        except EngineError as error:  # what is wrong with the model or the options is no finding
            findings = [_no_engine(str(error), tried[-1])]
    return costs, [*_costs(costs, model), *findings] if costs else findings


def _no_model(why: str) -> Finding:
    return Finding(
        "model", "broken", why,
        "docs/models.md says what a model's folder holds; without --model the embedded one is "
        "measured.",
    )  # fmt: skip


def _no_engine(why: str, engine: str = "onnxruntime") -> Finding:
    return Finding(
        "engine", "broken", f"{engine} does not run here: {why}",
        f"Reinstall it: pip install --force-reinstall {engine}; it needs a 64-bit system and, on "
        "Linux, glibc (not musl, as Alpine has).",
        {"engine": engine},
    )  # fmt: skip


def _costs(costs: Mapping[str, Any], model: str | Path | None) -> list[Finding]:
    forwards: dict[str, float] = costs["forward"]
    findings = [_agreement(costs)]
    fastest = min(forwards, key=forwards.__getitem__)
    listed = ", ".join(f"{1000 * cost:.1f} ms by {name}" for name, cost in forwards.items())
    time = _duration(SEARCH * forwards["onnxruntime"])
    advice = f"A search of {SEARCH:,} forwards takes about {time}; the default needs one forward."
    if forwards[fastest] < 0.8 * forwards["onnxruntime"]:
        advice = advice.replace(";", f", less with --engine {fastest};")
    findings.append(
        Finding("forward", "ok", f"{listed}, ten classes, {_model(model)}", advice, forwards)
    )
    photo = costs["photo"]
    return [*findings, _photo(photo, costs["photo_in"])]


def _photo(seconds: float, others: Mapping[str, float]) -> Finding:
    """What a photo costs in float32 and in ``others`` of the image tower's precisions."""
    found = f"{1000 * seconds:.0f} ms through the image tower, without decoding"
    found += "".join(f", {1000 * cost:.0f} in {name}" for name, cost in others.items())
    advice = (
        f"{FITTED} photos are encoded in about {_duration(FITTED * seconds)}, once: the cache "
        "keeps them."
    )
    faster = {name: seconds / cost for name, cost in others.items() if cost < 0.8 * seconds}
    if faster:
        times = ", ".join(f"{name} {ratio:.1f}" for name, ratio in faster.items())
        advice += (
            f" 'fit --image-precision' is so many times as fast: {times} (docs/performance.md has "
            "the accuracy)."
        )
    return Finding("photo", "ok", found, advice, {"seconds": seconds, **others})


def _agreement(costs: Mapping[str, Any]) -> Finding:
    """Whether engines compute what NumPy, and what each other compute."""
    apart = {f"{name}, text": value for name, value in costs["text_apart"].items()}
    apart |= {"onnxruntime, photos": costs["image_apart"]}
    wrong = [name for name, value in apart.items() if value is not None and not value < APART]
    engines = versions(list(costs["forward"]))
    found = ", ".join(f"{name} {version}" for name, version in engines.items())
    if wrong:
        return Finding(
            "engine", "broken", f"{found}; features are wrong ({', '.join(wrong)})",
            "Do not use it: install another version of the engine, and report this with its "
            "version and the processor.",
            apart,
        )  # fmt: skip
    compared = "agree with those of NumPy" if costs["image_apart"] is not None else (
        "were not compared: there is no such image tower in NumPy"
    )  # fmt: skip
    return Finding(
        "engine", "ok", f"{found}; features {compared}",
        "onnxruntime is the default; --engine names another.", apart,
    )  # fmt: skip


def _model(model: str | Path | None) -> str:
    return "the embedded model" if model is None else str(model)


def _duration(seconds: float) -> str:
    """A time as people say it.

    >>> _duration(0.04), _duration(12.3), _duration(300), _duration(9000)
    ('a moment', '12 seconds', '5 minutes', '2.5 hours')
    """
    if seconds < 1:
        return "a moment"
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
