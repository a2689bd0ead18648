"""Engines that run cells: processes of this machine, or tasks of a Ray cluster (extra ``ray``)."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol

from sharpzo.bench.cell import Cell
from sharpzo.errors import EngineError, optional
from sharpzo.process import Child, ProcessDied

Listen = Callable[[str, int], None]  # key of a cell ("" while encoding), forwards or photos so far
Answer = dict[str, Any]  # a `Result` as JSON, or {"error": sentence}
Work = Literal["encode", "fit"]  # all photos of some cells, or one cell
ATTEMPTS = 2  # of a process on this machine
RETRIES = 3  # of a task whose process or node died


def ask(
    work: Work,
    cells: list[Cell],
    cache: Path,
    listen: Callable[[int], None] = lambda done: None,
    started: Callable[[Child], None] = lambda child: None,
) -> Answer:
    """Do some work of `compute` in a fresh process, whose peak memory is then its own.

    ``listen`` gets the forwards or photos so far, ``started`` the process, to be able to end it.
    Raises `ProcessDied`.
    """
    # As in the command line: NumPy's threads must not wait for the towers' by spinning.
    threads = {"OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1")}
    with Child("sharpzo.bench.compute", threads) as child:
        started(child)
        child.send({"work": work, "cells": list(map(asdict, cells)), "cache": str(cache)})
        while "done" in (answer := child.receive()):
            listen(answer["done"])
        return answer


class Engine(Protocol):
    """Runs cells somewhere and yields each with its answer as it ends."""

    def run(
        self, cells: list[Cell], cache: Path, listen: Listen = ...
    ) -> Iterator[tuple[Cell, Answer]]: ...


class LocalEngine:
    """Runs ``workers`` processes at a time. A process that is killed is started once more.

    All photos are encoded first, one process per data set and model: no two workers encode the same
    photos, and fits are alike in memory whether the cache was full or not.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._running: set[Child] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(
        self, cells: list[Cell], cache: Path, listen: Listen = lambda key, done: None
    ) -> Iterator[tuple[Cell, Answer]]:
        pool = ThreadPoolExecutor(self.workers)
        try:
            encoding = {
                photos: pool.submit(self._try, "encode", draws, cache, listen)
                for photos, draws in _by_photos(cells).items()
            }
            encoded = {photos: future.result() for photos, future in encoding.items()}
            waiting: dict[Future[Answer], Cell] = {}
            for cell in cells:
                found = encoded[cell.data_set, cell.model]
                if "error" in found:
                    yield cell, found
                else:
                    waiting[pool.submit(self._try, "fit", [cell], cache, listen)] = cell
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:
            self._stop()
            pool.shutdown(wait=True, cancel_futures=True)

    def _try(self, work: Work, cells: list[Cell], cache: Path, listen: Listen) -> Answer:
        key, why = cells[0].key if work == "fit" else "", "the bench was stopped"
        for _ in range(ATTEMPTS):
            if self._stopped:
                break
            try:
                return ask(work, cells, cache, lambda done: listen(key, done), self._started)
            except ProcessDied as death:
                why = f"its process died {ATTEMPTS} times ({death.why})"
        return {"error": why}

    def _started(self, child: Child) -> None:
        with self._lock:
            self._running = {one for one in self._running if one.running} | {child}
            if self._stopped:
                child.kill()

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for child in self._running:
                child.kill()


def _by_photos(cells: list[Cell]) -> dict[tuple[str, str | None], list[Cell]]:
    """Data set and model -> one cell for each draw (and each set tested on)."""
    groups: dict[tuple[str, str | None], dict[Any, Cell]] = {}
    for cell in cells:
        draws = groups.setdefault((cell.data_set, cell.model), {})
        draws.setdefault((cell.shots, cell.seed, cell.test_on), cell)
    return {photos: list(draws.values()) for photos, draws in groups.items()}


class RayEngine:
    """Runs on the cluster at ``address``, or on one that Ray starts here for the while; at most
    ``workers`` cells at a time (None: as many as it has cores). ``listen`` is not called.

    Every node needs sharpzo, and the photos, the model and the plugins under the same paths. The
    driver alone writes results, so the task of a failed node is repeated on another.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self.address = address
        self.workers = workers

    def run(
        self, cells: list[Cell], cache: Path, listen: Listen = lambda key, done: None
    ) -> Iterator[tuple[Cell, Answer]]:
        ray = optional("ray", "ray", "the engine ray")
        host, colon, port = (self.address or "").rpartition(":")  # or none, "auto", "ray://…"
        try:
            if colon and port.isdigit() and "/" not in host:
                # Where nothing listens, Ray would try for minutes without a word.
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(
                address=self.address, log_to_driver=False, logging_level="ERROR",
                include_dashboard=False if self.address is None else None,
            )  # fmt: skip
        except Exception as error:  # ray raises ConnectionError, RuntimeError, ValueError
            reason = " ".join(str(error).split())[:200] or "no answer"
            raise EngineError(
                f"no Ray cluster answers at {self.address} ({type(error).__name__}: {reason}); "
                "start one with 'ray start --head' and give its address"
            ) from error
        try:
            yield from self._run(ray, cells, cache)
        finally:
            ray.shutdown()

    def _run(self, ray: Any, cells: list[Cell], cache: Path) -> Iterator[tuple[Cell, Answer]]:
        # A process that dies raises ProcessDied in its task; nothing else raises.
        task = ray.remote(max_retries=RETRIES, retry_exceptions=True)(_encode_and_fit)
        limit = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        queue = list(reversed(cells))
        running: dict[Any, Cell] = {}
        while queue or running:
            while queue and len(running) < limit:
                cell = queue.pop()
                placed = task.options(num_cpus=cell.threads or 1)
                running[placed.remote(cell, cache)] = cell
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                cell = running.pop(reference)
                try:
                    yield cell, ray.get(reference)
                except Exception as error:  # died more often than RETRIES
                    last = (str(error).strip().splitlines() or [repr(error)])[-1]
                    yield cell, {"error": f"it died {RETRIES + 1} times ({last})"}


def _encode_and_fit(cell: Cell, cache: Path) -> Answer:
    """On a node: its cache may be empty, so photos first, as on one machine."""
    encoded = ask("encode", [cell], cache)
    return encoded if "error" in encoded else ask("fit", [cell], cache)
