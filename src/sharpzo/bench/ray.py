"""Cells as tasks of a Ray cluster (extra ``ray``).

Every node needs sharpzo, and the photos, the model and the plugins under the same paths. The
driver alone writes results, so a task that a dead node takes with it is simply done elsewhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sharpzo.bench.cell import Cell
from sharpzo.bench.compute import attempt
from sharpzo.errors import EngineError

RETRIES = 3  # of a task whose worker or node died
Heard = Callable[[str, int], None]


def _task(job: dict[str, Any], cache: str) -> dict[str, Any]:
    return attempt(job, cache)


class RayEngine:
    """Runs on the cluster at ``address``, or on one that Ray starts here for the while."""

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self.address = address
        self.workers = workers

    def run(
        self, cells: list[Cell], cache: Path, heard: Heard = lambda key, done: None
    ) -> Iterator[tuple[Cell, dict[str, Any]]]:
        """Yield each cell with its result as it ends; a result may be ``{"error": sentence}``.

        At most ``workers`` cells (None: as many as the cluster has cores for) are submitted at a
        time. Forwards are not heard before the end of a cell.
        """
        ray = _import()
        try:
            ray.init(
                address=self.address, log_to_driver=False, logging_level="ERROR",
                include_dashboard=False if self.address is None else None,
            )  # fmt: skip
        except Exception as error:  # ray raises ConnectionError, RuntimeError, ValueError
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no answer"
            raise EngineError(
                f"no Ray cluster answers at {self.address}: {type(error).__name__}: {reason}; "
                "start one with 'ray start --head' and give its address"
            ) from error
        try:
            yield from self._run(ray, cells, cache)
        finally:
            ray.shutdown()

    def _run(
        self, ray: Any, cells: list[Cell], cache: Path
    ) -> Iterator[tuple[Cell, dict[str, Any]]]:
        # One process a task (max_calls): its peak memory is its own.
        task = ray.remote(max_retries=RETRIES, max_calls=1)(_task)
        limit = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        queue = list(reversed(cells))
        running: dict[Any, Cell] = {}
        while queue or running:
            while queue and len(running) < limit:
                cell = queue.pop()
                cores = cell.threads or 1
                reference = task.options(num_cpus=cores).remote(cell.as_job(), str(cache))
                running[reference] = cell
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                yield running.pop(reference), _result(ray, reference)


def _result(ray: Any, reference: Any) -> dict[str, Any]:
    try:
        return ray.get(reference)
    except Exception as error:  # a worker or node died more often than RETRIES
        first = str(error).strip().splitlines()[0]
        return {"error": f"its task died {RETRIES + 1} times ({type(error).__name__}: {first})"}


def _import() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise EngineError(
            "the engine ray needs Ray, which is not installed; run: pip install 'sharpzo[ray]'"
        ) from None
