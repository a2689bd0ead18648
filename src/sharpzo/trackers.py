"""The steps of a search in TensorBoard or MLflow: listeners, which a fit calls with every step.

    from sharpzo.trackers import open_tracker

    with open_tracker("tensorboard:logs", "my-run") as tracker:
        classifier.fit("photos", listen=tracker)
        tracker.finish(classifier.record_)

``sharpzo fit --track tensorboard:logs`` does the same. The axis is forwards, so that methods are
compared at equal cost. Nothing is sent anywhere but to the server that a place names.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from sharpzo.errors import EngineError, InputError, optional
from sharpzo.types import Step
from sharpzo.wording import meant

KINDS = {"tensorboard": "runs", "mlflow": "sqlite:///mlflow.db"}  # and their usual places
EXPERIMENT = "sharpzo"
# Of MLflow's client, which otherwise tries for minutes where no server answers.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
_log = logging.getLogger("sharpzo")
_PARAMETERS = ("method", "preset", "seed", "template", "engine", "precision", "sharpzo_version")
_COSTS = ("forwards", "seconds", "peak_memory_mb")


class Tracker(ABC):
    """Is called with every validated step of a search; ``finish`` takes the run's record, which
    also a method without a search has. To be used with ``with``.

    A server or a disk that fails stops no search: that is a warning, once.
    """

    _failed = False

    def __call__(self, step: Step) -> None:
        self._try(lambda: self.log(metrics(step), step.forwards))

    def beside(self, show: Callable[[Step], None]) -> Callable[[Step], None]:
        """Return what calls another listener, and then this one."""

        def both(step: Step) -> None:
            show(step)
            self(step)

        return both

    def finish(self, record: Mapping[str, Any]) -> None:
        """Log what the fit was asked for, what it cost, and its accuracies."""
        found = {name: record[name] for name in _COSTS if record.get(name) is not None}
        for split in ("validation", "test", "shifted"):
            for name, value in (record.get(split) or {}).items():
                if value is not None:
                    found[f"{split}/{name}"] = value
        final = {f"final/{name}": float(value) for name, value in found.items()}
        self._try(lambda: self.describe(parameters(record)))
        self._try(lambda: self.log(final, record["forwards"]))

    def _try(self, work: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            work()
        except Exception as error:  # of a database, a server, a disk
            self._failed = True
            _log.warning("the tracker failed and is left out from here on: %s", error)

    @abstractmethod
    def log(self, values: Mapping[str, float], forwards: int) -> None:
        """Write numbers at a number of forwards."""

    @abstractmethod
    def describe(self, values: Mapping[str, str]) -> None:
        """Write what the fit was asked for."""

    @abstractmethod
    def close(self, failed: bool) -> None:
        """Write what is not written yet."""

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._try(lambda: self.close(kind is not None))


def metrics(step: Step) -> dict[str, float]:
    """The numbers of a step by name; those that were not measured are left out.

    >>> metrics(Step(1, "cma", 40, 0.5, 1.25, notes={"sigma": 0.1}))
    {'loss': 1.25, 'seconds': 0.5, 'notes/sigma': 0.1}
    """
    found = {
        "loss": step.loss, "seconds": step.seconds,
        "validation/accuracy": step.validation_accuracy, "validation/loss": step.validation_loss,
        **{f"notes/{name}": value for name, value in step.notes.items()},
    }  # fmt: skip
    return {name: float(value) for name, value in found.items() if value is not None}


def parameters(record: Mapping[str, Any]) -> dict[str, str]:
    """What a fit was asked for, as texts; no path is among them."""
    found = {name: str(record[name]) for name in _PARAMETERS if record.get(name) is not None}
    for name, value in record["settings"].items():
        found[f"settings.{name}"] = json.dumps(value)
    return found | {"classes": str(len(record["class_names"]))}


class NoTracker(Tracker):
    """Writes nothing."""

    def log(self, values: Mapping[str, float], forwards: int) -> None:
        pass

    def describe(self, values: Mapping[str, str]) -> None:
        pass

    def close(self, failed: bool) -> None:
        pass


class TensorBoard(Tracker):
    """An event file in ``folder/name``."""

    def __init__(self, folder: str, name: str) -> None:
        writer = optional("tensorboardX", "tensorboard", "the tracker tensorboard")
        try:
            self._writer = writer.SummaryWriter(str(Path(folder) / name))
        except OSError as error:
            raise EngineError(f"TensorBoard's folder {folder} cannot be used: {error}") from None

    def log(self, values: Mapping[str, float], forwards: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, forwards)

    def describe(self, values: Mapping[str, str]) -> None:
        rows = "".join(f"| {name} | {value} |\n" for name, value in values.items())
        self._writer.add_text("fit", f"| setting | value |\n|---|---|\n{rows}")

    def close(self, failed: bool) -> None:
        self._writer.close()


class MLflow(Tracker):
    """A run of the experiment ``sharpzo`` at a tracking URI: a server's, or a database's."""

    def __init__(self, uri: str, name: str) -> None:
        mlflow = optional("mlflow", "mlflow", "the tracker mlflow")
        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
        try:
            _require_database(uri)
            self._client = mlflow.MlflowClient(tracking_uri=uri)
            known = self._client.get_experiment_by_name(EXPERIMENT)
            experiment = (
                known.experiment_id if known else self._client.create_experiment(EXPERIMENT)
            )
            self._run = self._client.create_run(experiment, run_name=name).info.run_id
        except Exception as error:  # of its database, its server, its own
            said = str(_root(error)).strip().partition("\n")[0]
            raise EngineError(f"MLflow cannot be used at {uri}: {said}") from error

    def log(self, values: Mapping[str, float], forwards: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=forwards)

    def describe(self, values: Mapping[str, str]) -> None:
        for name, value in values.items():
            self._client.log_param(self._run, name, value[:500])

    def close(self, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def _root(error: BaseException) -> BaseException:
    """What an error came of at first, such as a refused connection."""
    before = error.__cause__ or error.__context__
    return error if before is None else _root(before)


def _require_database(uri: str) -> None:
    """Raise sqlite3.Error if a database of SQLite cannot be opened, which MLflow would try for
    minutes."""
    file = uri.partition("?")[0]
    if file.startswith("sqlite:///"):
        with closing(sqlite3.connect(file.removeprefix("sqlite:///"))) as database:
            database.execute("PRAGMA schema_version")


def open_tracker(where: str | None, name: str) -> Tracker:
    """Return the tracker that ``where`` names, KIND or KIND:PLACE, for a run called ``name``; None
    is no tracker.

    Kinds are ``tensorboard`` (PLACE: a folder, ``runs``) and ``mlflow`` (a tracking URI,
    ``sqlite:///mlflow.db``). Raises InputError for another kind and EngineError if its package is
    missing or its place cannot be used.
    """
    if where is None:
        return NoTracker()
    kind, _, place = where.partition(":")
    if kind not in KINDS:
        like = meant(kind, KINDS)
        raise InputError(f"there is no tracker {kind!r}{like}; give {' or '.join(KINDS)}")
    opened = {"tensorboard": TensorBoard, "mlflow": MLflow}[kind]
    return opened(place or KINDS[kind], name)
