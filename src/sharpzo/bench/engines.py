"""Cells in processes on this machine."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from sharpzo.bench.cell import Cell
from sharpzo.bench.process import Request, WorkerDied, to_encode, to_fit, work

Heard = Callable[[str, int], None]  # key of a cell, forwards so far
Photos = tuple[str, str | None]  # data set and model
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
        """Yield each cell with its result as it ends; a result may be ``{"error": sentence}``.

        All photos are encoded first, one process a data set and model: no two workers encode the
        same photos, and fits are alike in memory whether the cache was full or not.
        """
        pool = ThreadPoolExecutor(self.workers)
        try:
            encoding = {
                photos: pool.submit(self._try, to_encode(draws, cache), "", heard)
                for photos, draws in _by_photos(cells).items()
            }
            encoded = {photos: future.result() for photos, future in encoding.items()}
            waiting: dict[Future[dict[str, Any]], Cell] = {}
            for cell in cells:
                found = encoded[_photos_of(cell)]
                if "error" in found:
                    yield cell, found
                else:
                    future = pool.submit(self._try, to_fit(cell, cache), cell.key, heard)
                    waiting[future] = cell
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), future.result()
        finally:
            self._stop()
            pool.shutdown(wait=True, cancel_futures=True)

    def _try(self, request: Request, key: str, heard: Heard) -> dict[str, Any]:
        why = "the bench was stopped"
        for _ in range(ATTEMPTS):
            if self._stopped:
                break
            process: subprocess.Popen[str] | None = None

            def started(one: subprocess.Popen[str]) -> None:
                nonlocal process
                process = one
                with self._lock:
                    self._running.add(one)
                    if self._stopped:
                        one.kill()

            try:
                return work(request, lambda done: heard(key, done), started)
            except WorkerDied as death:
                why = f"its process died {ATTEMPTS} times ({death})"
            finally:
                with self._lock:
                    self._running.discard(process)  # type: ignore[arg-type]
        return {"error": why}

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()


def _photos_of(cell: Cell) -> Photos:
    return cell.data_set, cell.model


def _by_photos(cells: list[Cell]) -> dict[Photos, list[Cell]]:
    """Data set and model -> one cell for each draw (and each set tested on)."""
    groups: dict[Photos, dict[Any, Cell]] = {}
    for cell in cells:
        draws = groups.setdefault(_photos_of(cell), {})
        draws.setdefault((cell.shots, cell.seed, cell.test_on), cell)
    return {photos: list(draws.values()) for photos, draws in groups.items()}
