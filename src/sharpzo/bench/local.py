"""Cells in processes on this machine, each in a fresh one: its peak memory is its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from sharpzo.bench.cell import Cell

Heard = Callable[[str, int], None]  # key of a cell, forwards so far
ATTEMPTS = 2


class LocalEngine:
    """Runs ``workers`` processes at a time. A process that dies is tried once more."""

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(
        self, cells: list[Cell], cache: Path, heard: Heard = lambda key, done: None
    ) -> Iterator[tuple[Cell, dict[str, Any]]]:
        """Yield each cell with its result as it ends; a result may be ``{"error": sentence}``."""
        pool = ThreadPoolExecutor(self.workers)
        try:
            warming = _by_photos(cells)
            failed = self._warm(pool, warming, cache, heard)
            futures: dict[Future[dict[str, Any]], Cell] = {}
            for cell in cells:
                error = failed.get(_photos_of(cell))
                if error is not None:
                    yield cell, {"error": error}
                    continue
                request = {"job": cell.as_job(), "cache": str(cache)}
                futures[pool.submit(self._try, request, cell.key, heard)] = cell
            waiting = set(futures)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield futures[future], future.result()
        finally:
            self._stop()
            pool.shutdown(wait=True, cancel_futures=True)

    def _warm(
        self,
        pool: ThreadPoolExecutor,
        groups: dict[tuple[str, str | None], list[Cell]],
        cache: Path,
        heard: Heard,
    ) -> dict[tuple[str, str | None], str]:
        """Encode all photos, one process a data set and model; the errors by these two."""
        futures = {
            group: pool.submit(
                self._try,
                {"warm": [cell.as_job() for cell in cells], "cache": str(cache)},
                "",
                heard,
            )
            for group, cells in groups.items()
        }
        results = {group: future.result() for group, future in futures.items()}
        return {group: r["error"] for group, r in results.items() if "error" in r}

    def _try(self, request: dict[str, Any], key: str, heard: Heard) -> dict[str, Any]:
        result = {"error": "the bench was stopped"}
        for _ in range(ATTEMPTS):
            if self._stopped:
                break
            found = self._process(request, key, heard)
            if "died" not in found:
                return found
            result = {"error": f"its process died twice ({found['died']})"}
        return result

    def _process(self, request: dict[str, Any], key: str, heard: Heard) -> dict[str, Any]:
        last: dict[str, Any] = {}
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "sharpzo.bench.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                start_new_session=True,  # Ctrl-C is for the driver, which then ends its workers
            )  # fmt: skip
            with self._lock:
                self._running.add(process)
                if self._stopped:
                    process.kill()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                for line in process.stdout:
                    last = json.loads(line)
                    if "done" in last:
                        heard(key, last["done"])
            except (OSError, ValueError):  # it died while it was written to, or in mid-line
                last = {}
            finally:
                process.kill() if self._stopped else None
                code = process.wait()
                with self._lock:
                    self._running.discard(process)
                process.stdin.close()
                process.stdout.close()
            if code == 0 and last and "done" not in last:
                return last
            errors.seek(0)
            lines = errors.read().strip().splitlines()
        why = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return {"died": f"{why}; {lines[-1]}" if lines else why}

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()


def _photos_of(cell: Cell) -> tuple[str, str | None]:
    return cell.data_set, cell.model


def _by_photos(cells: list[Cell]) -> dict[tuple[str, str | None], list[Cell]]:
    """Data set and model -> one cell for each draw (and each set tested on)."""
    groups: dict[tuple[str, str | None], dict[Any, Cell]] = {}
    for cell in cells:
        draws = groups.setdefault(_photos_of(cell), {})
        draws.setdefault((cell.shots, cell.seed, cell.test_on), cell)
    return {group: list(draws.values()) for group, draws in groups.items()}
