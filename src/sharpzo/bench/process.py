"""One piece of work in a fresh process, whose peak memory is then its own; see ``worker``."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sharpzo.bench.cell import Cell

Request = dict[str, Any]


class WorkerDied(Exception):
    """The process ended without a result: killed, out of memory, crashed."""


def to_fit(cell: Cell, cache: Path | str) -> Request:
    """Ask for the result of a cell."""
    return {"job": cell.as_job(), "cache": str(cache)}


def to_encode(cells: list[Cell], cache: Path | str) -> Request:
    """Ask for the features of all photos of some cells."""
    return {"warm": [cell.as_job() for cell in cells], "cache": str(cache)}


def work(
    request: Request,
    heard: Callable[[int], None] = lambda done: None,
    started: Callable[[subprocess.Popen[str]], None] = lambda process: None,
) -> dict[str, Any]:
    """Return the result of a request; raises `WorkerDied`.

    ``heard`` hears the forwards or photos so far, ``started`` the process, to be able to end it.
    """
    last: dict[str, Any] = {}
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "sharpzo.bench.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            start_new_session=True,  # Ctrl-C is for the driver, which then ends its workers
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            started(process)
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                last = json.loads(line)
                if "done" in last:
                    heard(last["done"])
        except (OSError, ValueError):  # it died while it was written to, or in mid-line
            last = {}
        except BaseException:
            process.kill()
            raise
        finally:
            code = process.wait()
            process.stdout.close()
            with contextlib.suppress(OSError):  # what could not be written to a dead process
                process.stdin.close()
        if code == 0 and last and "done" not in last:
            return last
        errors.seek(0)
        lines = errors.read().strip().splitlines()
    why = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    raise WorkerDied(f"{why}; {lines[-1]}" if lines else why)
