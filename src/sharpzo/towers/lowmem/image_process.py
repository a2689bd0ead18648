"""The image tower in its own process, which ends before a search begins.

A fresh interpreter, not a fork: it holds NumPy and one layer of the tower, and nothing of what this
process has loaded (so this module must not import an engine or graphs). Photos are decoded here,
while the other process computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from sharpzo import memory
from sharpzo.process import Channel, Child, serve
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.families import image_family
from sharpzo.towers.preprocess import Preprocessing, stack
from sharpzo.towers.runtime import cores
from sharpzo.types import Array

if TYPE_CHECKING:
    from PIL.Image import Image

CHUNK = 8  # photos at a time: more are not faster
# Read by the libraries that NumPy may have been built with, when they are loaded.
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class ImageProcess:
    """Photos to summaries, computed elsewhere; fulfils what `features.encode` asks of a tower.

    ``threads``: cores, None for all that may be used; ``chunk``: photos at a time. Raises what
    the process raises, with the same sentence, and has then ended it.
    """

    def __init__(
        self, checkpoint: Checkpoint, threads: int | None = None, chunk: int = CHUNK
    ) -> None:
        self._preprocessing = Preprocessing.open(checkpoint)
        self._width = checkpoint.image.width
        self._chunk = chunk
        memory.watch_anew()
        self._child = Child(__name__, dict.fromkeys(_THREADS, str(threads or cores())))
        self._child.send({"folder": str(checkpoint.folder), "size": checkpoint.image_size})

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._child.running

    def summaries(
        self,
        photos: Iterable[Array | Image],
        progress: Callable[[int], object] | None = None,
    ) -> Array:
        """Return float32 (N, 3, S) of photos of any size; see `OnnxImageTower.summaries`."""
        try:
            return self._summaries(photos, progress)
        except BaseException:
            self._child.close()
            raise

    def _summaries(
        self, photos: Iterable[Array | Image], progress: Callable[[int], object] | None
    ) -> Array:
        source, rows, done = iter(photos), [np.zeros((0, 3, self._width), np.float32)], 0
        pixels = stack(self._preprocessing, islice(source, self._chunk))
        while many := len(pixels):
            self._child.send({"photos": many}, pixels.data)
            del pixels
            # Decoded while the other process computes, before its answer is waited for.
            pixels = stack(self._preprocessing, islice(source, self._chunk))
            self._child.receive()
            found = np.empty((many, 3, self._width), np.float32)
            self._child.fill(found.data)
            rows.append(found)
            done += many
            if progress is not None:
                progress(done)
        return np.concatenate(rows)

    def close(self) -> None:
        """End the process and count its memory."""
        with self._child as child:
            if child.running:
                child.send({"photos": 0})
                memory.add_child(child.receive()["peak"])


def _work(parent: Channel) -> None:
    """What the process does: ``photos`` (N, 3, h, w) in, summaries (N, 3, S) out; after none the
    peak of its memory."""
    told = parent.receive()
    memory.trim()  # what importing took, before more is read
    checkpoint = Checkpoint.open(told["folder"], told["size"])
    height, width = Preprocessing.open(checkpoint).size
    tower = image_family(checkpoint).layered(checkpoint, height, width)
    memory.trim()
    while many := parent.receive()["photos"]:
        pixels = np.empty((many, 3, height, width), np.float32)
        parent.fill(pixels.data)
        found = tower.summaries(pixels)
        del pixels
        parent.send({}, found.data)
    parent.send({"peak": memory.peak()})


if __name__ == "__main__":
    serve(_work)
