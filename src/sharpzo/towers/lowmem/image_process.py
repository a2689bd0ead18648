"""The image tower in a process of its own, gone with all its memory before a search begins.

A fresh interpreter, not a fork: it holds NumPy and one layer of the tower, and nothing of what this
process has loaded. Photos are decoded here, while the other process computes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpzo import errors, memory
from sharpzo.errors import EngineError
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.preprocess import Preprocessing, stack
from sharpzo.towers.session import cores
from sharpzo.types import Array

if TYPE_CHECKING:
    from PIL.Image import Image

CHUNK = 8  # photos at a time: more are not faster
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class ImageProcess:
    """Photos to states, computed elsewhere; fulfils what `features.encode` asks of a tower.

    ``threads``: cores, None for all that may be used; ``chunk``: photos at a time. Raises what
    the process raises, with the same sentence.
    """

    def __init__(
        self, checkpoint: Checkpoint, threads: int | None = None, chunk: int = CHUNK
    ) -> None:
        self._preprocessing = Preprocessing.open(checkpoint)
        self._width = checkpoint.image.width
        self._chunk = chunk
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `kill`)
        memory.watch_anew()
        # Read by the libraries that NumPy may have been built with, when they are loaded.
        allowed = dict.fromkeys(_THREADS, str(threads or cores()))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sharpzo.towers.lowmem.image_worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env={**os.environ, **allowed},
        )  # fmt: skip
        try:
            self._send({"folder": str(checkpoint.folder)})
        except BaseException:
            self.kill()
            raise

    def states(
        self,
        photos: Iterable[Array | Image],
        progress: Callable[[int], object] | None = None,
    ) -> Array:
        """Return states float32 (N, S) of photos of any size; see `OnnxImageTower.states`."""
        try:
            return self._states(photos, progress)
        except BaseException:
            self.kill()
            raise

    def _states(
        self, photos: Iterable[Array | Image], progress: Callable[[int], object] | None
    ) -> Array:
        source, rows, done = iter(photos), [np.zeros((0, self._width), np.float32)], 0
        pixels = stack(self._preprocessing, islice(source, self._chunk))
        while len(pixels):
            self._send({"photos": len(pixels)}, pixels.data)
            many = len(pixels)
            del pixels
            # Decoded while the other process computes, before its answer is waited for.
            pixels = stack(self._preprocessing, islice(source, self._chunk))
            self._receive()
            states = np.empty((many, self._width), np.float32)
            self._fill(states)
            rows.append(states)
            done += many
            if progress is not None:
                progress(done)
        return np.concatenate(rows)

    def close(self) -> None:
        """End the process and count its memory."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            try:
                self._process.stdin.close()
                memory.add_child(self._receive()["peak"])
                self._process.wait()
            except BaseException:
                self.kill()
                raise
        self.kill()

    def kill(self) -> None:
        """End the process at once; harmless when it has ended."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            with suppress(OSError):  # what could not be written to a dead process
                stream.close()

    def _send(self, line: dict[str, Any], content: memoryview | bytes = b"") -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.write(content)
            self._process.stdin.flush()
        except OSError:
            self._receive()  # it says why it has ended
            raise

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._death()
        answer = json.loads(line)
        if "error" in answer:
            raise getattr(errors, answer["error"], EngineError)(answer["message"])
        return answer

    def _fill(self, array: Array) -> None:
        assert self._process.stdout is not None
        place = array.data.cast("B")
        while len(place):
            got = self._process.stdout.readinto(place)  # type: ignore[attr-defined]
            if not got:
                raise self._death()
            place = place[got:]

    def _death(self) -> EngineError:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        why = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return EngineError(
            f"the process of the image tower died ({why}{f'; {lines[-1]}' if lines else ''}); "
            "if the machine ran out of memory, free some"
        )
