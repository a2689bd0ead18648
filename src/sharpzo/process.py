"""Run a function in a new interpreter with its own memory: both ends of the pipes.

A message is a line of JSON; raw bytes may follow it. ``Child`` starts a module, which calls
``serve``:

    # in sharpzo/double.py
    if __name__ == "__main__":
        serve(lambda parent: parent.send({"double": 2 * parent.receive()["number"]}))

    # in the process that needs it
    with Child("sharpzo.double") as child:
        child.send({"number": 21})
        print(child.receive()["double"])

`stop_signals` handles the signals that end a process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any

from sharpzo import errors
from sharpzo.errors import EngineError, SharpzoError


class ProcessDied(EngineError):
    """The process of ``module`` ended without an answer; ``why`` says how."""

    def __init__(self, module: str, why: str) -> None:
        super().__init__(module, why)
        self.module, self.why = module, why

    def __str__(self) -> str:
        return (
            f"the process of {self.module} died ({self.why}); if the machine ran out of memory, "
            "free some"
        )


class Channel:
    """One end: messages are read from ``source`` and written to ``sink``."""

    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self._source, self._sink = source, sink

    def send(self, message: Mapping[str, Any], content: memoryview | bytes = b"") -> None:
        """Write a message, and the bytes that follow it."""
        self._sink.write(json.dumps(message).encode() + b"\n")
        self.write(content)

    def write(self, content: memoryview | bytes) -> None:
        """Write more bytes that follow a message."""
        self._sink.write(content)
        self._sink.flush()

    def receive(self) -> dict[str, Any]:
        """Wait for a message; EOFError if the other end is gone."""
        line = self._source.readline()
        if not line.endswith(b"\n"):
            raise self._gone()
        return json.loads(line)

    def fill(self, content: memoryview) -> None:
        """Read the bytes that follow a message into an array's ``data``; EOFError as above."""
        place = content.cast("B")
        while len(place):
            got = self._source.readinto(place)  # type: ignore[attr-defined]
            if not got:
                raise self._gone()
            place = place[got:]

    def _gone(self) -> Exception:
        """What to raise if the other end is gone."""
        return EOFError()

    def end_with_parent(self) -> None:
        """End this process as soon as the other end is gone; nothing more can be received."""

        def wait() -> None:
            while os.read(self._source.fileno(), 1 << 16):
                pass
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()


def serve(work: Callable[[Channel], None]) -> None:
    """Run ``work`` with the channel to the parent, where a `SharpzoError` of it is raised anew.

    Whatever is printed meanwhile goes to standard error, not among the messages.
    """
    parent = Channel(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    try:
        work(parent)
    except SharpzoError as error:
        parent.send({"error": type(error).__name__, "message": str(error)})
    except EOFError:  # the parent is gone
        sys.exit(1)


class Child(Channel):
    """A new process that runs ``python -m module``, with ``environment`` besides this process's.

    Ctrl-C does not reach it: whoever started it ends it. To be used with ``with``, which ends it at
    once, or closed by ``close``.
    """

    def __init__(self, module: str, environment: Mapping[str, str] | None = None) -> None:
        import subprocess  # the other end needs neither, and 1 MB less without
        import tempfile

        self._module = module
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env={**os.environ, **(environment or {})}, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        super().__init__(self._process.stdout, self._process.stdin)

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def send(self, message: Mapping[str, Any], content: memoryview | bytes = b"") -> None:
        """Write a message; raises what `receive` raises if the process has ended."""
        try:
            super().send(message, content)
        except OSError:
            self.receive()  # it may have said why
            raise

    def receive(self) -> dict[str, Any]:
        """Wait for a message; raises the `SharpzoError` that the process raised, or
        `ProcessDied`."""
        message = super().receive()
        if "error" in message and "message" in message:
            raise getattr(errors, message["error"], EngineError)(message["message"])
        return message

    def kill(self) -> None:
        """End the process at once, from any thread: a thread that waits for it gets
        `ProcessDied`."""
        self._process.kill()

    def close(self) -> None:
        """End the process at once and release the pipes; harmless when that is done."""
        self._process.kill()
        self._process.wait()
        for stream in (self._sink, self._source, self._errors):
            with suppress(OSError):  # what could not be written to a dead process
                stream.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _gone(self) -> ProcessDied:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        self.close()
        why = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return ProcessDied(self._module, f"{why}; {lines[-1]}" if lines else why)


@contextmanager
def stop_signals(handler: Callable[[int, object], None]) -> Generator[None]:
    """Let ``handler`` take Ctrl-C, SIGTERM, and the end of the terminal unless it is ignored, as
    ``nohup`` has it. In a thread that is not the main one, signals stay what they are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ends = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        ends.append(hangup)
    before = {one: signal.signal(one, handler) for one in ends}
    try:
        yield
    finally:
        for one, former in before.items():
            signal.signal(one, former)
