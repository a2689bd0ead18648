"""Cells as tasks of a Ray cluster (extra ``ray``).

Every node needs sharpzo, and the photos, the model and the plugins under the same paths. The
driver alone writes results, so a task that a dead node takes with it is simply done elsewhere.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sharpzo.bench.cell import Cell
from sharpzo.bench.process import Request, to_encode, to_fit, work
from sharpzo.errors import EngineError

RETRIES = 3  # of a task whose process or node died
Heard = Callable[[str, int], None]


def _task(encode: Request, fit: Request) -> dict[str, Any]:
    """On a node: its cache may be empty, so photos first, as on one machine."""
    encoded = work(encode)
    return encoded if "error" in encoded else work(fit)


class RayEngine:
    """Runs on the cluster at ``address``, or on one that Ray starts here for the while."""

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self.address = address
        self.workers = workers

    def run(
        self, cells: list[Cell], cache: Path, heard: Heard = lambda key, done: None
    ) -> Iterator[tuple[Cell, dict[str, Any]]]:
        """Yield each cell with its result as it ends; a result may be ``{"error": sentence}``.

        At most ``workers`` cells (None: as many as the cluster has cores) are submitted at a time.
        Forwards are not heard before the end of a cell.
        """
        ray = _import()
        _check(self.address)
        try:
            ray.init(
                address=self.address, log_to_driver=False, logging_level="ERROR",
                include_dashboard=False if self.address is None else None,
            )  # fmt: skip
        except Exception as error:  # ray raises ConnectionError, RuntimeError, ValueError
            reason = " ".join(str(error).split()) or "no answer"
            raise EngineError(
                f"no Ray cluster answers at {self.address} ({type(error).__name__}: "
                f"{reason[:200]}); start one with 'ray start --head' and give its address"
            ) from error
        try:
            yield from self._run(ray, cells, cache)
        finally:
            ray.shutdown()

    def _run(
        self, ray: Any, cells: list[Cell], cache: Path
    ) -> Iterator[tuple[Cell, dict[str, Any]]]:
        # A process that dies raises WorkerDied in its task; nothing else raises.
        task = ray.remote(max_retries=RETRIES, retry_exceptions=True)(_task)
        limit = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        queue = list(reversed(cells))
        running: dict[Any, Cell] = {}
        while queue or running:
            while queue and len(running) < limit:
                cell = queue.pop()
                placed = task.options(num_cpus=cell.threads or 1)
                running[placed.remote(to_encode([cell], cache), to_fit(cell, cache))] = cell
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                yield running.pop(reference), _result(ray, reference)


def _check(address: str | None) -> None:
    """Ray itself tries for minutes, and tells nobody, where nothing listens."""
    host, colon, port = (address or "").rpartition(":")
    if not colon or not port.isdigit() or "/" in host:  # none, "auto", "ray://…"
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise EngineError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); start one with "
            "'ray start --head' and give its address"
        ) from None


def _result(ray: Any, reference: Any) -> dict[str, Any]:
    try:
        return ray.get(reference)
    except Exception as error:  # died more often than RETRIES
        lines = str(error).strip().splitlines()
        return {"error": f"it died {RETRIES + 1} times ({lines[-1] if lines else error!r})"}


def _import() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise EngineError(
            "the engine ray needs Ray, which is not installed; run: pip install 'sharpzo[ray]'"
        ) from None
