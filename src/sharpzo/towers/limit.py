"""A limit on the memory of this process and its children: planned for, refused before work begins.

What a step needs is added up from the shapes of the checkpoint and from what the interpreter and
the runtime are measured to take here. Constants are measured by benchmarks/memory.py.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sharpzo.data.dataset import LabelledPhotos
from sharpzo.errors import BudgetError, InputError
from sharpzo.memory import MB, resident, trim
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.config import ImageConfig, TextConfig
from sharpzo.towers.image_process import CHUNK, ImageProcess
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.towers.prompts import Prompts

# Bytes of a tower's compiled graphs and of what the runtime keeps beside the tensors: 7 to 11 MB.
_SESSIONS = 12 * MB
# The runtime's arena grows in powers of two: up to 1.5 times what is in use.
_ARENA = 1.5
_BESIDE = 20 * MB  # what encoding takes in this process, beside pixels: 9 to 16 MB
_LEFT = 16 * MB  # what a search leaves behind in this process: 13 MB
_BATCH = 32  # candidates a call at most: more do not make it faster


@dataclass(frozen=True)
class Plan:
    """Photos a chunk of the image tower, candidates a call of the text tower, and the bytes that
    the whole process tree is then expected to take at most."""

    chunk: int
    batch: int
    bytes: int


class MemoryLimit:
    """``bytes`` that this process and its children may have in memory together.

    Raises `InputError` where the system does not say what a process has in memory, and
    `BudgetError`, with the least that would do, where the limit cannot be met.
    """

    def __init__(self, bytes: int, checkpoint: Checkpoint, threads: int | None = None) -> None:
        self.bytes = bytes
        self._checkpoint = checkpoint
        self._threads = threads
        if resident() is None:
            raise InputError(
                "this system does not say how much memory a process takes, so no limit can be "
                "held; leave out the memory limit"
            )

    def plan(
        self,
        prompts: Prompts,
        search: int,
        before: Iterable[LabelledPhotos] = (),
        after: Iterable[LabelledPhotos] = (),
    ) -> Plan:
        """Return what fits; a process is started to measure the runtime, and ended.

        ``search`` is what a method takes beside the towers, in bytes; photos of ``before`` and
        ``after`` are encoded before and after it.
        """
        trim()
        self._checkpoint.weights.release("")
        now = resident() or 0
        process = ImageProcess(self._checkpoint, self._threads)
        process.kill()
        runtime = process.runtime or 0
        loading = 0 if "onnxruntime" in sys.modules else runtime - (process.bare or 0)
        sizes = largest(before), largest(after)

        def needed(chunk: int, batch: int) -> int:
            encoding = _BESIDE + runtime + image_bytes(self._checkpoint, chunk)
            text = search + text_bytes(self._checkpoint, prompts, batch)
            needs = [loading + text]
            needs += [encoding + sizes[0]] if sizes[0] else []
            needs += [loading + _LEFT + encoding + sizes[1]] if sizes[1] else []
            return now + max(needs)

        return self._choose(needed)

    def open(self, splits: Iterable[LabelledPhotos], chunk: int | None = None) -> ImageProcess:
        """Return the process that encodes ``chunk`` photos at a time, as a plan says; without one
        as many as fit."""
        trim()
        self._checkpoint.weights.release("")
        now = resident() or 0
        process = ImageProcess(self._checkpoint, self._threads)
        if chunk is not None:
            process.chunk = chunk
            return process
        try:
            base = now + _BESIDE + largest(splits) + (process.runtime or 0)
            process.chunk = self._choose(
                lambda chunk, _: base + image_bytes(self._checkpoint, chunk)
            ).chunk
        except BaseException:
            process.kill()
            raise
        return process

    def _choose(self, needed: Callable[[int, int], int]) -> Plan:
        """The largest chunk, then the largest batch, that fit."""
        if needed(1, 1) > self.bytes:
            raise BudgetError(
                f"a memory limit of {self.bytes / MB:,.0f} MB cannot be met: this model and these "
                f"classes need at least {math.ceil(needed(1, 1) / MB):,} MB; give that, or a "
                "smaller model"
            )
        sizes = [2**i for i in range(6)]
        chunk = max(c for c in sizes if c <= CHUNK and needed(c, 1) <= self.bytes)
        batch = max(b for b in sizes if b <= _BATCH and needed(chunk, b) <= self.bytes)
        return Plan(chunk, batch, needed(chunk, batch))


def image_bytes(checkpoint: Checkpoint, chunk: int) -> int:
    """Bytes of the image tower block by block, beside its runtime, pixels on both sides."""
    config = checkpoint.image
    height, width = Preprocessing.open(checkpoint).size
    tokens = 1 + (height // config.patch) * (width // config.patch)
    pixels = 4 * 3 * height * width
    rows = 4 * tokens * config.width
    # Queries, keys, values, output and norms; the MLP before, in and after its activation.
    active = 4 * tokens * (6 * config.width + 3 * config.mlp_width)
    active += 4 * 3 * config.heads * tokens * tokens  # scores, softmax, and one on the way
    # Here: photos of a chunk, their stack, and the chunk before while it is sent.
    return _SESSIONS + _block(checkpoint, config) + active + chunk * (rows + pixels + 3 * pixels)


def text_bytes(checkpoint: Checkpoint, prompts: Prompts, batch: int) -> int:
    """Bytes of the text tower block by block, beside its runtime."""
    config = checkpoint.text
    suffixes = sum(map(len, prompts.suffixes))
    tokens = prompts.n_context + suffixes
    fixed = 4 * config.width * (5 * suffixes + 2 * config.layers + config.projection)
    active = 4 * tokens * (8 * config.width + 3 * config.mlp_width)
    return _SESSIONS + _block(checkpoint, config) + fixed + round(_ARENA * batch * active)


def search_bytes(start: int, dim: int | None) -> int:
    """Bytes of a search over ``dim`` numbers of a context of ``start``: its map and its matrices.

    The map is float32; a covariance, its eigenvectors and what computes them are float64.
    """
    dim = dim or 0
    return 12 * MB + 4 * start * dim + 8 * 6 * min(dim, 4096) ** 2


def largest(splits: Iterable[LabelledPhotos]) -> int:
    """Bytes that decoding the largest photo takes: as read, upright, and resized."""
    return 3 * 3 * max((photo.size() for split in splits for photo in split.photos), default=0)


def _block(checkpoint: Checkpoint, config: ImageConfig | TextConfig) -> int:
    """Bytes of a block's weights, as files and as float32 beside them where they are converted."""
    width = config.width
    numbers = 4 * width * width + 2 * width * config.mlp_width + 9 * width + config.mlp_width
    scaled = numbers if checkpoint.weights.converted else width * width  # queries are scaled
    return 4 * (numbers + scaled)
