"""A tab of the browser: its photos, what is being done with them, and the runs that came of it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
import zipfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import IO, Any

from sharpzo.data.dataset import NONE
from sharpzo.data.folder import read_folder
from sharpzo.errors import InputError, SharpzoError
from sharpzo.fitting.fitter import DEFAULT
from sharpzo.fitting.job import Job
from sharpzo.memory import trim
from sharpzo.storage import artifact
from sharpzo.storage.claim import STARTED
from sharpzo.storage.files import write_atomically
from sharpzo.web.findings import find_problems
from sharpzo.web.result import find_mistakes, summarise
from sharpzo.web.work import Desk, Follower, Work
from sharpzo.web.workspace import Workspace

# The methods that a page offers, and why one would take each.
METHODS = {
    DEFAULT: "The default: closed form, seconds, and nearly always the best.",
    "fgn-csc": "A prompt for each class by Gauss-Newton steps, forward passes only.",
    "sharpzo": "The search of the paper: an evolution strategy, then sparse zeroth-order steps.",
}
_FILES = {"onnx": "run-{}-onnx.zip", "web": "run-{}-page.zip", "report": "{}-report.html"}
WAIT = 0.2  # seconds between two looks whether it is our turn


def numbered(folder: Path) -> list[Path]:
    """What is called by a number in a folder, in order; the rest is not ours."""
    found = [place for place in folder.iterdir() if place.name.isdecimal()]
    return sorted(found, key=lambda place: int(place.name))


class Tab:
    """What one tab has below ``folder``. ``turn`` is held by whatever takes the processor for long:
    one of all tabs. ``cache`` keeps the features of photos, ``model`` is what is tuned (None: the
    embedded model)."""

    def __init__(
        self, folder: Path, cache: Path | None, turn: threading.Lock, model: str | None = None
    ) -> None:
        self.workspace, self.desk = Workspace(folder), Desk()
        self.runs, self._results = folder / "runs", folder / "results"
        self._files = folder / "files"
        for made in (self.runs, self._results, self._files):
            made.mkdir(exist_ok=True)
        self._cache, self._turn, self._model = cache, turn, model
        self._found: dict[str, Any] | None = None

    # --- photos -----------------------------------------------------------------------------------

    @contextmanager
    def changing(self) -> Generator[Workspace]:
        """The workspace, to change its photos; InputError while a fit reads them."""
        work = self.desk.work
        if work is not None and work.running and work.kind == "tune":
            raise InputError(
                "the photos are in use; change them when the tuning is over, or stop it"
            )
        yield self.workspace

    def fill(self, folder: Path | None) -> None:
        """Add the photos of a folder of classes, or of the demo, in the background."""

        def fill(work: Work) -> None:
            def tell(many: int) -> None:
                work.tell(stage="copying photos", done=many)

            if folder is None:
                self.workspace.add_demo(tell)
            else:
                self.workspace.add_folder(folder, tell)

        self.desk.begin("photos", fill)

    @property
    def missing(self) -> str:
        """What there has to be before anything can be tuned; "" if it is there."""
        classes = self.workspace.classes()
        empty = next((name for name, photos in classes.items() if not photos), None)
        if len(classes.keys() - {NONE}) < 2:
            return "Give photos of at least two classes."
        if empty is not None:
            return f"The class {empty} has no photos yet: add some, or remove it."
        return ""

    def found(self) -> dict[str, Any] | None:
        """What is wrong with the photos as they are; None before they were looked at."""
        found = self._found
        return found if found and found["version"] == self.workspace.version else None

    def check(self) -> None:
        """Look through the photos, if there is anything to look at and nothing else to do."""
        if self.missing or self.found():
            return
        with suppress(InputError):  # a fit looks at them itself
            self.desk.begin("check", self._look)

    def _look(self, work: Work) -> None:
        version = self.workspace.version
        if self.found():
            return

        def tell(done: int, total: int) -> None:
            if self.workspace.version != version:
                work.stop()  # another check follows
            work.tell(stage="looking at the photos", done=done, total=total)

        with self._my_turn(work):
            photos = read_folder(self.workspace.photos)
            found = find_problems(
                photos, self._model, self._cache, tell, lambda what, done, total: tell(done, total)
            )
        trim()  # a fit needs the memory now
        self._found = found | {"version": version}

    @contextmanager
    def _my_turn(self, work: Work) -> Generator[None]:
        work.tell(stage="starting")
        while not self._turn.acquire(timeout=WAIT):
            work.tell(stage="waiting for another tab")
        try:
            yield
        finally:
            self._turn.release()

    # --- runs -------------------------------------------------------------------------------------

    def tune(self, method: str) -> None:
        """Fit a method of `METHODS` to the photos; InputError if that cannot be now."""
        if method not in METHODS:
            raise InputError(f"there is no method {method!r} here; choose of {', '.join(METHODS)}")
        if self.missing:
            raise InputError(self.missing)

        def tune(work: Work) -> None:
            self._look(work)
            number = next(n for n in count(1) if not (self.runs / str(n)).exists())
            job = self._job(method)
            arguments = ["fit", str(job.data), "--method", method, "--skip-damaged"]
            arguments += ["--out", str(self.runs / str(number)), *self._kept()]
            arguments += [] if self._model is None else ["--model", self._model]
            self._fit(work, job, number, arguments)

        self.desk.begin("tune", tune)

    def resume(self, number: str) -> None:
        """Go on with a fit that was stopped."""
        run = self._run(number)
        job = Job.of(run)
        arguments = ["fit", "--resume", str(run)]
        self.desk.begin("tune", lambda work: self._fit(work, job, int(run.name), arguments))

    def _fit(self, work: Work, job: Job, number: int, arguments: list[str]) -> None:
        follow = Follower(self.runs / str(number), job)
        with self._my_turn(work):
            work.tell(stage="starting", method=job.method, run=number)
            work.command(arguments, self.workspace.folder, follow.look)
            work.tell(stage="measuring", method=job.method, run=number)
            found = {
                "photos": self.workspace.digest(),
                "mistakes": find_mistakes(self.runs / str(number), job),
                "left_out": (self.found() or {}).get("recognised"),
            }
        write_atomically(self._results / f"{number}.json", json.dumps(found).encode())

    def results(self) -> list[dict[str, Any]]:
        """All runs, the oldest first: those that are finished, and those that can go on."""
        found: list[dict[str, Any]] = []
        now = self.workspace.digest()
        for run in numbered(self.runs):
            about: dict[str, Any] = {"run": run.name, "finished": artifact.is_finished(run)}
            with suppress(OSError, ValueError, SharpzoError):  # of a folder that was damaged
                if about["finished"]:
                    about |= summarise(artifact.read(run).record)
                    file = self._results / f"{run.name}.json"  # not there if we were killed
                    about |= {"mistakes": [], "left_out": None}
                    about |= json.loads(file.read_bytes()) if file.is_file() else {}
                    about["same_photos"] = about.pop("photos", now) == now
                elif (run / STARTED).is_file():
                    about["method"] = Job.of(run).method
            if "method" in about:
                found.append(about)
        return found

    def run_zip(self, number: str) -> bytes:
        """A finished run as a zip file: kilobytes."""
        zipped(self.finished(number), out := BytesIO())
        return out.getvalue()

    def finished(self, number: str) -> Path:
        """The folder of a finished run; InputError if there is none."""
        run = self._run(number)
        if not artifact.is_finished(run):
            raise InputError(f"the run {number} is not finished")
        return run

    def _run(self, number: str) -> Path:
        found = next((run for run in numbered(self.runs) if run.name == number), None)
        if found is None:
            raise InputError(f"there is no run {number!r}")
        return found

    def _job(self, method: str) -> Job:
        cache = None if self._cache is None else str(self._cache)
        return Job(
            str(self.workspace.photos), method=method, model=self._model, skip_damaged=True,
            cache=cache,
        )  # fmt: skip

    def _kept(self) -> list[str]:
        return ["--no-cache"] if self._cache is None else ["--cache", str(self._cache)]

    # --- files to take away -----------------------------------------------------------------------

    def export(self, number: str, kind: str) -> None:
        """Make a file of a finished run: onnx, web or report; `file` hands it out."""
        run = self.finished(number)
        if kind not in _FILES:
            raise InputError(f"a run is exported as {', '.join(_FILES)}, not as {kind!r}")
        to = self._files / _FILES[kind].format(run.name)

        def export(work: Work) -> None:
            with self._my_turn(work):
                work.tell(stage="writing", what=kind, run=int(run.name))
                part = self._files / f".{secrets.token_hex(4)}"  # a folder that is gone at the end
                part.mkdir()
                try:
                    os.replace(self._write(work, kind, run, part, to), to)
                finally:
                    shutil.rmtree(part, ignore_errors=True)

        self.desk.begin("report" if kind == "report" else "export", export)

    def _write(self, work: Work, kind: str, run: Path, part: Path, to: Path) -> Path:
        """Let the command of its kind write into a folder, and return the file."""
        if kind == "report":
            line = ["report", str(run), "--out", str(part / to.name), "--no-landscape"]
            work.command([*line, "--data", str(self.workspace.photos)], self.workspace.folder)
        else:
            made = part / to.stem
            line = ["export", str(run), str(made), "--format", kind, *self._kept()]
            work.command(line, self.workspace.folder)
            with (part / to.name).open("wb") as file:
                zipped(made, file)
        return part / to.name

    def file(self, name: str) -> Path:
        """A file that was made; InputError if there is none."""
        found = next((file for file in self._made() if file.name == name), None)
        if found is None:
            raise InputError(f"there is no file {name!r}; make it first")
        return found

    def _made(self) -> list[Path]:
        return [file for file in self._files.iterdir() if not file.name.startswith(".")]

    # --- what a page shows ------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """How far everything is, as JSON has it; small, for it is sent many times."""
        work = self.desk.work
        about = None if work is None else work.state()
        if about and about["error"]:
            about["error"] = self.plain(about["error"])
        return {
            "version": self.workspace.version,
            "work": about,
            "missing": self.missing,
            "checked": self.found() is not None,
            "files": sorted(file.name for file in self._made()),
        }

    def plain(self, sentence: str) -> str:
        """A sentence without the folders of this page, which the person never chose."""
        for folder in (self.workspace.photos, self.workspace.folder):
            sentence = sentence.replace(f"{folder}{os.sep}", "")
        return sentence.replace(str(self.workspace.folder), "this workspace")


def zipped(folder: Path, to: IO[bytes]) -> None:
    """Write a folder as a zip file with it at its top."""
    with zipfile.ZipFile(to, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.is_symlink():
                archive.write(file, Path(folder.name, file.relative_to(folder)))
