"""The memory of this process and its children, and sizes such as "600MB"."""

from __future__ import annotations

import ctypes
import gc
import mmap
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sharpzo.errors import InputError

MB = 10**6
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": MB, "gb": 10**9,
          "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}  # fmt: skip
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (...p) \S+ \S+ \d+ +(/.*)?")
_MMAP_THRESHOLD = -3  # of glibc's mallopt
_before = 0  # bytes: the peak of this process alone before it watched anew
_with_children = 0  # bytes: the most of this process and a child of its at the same time


@dataclass(frozen=True)
class Need:
    """What a method takes while it fits: ``bytes`` beside the text tower, ``tangents`` of the tower
    besides forwards, and ``tokens`` of a forward if it opens a tower of its own (0: it does not).
    ``block``: bytes of the image tower's last block if it is tuned (0: it is not): photos then pass
    the tower again before and after the search, and it in this process.
    """

    bytes: int = 0
    tangents: bool = False
    tokens: int = 0
    block: int = 0


def matrices(side: int) -> int:
    """Bytes of a square matrix, its eigenvectors and what computes them, float64."""
    return 8 * 6 * side**2


def parse_size(size: str | int) -> int:
    """Return bytes of a size such as 600MB (10**6 bytes), 1.5 GB, 512MiB (2**20), or plain bytes.

    Raises `InputError` for anything else and for nothing at all.

    >>> parse_size("600MB"), parse_size("512 MiB"), parse_size(1000)
    (600000000, 536870912, 1000)
    """
    found = _SIZE.fullmatch(str(size))
    unit = _UNITS.get(found[2].lower()) if found else None
    bytes_ = round(float(found[1]) * unit) if found and unit else 0
    if bytes_ < 1:
        raise InputError(f"{str(size)!r} is not a size of memory; write it like 600MB or 512MiB")
    return bytes_


def resident() -> int | None:
    """Bytes of this process in memory now, shared libraries and mapped files included; None where
    the system does not say (it does on Linux)."""
    return _status("VmRSS")


def peak() -> int | None:
    """The most bytes of this process in memory so far, or since `watch_anew`; None where the system
    hides it."""
    # On Linux, ru_maxrss of a new process begins at the peak of the one that started it.
    found = _status("VmHWM")
    if found is not None:
        return found
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # bytes or KiB


def trim() -> None:
    """Release memory that can be reclaimed: what is free but kept by the C library (glibc), and
    pages of libraries, which the system still has in its cache of files when they are needed."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            library = ctypes.CDLL(None)
            library.malloc_trim(0)
            for begin, end in _library_pages():
                size = ctypes.c_size_t(end - begin)
                library.madvise(ctypes.c_void_p(begin), size, mmap.MADV_DONTNEED)


def map_large_blocks() -> None:
    """Let the C library (glibc) give each block of a megabyte or more back as soon as it is free.

    It would keep up to 64 MB of them for each thread, which `trim` cannot release.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 20)


def watch_anew() -> bool:
    """Let `peak` count from now: for a child that is about to start, or one piece of the work.

    `peak_memory_mb` forgets nothing. False where the system has no such switch (it is Linux's), or
    forbids it: `peak` then goes on to count the whole past.
    """
    global _before
    _before = max(_before, peak() or 0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins again
    except OSError:
        return False
    return True


def add_child(most: int | None) -> None:
    """Count a child process that has just ended, ``most`` bytes in memory at its peak.

    The peak of this process since `watch_anew` is added to it. The two may have come at
    different times, so the sum is never too small.
    """
    global _with_children
    _with_children = max(_with_children, (peak() or 0) + (most or 0))


def peak_memory_mb() -> float | None:
    """Peak resident size in MB (10**6 bytes) of this process and the children that it counted
    while they ran (`add_child`); None where the system hides it."""
    own = peak()
    return None if own is None else max(own, _before, _with_children) / MB


def _status(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) * 1024
    except (OSError, StopIteration):
        return None


def _library_pages() -> list[tuple[int, int]]:
    """Stretches of memory that are no more than what the file of a library says.

    They are never written (a page that the loader has changed counts as anonymous), and libraries
    stay where they are, so the stretches cannot become something else before they are used.
    """
    stretches: list[tuple[int, int, str]] = []
    libraries: set[str] = set()
    now: tuple[int, int, str] | None = None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = _MAPPING.match(line)
        if head:
            begin, end, rights, path = head.groups()
            now = (int(begin, 16), int(end, 16), path) if rights[1] == "-" and path else None
            libraries |= {path} if "x" in rights else set()
        elif now and line.split() == ["Anonymous:", "0", "kB"]:
            stretches.append(now)
    return [(begin, end) for begin, end, path in stretches if path in libraries]
