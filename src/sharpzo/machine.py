"""What this machine is: the instructions of its processor, and the memory a process may have."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_CPUINFO, _MEMINFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
_OWN_GROUP, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # bytes: how version 1 of control groups writes "no limit"
# What Linux, and macOS (hw.optional without dots), call an instruction set that engines use.
INSTRUCTIONS = {
    "AVX2": {"avx2", "avx2_0"},
    "AVX-512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni", "avx512vnni"},
    "bfloat16": {"avx512_bf16", "bf16", "feat_bf16"},
    "AMX": {"amx_tile"},
    "NEON": {"asimd", "neon", "advsimd"},
    "dot product": {"asimddp", "feat_dotprod"},
    "i8mm": {"i8mm", "feat_i8mm"},
    "SVE": {"sve"},
}


def flags(text: str) -> set[str]:
    """The names of a processor's features in Linux's cpuinfo, or in macOS's ``sysctl hw.optional``.

    >>> sorted(flags("processor : 0\\nFeatures\\t: fp asimd asimddp\\nprocessor : 1"))
    ['asimd', 'asimddp', 'fp']
    >>> sorted(flags("hw.optional.avx2_0: 1\\nhw.optional.arm.FEAT_BF16: 0"))
    ['avx2_0']
    """
    listed = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    if listed:
        return set(listed[1].lower().split())
    return {name.lower() for name in re.findall(r"^hw\.optional\.(?:arm\.)?(\w+): 1$", text, re.M)}


def instructions() -> tuple[str, ...] | None:
    """Those of `INSTRUCTIONS` that the processor has; None where the system does not say."""
    try:
        if sys.platform == "darwin":
            ask = ["sysctl", "hw.optional"]
            text = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
        else:
            text = _CPUINFO.read_text("utf-8", "replace")
    except (OSError, subprocess.CalledProcessError):
        return None
    found = flags(text)
    return tuple(name for name, known in INSTRUCTIONS.items() if known & found) if found else None


def processor() -> str | None:
    """The processor's name as the system has it; None where it does not say."""
    try:
        listed = re.search(r"^model name\s*:\s*(.+)$", _CPUINFO.read_text("utf-8", "replace"), re.M)
    except OSError:
        listed = None
    return listed[1].strip() if listed else platform.processor() or None


def kernel() -> str | None:
    """The kernel of OpenBLAS that NumPy's products run on, such as "Haswell": it decides about the
    last bit of a sum. None where NumPy has another library."""
    import numpy as np

    for file in (Path(np.__file__).parents[1] / "numpy.libs").glob("*openblas*"):
        library = ctypes.CDLL(str(file))  # loaded already
        for name in ("scipy_openblas_get_corename64_", "scipy_openblas_get_corename"):
            if hasattr(library, name):
                ask = getattr(library, name)
                ask.restype = ctypes.c_char_p
                return ask().decode("ascii", "replace")
    return None


@dataclass(frozen=True)
class Memory:
    """Bytes of the machine, of those what is free now, and the limit of the control group (of a
    container or a systemd unit); None where the system does not say, or there is no limit."""

    total: int | None
    available: int | None
    limit: int | None

    @property
    def room(self) -> int | None:
        """What a new process may take, at most."""
        known = [size for size in (self.available or self.total, self.limit) if size is not None]
        return min(known, default=None)


def memory() -> Memory:
    """The machine's memory now."""
    total, available = (_meminfo(name) for name in ("MemTotal", "MemAvailable"))
    if total is None and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = group_limit()
    return Memory(total, available, limit if limit and limit < (total or _UNLIMITED) else None)


def group_limit() -> int | None:
    """The least memory limit of this process's control group and those above it, bytes."""
    try:
        lines = _OWN_GROUP.read_text("utf-8").splitlines()
    except OSError:
        return None
    found: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            root, name = _GROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = _GROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            found += _limit(folder / name)
    return min(found, default=None)


def _limit(file: Path) -> list[int]:
    try:
        text = file.read_text("utf-8").strip()
    except OSError:
        return []
    return [int(text)] if text.isdigit() and int(text) < _UNLIMITED else []


def _meminfo(field: str) -> int | None:
    try:
        found = re.search(rf"^{field}:\s*(\d+) kB$", _MEMINFO.read_text("utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
