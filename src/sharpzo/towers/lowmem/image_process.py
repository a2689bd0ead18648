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
from sharpzo.types import Array, LastBlock

if TYPE_CHECKING:
    from PIL.Image import Image

CHUNK = 8  # photos at a time: more are not faster
# Read by the libraries that NumPy may have been built with, when they are loaded.
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class ImageProcess:
    """Photos to summaries, computed elsewhere; fulfils `types.ImageTower`, and what
    `features.encode` asks of a tower.

    ``threads``: cores, None for all that may be used; ``chunk``: photos at a time. Raises what
    the process raises, with the same sentence, and has then ended it. The last block and the
    projection are those of the checkpoint, here, also when the process has ended.
    """

    def __init__(
        self, checkpoint: Checkpoint, threads: int | None = None, chunk: int = CHUNK
    ) -> None:
        self.checkpoint, self.at_once = checkpoint, chunk
        self._preprocessing = Preprocessing.open(checkpoint)
        self._summary = image_family(checkpoint).rows, checkpoint.image.width
        self._last_block: LastBlock | None = None
        memory.watch_anew()
        self._child = Child(__name__, dict.fromkeys(_THREADS, str(threads or cores())))
        self._child.send({"folder": str(checkpoint.folder), "size": checkpoint.image_size})

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._child.running

    @property
    def fingerprint(self) -> str:
        """See `OnnxImageTower.fingerprint`."""
        from sharpzo.towers.image import image_fingerprint

        return image_fingerprint(self.checkpoint)

    @property
    def projection(self) -> Array:
        return image_family(self.checkpoint).projection(self.checkpoint)

    @property
    def last_block(self) -> LastBlock:
        if self._last_block is None:
            self._last_block = image_family(self.checkpoint).last_block(self.checkpoint)
        return self._last_block

    def pixels(self, photos: Iterable[Array | Image]) -> Array:
        return stack(self._preprocessing, photos)

    def forward(self, pixels: Array) -> Array:
        return self._in_chunks(pixels, tokens=False)[1][:, 0]

    def trace(self, pixels: Array) -> tuple[Array, Array]:
        return self._in_chunks(pixels, tokens=True)

    def summaries(
        self,
        photos: Iterable[Array | Image],
        progress: Callable[[int], object] | None = None,
    ) -> Array:
        """Return float32 (N, R, S) of photos of any size; see `OnnxImageTower.summaries`."""
        try:
            return self._summaries(photos, progress)
        except BaseException:
            self._child.close()
            raise

    def _summaries(
        self, photos: Iterable[Array | Image], progress: Callable[[int], object] | None
    ) -> Array:
        source, rows, done = iter(photos), [np.zeros((0, *self._summary), np.float32)], 0
        pixels = self.pixels(islice(source, self.at_once))
        while many := len(pixels):
            self._ask(pixels)
            del pixels
            # Decoded while the other process computes, before its answer is waited for.
            pixels = self.pixels(islice(source, self.at_once))
            rows.append(self._answer(many)[1])
            done += many
            if progress is not None:
                progress(done)
        return np.concatenate(rows)

    def _in_chunks(self, pixels: Array, *, tokens: bool) -> tuple[Array, Array]:
        """Tokens (N, T, S) of preprocessed photos, T = 0 unless wanted, and summaries."""
        found = []
        try:
            for first in range(0, len(pixels), self.at_once):
                some = pixels[first : first + self.at_once]
                self._ask(some, tokens=tokens)
                found.append(self._answer(len(some)))
        except BaseException:
            self._child.close()
            raise
        if len(found) == 1:  # tokens are large
            return found[0]
        traced, summaries = map(np.concatenate, zip(*found, strict=True))
        return traced, summaries

    def _ask(self, pixels: Array, *, tokens: bool = False) -> None:
        question = {"photos": len(pixels), "tokens": tokens}
        self._child.send(question, np.ascontiguousarray(pixels).data)

    def _answer(self, many: int) -> tuple[Array, Array]:
        """Tokens (N, T, S) and summaries (N, R, S)."""
        told = self._child.receive()
        tokens = np.empty((many, told["tokens"], self._summary[1]), np.float32)
        summaries = np.empty((many, *self._summary), np.float32)
        for array in (tokens, summaries):
            if array.size:
                self._child.fill(array.data)
        return tokens, summaries

    def close(self) -> None:
        """End the process and count its memory."""
        with self._child as child:
            if child.running:
                child.send({"photos": 0})
                memory.add_child(child.receive()["peak"])


def _work(parent: Channel) -> None:
    """What the process does: ``photos`` (N, 3, h, w) in, ``tokens`` (N, T, S), if they are wanted,
    and summaries (N, R, S) out; after no photos the peak of its memory."""
    told = parent.receive()
    memory.trim()  # what importing took, before more is read
    checkpoint = Checkpoint.open(told["folder"], told["size"])
    height, width = Preprocessing.open(checkpoint).size
    tower = image_family(checkpoint).layered(checkpoint, height, width)
    memory.trim()
    while many := (told := parent.receive())["photos"]:
        pixels = np.empty((many, 3, height, width), np.float32)
        parent.fill(pixels.data)
        if told["tokens"]:
            tokens, found = tower.trace(pixels)
            parent.send({"tokens": tokens.shape[1]}, np.ascontiguousarray(tokens).data)
            parent.write(found.data)
            del tokens
        else:
            found = tower.summaries(pixels)
            parent.send({"tokens": 0}, found.data)
        del pixels
    parent.send({"peak": memory.peak()})


if __name__ == "__main__":
    serve(_work)
