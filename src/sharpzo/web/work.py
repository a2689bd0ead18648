"""One piece of work at a time, in a thread: how far it is, how to stop it, how it ended."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sharpzo.errors import EngineError, InputError, SharpzoError
from sharpzo.fitting.fitter import Fitter
from sharpzo.fitting.job import Job
from sharpzo.process import ProcessDied
from sharpzo.storage.journal import HISTORY

LOOK = 0.1  # seconds between two looks at a command
CURVE = 100  # points of a curve
PATIENCE = 60.0  # seconds that a command may take to end after it was asked to


class Stopped(Exception):
    """Raised in the thread of a work that is to stop."""


class Work:
    """``do`` in a thread of its own; ``kind`` says what it is. ``shown`` is how far it is."""

    def __init__(self, kind: str, do: Callable[[Work], None]) -> None:
        self.kind, self._do = kind, do
        self.shown: dict[str, Any] = {}
        self.error = ""  # the sentence that it ended with
        self.stopped = False
        self.begun, self.seconds = time.monotonic(), 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def tell(self, **shown: Any) -> None:
        """Say how far it is; raises `Stopped` if it is to stop."""
        self.shown = shown
        if self._stop.is_set():
            raise Stopped

    def stop(self, wait: float = 0.0) -> None:
        """Ask it to stop, and wait so many seconds for it."""
        self._stop.set()
        if wait:
            self._thread.join(wait)

    def state(self) -> dict[str, Any]:
        """All of this as JSON has it."""
        seconds = time.monotonic() - self.begun if self.running else self.seconds
        return {
            "kind": self.kind, "running": self.running, "seconds": round(seconds, 1),
            "stopping": self.running and self._stop.is_set(), "stopped": self.stopped,
            "error": self.error, **self.shown,
        }  # fmt: skip

    def command(
        self,
        arguments: list[str],
        folder: Path,
        look: Callable[[], dict[str, Any]] = lambda: {},
    ) -> dict[str, Any]:
        """Run a command of sharpzo and return its JSON document; ``folder`` keeps what it prints.

        ``look`` returns how far it is. Asked to stop, it gets SIGTERM, and `Stopped` is raised once
        it has ended. Raises EngineError with the sentence that the command ended with.
        """
        line = [sys.executable, "-m", "sharpzo", *arguments, "--json"]
        with (folder / "out.txt").open("w+b") as out, (folder / "err.txt").open("w+b") as err:
            process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )  # Ctrl-C does not reach it
            try:
                self._wait(process, look)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            out.seek(0)
            err.seek(0)
            said, complaint = (one.read().decode(errors="replace") for one in (out, err))
        if self._stop.is_set() and process.returncode:
            raise Stopped
        if process.returncode:
            ours = [one for one in complaint.splitlines() if one.startswith("sharpzo: ")]
            if ours:
                raise EngineError(ours[-1].removeprefix("sharpzo: "))
            why = f"exit code {process.returncode}"
            raise ProcessDied(f"sharpzo {arguments[0]}", why)
        return json.loads(said)

    def _wait(self, process: subprocess.Popen[bytes], look: Callable[[], dict[str, Any]]) -> None:
        asked = 0.0
        while process.poll() is None:
            self.shown = self.shown | look()
            if self._stop.is_set() and not asked:
                process.terminate()
                asked = time.monotonic()
            if asked and time.monotonic() - asked > PATIENCE:
                process.kill()
            time.sleep(LOOK)

    def _run(self) -> None:
        try:
            self._do(self)
        except Stopped:
            self.stopped = True
        except SharpzoError as error:
            self.error = str(error)
        except MemoryError:
            self.error = "the memory is used up; close other programs, or use fewer photos"
        except OSError as error:
            self.error = f"cannot read or write {error.filename}: {error.strerror or error}"
        except Exception as error:  # a fault of ours: the page has to say so, too
            self.error = f"this failed ({type(error).__name__}: {error}); please report it"
            raise
        finally:
            self.seconds = time.monotonic() - self.begun


class Desk:
    """The work of a workspace: one at a time."""

    def __init__(self) -> None:
        self.work: Work | None = None
        self._lock = threading.Lock()

    def begin(self, kind: str, do: Callable[[Work], None]) -> None:
        """Begin a work; InputError while another one is running, but a check gives way."""
        with self._lock:
            now = self.work
            if now is not None and now.running:
                if now.kind != "check":
                    raise InputError(f"{_NAMES[now.kind]} is running; wait for it, or stop it")
                now.stop(wait=60)
            self.work = Work(kind, do)

    def stop(self, wait: float = 0.0) -> None:
        """Ask what is running to stop."""
        if self.work is not None:
            self.work.stop(wait)


_NAMES = {"tune": "tuning", "export": "an export", "report": "a report", "photos": "copying"}


class Follower:
    """Reads what was added to the journal of a ``run`` since the last look."""

    def __init__(self, run: Path, job: Job) -> None:
        self._file = run / HISTORY
        self._about: dict[str, Any] = {"method": job.method, "run": int(run.name)}
        self._planned = Fitter(**job.parameters()).planned.forwards
        self._curve: list[tuple[int, float | None, float | None]]  # forwards, loss, validation
        self._begin_anew()

    def look(self) -> dict[str, Any]:
        """Stage, loss, validation accuracy and forwards of the last step; no stage before one."""
        try:
            with self._file.open("rb") as file:
                if file.seek(0, 2) < self._read:
                    self._begin_anew()
                file.seek(self._read)
                new = file.read()
            self._read += len(new)
            *lines, self._left = (self._left + new).split(b"\n")
            steps = [json.loads(line) for line in lines]
        except OSError:  # there is none yet
            return self._about
        except ValueError:  # a search that goes on wrote over what was read
            self._begin_anew()
            return self._about
        for step in steps:
            loss = step["loss"] if math.isfinite(step["loss"]) else None  # as JSON has it
            validation = step.get("validation_accuracy")
            self._curve.append((step["forwards"], loss, validation))
            self._about |= {
                "stage": step["stage"], "loss": loss, "validation": validation,
                "done": step["forwards"], "total": self._planned,
            }  # fmt: skip
        while len(self._curve) > 2 * CURVE:
            self._curve = self._curve[::2]
        if self._curve:
            self._about |= {"curve": self._curve}
        return self._about

    def _begin_anew(self) -> None:
        self._read, self._left, self._curve = 0, b"", []
