"""Ways to run a bench in tests."""

from __future__ import annotations

import csv
import subprocess
import sys
import time

from sharpzo.bench.compute import attempt
from sharpzo.bench.table import MEASURED

# A shell's background job ignores Ctrl-C, and so would its children.
COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from sharpzo.cli import main
main()
"""


class Here:
    """An engine without processes, that remembers what it ran and stops when told to."""

    def __init__(self, stop_after: int | None = None):
        self.ran: list[str] = []
        self.stop_after = stop_after

    def run(self, cells, cache, listen=lambda key, done: None):
        for cell in cells:
            if len(self.ran) == self.stop_after:
                raise KeyboardInterrupt
            self.ran.append(cell.name)
            yield cell, attempt("fit", [cell], cache)


def table(out, measured=False):
    """Rows of a bench's table, without what two runs need not agree on."""
    with (out / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    drop = () if measured else MEASURED
    return [{k: v for k, v in row.items() if k not in drop} for row in rows]


def start(path, out, *options):
    """The command line in a process of its own; what it says is in `log_of`."""
    with log_of(out).open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, "bench", str(path), "--out", str(out), *options],
            stdout=subprocess.DEVNULL, stderr=log,
        )  # fmt: skip


def log_of(out):
    return out.with_name(f"{out.name}.log")


def finished(out):
    return sorted(file.name for file in (out / "cells").glob("*.json"))


def wait_for(cells, out, process, limit=300):
    """Return when so many cells are done."""
    end = time.monotonic() + limit
    while len(finished(out)) < cells:
        assert process.poll() is None, log_of(out).read_text()
        assert time.monotonic() < end
        time.sleep(0.05)
