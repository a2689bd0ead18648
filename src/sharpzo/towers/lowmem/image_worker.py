"""The image tower's own process; see `image_process.py`, which starts it.

Protocol: the parent writes a line of JSON with the checkpoint's folder. Then photos come as a line
``{"photos": N}`` and N * 3 * h * w float32, states go back as a line ``{"photos": N}`` and N * S
float32. When the input ends, the last line says how much memory was needed. An error is a line with
its kind and sentence.

What this module imports is in memory beside the tower: no engine, no graphs.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any, BinaryIO

import numpy as np

from sharpzo.errors import SharpzoError
from sharpzo.memory import peak, trim
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.lowmem.layers import LayeredImage
from sharpzo.towers.preprocess import Preprocessing


def main() -> None:
    """Answer until the input ends; Ctrl-C is for the parent, which then ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever prints must not end up among the answers
    try:
        _serve(source, sink)
    except SharpzoError as error:
        _say(sink, {"error": type(error).__name__, "message": str(error)})


def _serve(source: BinaryIO, sink: BinaryIO) -> None:
    checkpoint = Checkpoint.open(json.loads(source.readline())["folder"])
    height, width = Preprocessing.open(checkpoint).size
    tower = LayeredImage(checkpoint, height, width)
    trim()
    while line := source.readline():
        pixels = np.empty((json.loads(line)["photos"], 3, height, width), np.float32)
        _fill(source, pixels)
        states = tower.states(pixels)
        del pixels
        _say(sink, {"photos": len(states)}, np.ascontiguousarray(states).data)
    _say(sink, {"peak": peak()})


def _fill(source: BinaryIO, array: Any) -> None:
    place = memoryview(array).cast("B")
    while len(place):
        got = source.readinto(place)  # type: ignore[attr-defined]
        if not got:
            raise EOFError("the parent ended amid photos")
        place = place[got:]


def _say(sink: BinaryIO, line: dict[str, Any], content: memoryview | bytes = b"") -> None:
    sink.write(json.dumps(line).encode() + b"\n")
    sink.write(content)
    sink.flush()


if __name__ == "__main__":
    main()
