"""Plan a memory limit of this process and its children, or refuse it before work begins.

What a step needs is added up from the shapes of the checkpoint and from what the interpreter and
the runtime are measured to take here. Constants are measured by benchmarks/memory.py.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from sharpzo.errors import BudgetError, InputError
from sharpzo.memory import MB, Need, add_child, matrices, resident, trim, watch_anew
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.config import ImageConfig
from sharpzo.towers.families import image_family
from sharpzo.towers.lowmem.image_process import CHUNK, ImageProcess
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.towers.prompts import Prompts
from sharpzo.towers.text import CHUNK as TEXT_CHUNK
from sharpzo.towers.whole_text import LESS, group
from sharpzo.types import Precision

_WORKER = ImageProcess.__module__
_ENGINE = "sharpzo.towers.lowmem.streaming, onnxruntime"
# Compiled graphs, what the runtime keeps beside the tensors, and pages of libraries that come back.
_SESSIONS = 12 * MB
_GRAPHS = 10 * MB  # compiled graphs of tangents, or of one more tower: 6 MB, and to write them
_ARENA = 1.5  # times what is in use: the holes of the runtime's arena
# Where the library of matrix products packs its operands, and pages of libraries that come back.
_PRODUCTS = 12 * MB
_BESIDE = 10 * MB  # what encoding takes in this process, beside pixels: up to 6 MB
_SEARCH = 6 * MB  # what any search takes beside its arrays
_VARIES = 3 * MB  # from run to run, of all of it
_LEFT = 16 * MB  # what a search leaves behind in this process, beside the arena: 13 MB
_BYTES = {"float16": 2, "int8": 1}  # of a number of a matrix that is kept
_BATCH = 32  # candidates per call at most: more do not make it faster


@dataclass(frozen=True)
class Plan:
    """Photos per chunk of the image tower, candidates or tangents per call of the text tower, and
    the bytes that the whole process tree is then expected to take at most."""

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
        precision: Precision,
        need: Need,
        before: int = 0,
        after: int = 0,
        rows: int = 0,
    ) -> Plan:
        """Return what fits; two processes are started to measure what modules take, and end.

        ``precision`` is the text tower's; ``need`` is a method's, which closed forms of all that
        `fit` compares it with may exceed; ``before`` and ``after`` are the bytes that decoding the
        largest photo takes, of photos that are encoded before and after it (0: there are none),
        and ``rows`` photos and names are what closed forms read.
        """
        now, (worker, most) = self._now(), _measure(_WORKER)
        loading = 0
        if "onnxruntime" not in sys.modules:
            both, most = _measure(f"{_WORKER}, {_ENGINE}")
            loading = both - worker
        text = TextMemory(self._checkpoint, prompts, need, precision)
        wide = self._checkpoint.text.projection + 2 * self._checkpoint.image.width
        closed = matrices(max(self._checkpoint.text.projection, min(rows, wide)))
        search = _SEARCH + max(need.bytes, need.block + closed)
        search += _PRODUCTS if need.block else 0

        def needed(chunk: int, batch: int) -> int:
            encoding = _BESIDE + worker + image_bytes(self._checkpoint, chunk)
            left = loading + _LEFT + text.arena(batch)
            again = through_bytes(self._checkpoint, need.block, chunk)
            needs = [most, loading + search + text.bytes(batch)]
            needs += [encoding + before] if before else []
            needs += [left + encoding + after + again] if after else []
            return now + _VARIES + max(needs)

        return self._choose(needed)

    def open(self, largest: int, chunk: int | None = None, block: int = 0) -> ImageProcess:
        """Return the process that encodes ``chunk`` photos at a time, as a plan says; without one
        as many as fit, if decoding the ``largest`` takes so many bytes, and they then pass a tuned
        last ``block`` of so many in this process."""
        now = self._now()
        if chunk is None:
            base = now + _VARIES + _BESIDE + largest + _measure(_WORKER)[0]
            chunk = self._choose(
                lambda c, _: (
                    base
                    + image_bytes(self._checkpoint, c)
                    + through_bytes(self._checkpoint, block, c)
                )
            ).chunk
        return ImageProcess(self._checkpoint, self._threads, chunk)

    def _now(self) -> int:
        """Bytes that this process cannot do without."""
        import PIL.Image  # noqa: F401  (resizes photos, also those that are arrays)

        trim()
        self._checkpoint.weights.release()
        return resident() or 0

    def _choose(self, needed: Callable[[int, int], int]) -> Plan:
        """The largest chunk, then the largest batch, that fit."""
        if needed(1, 1) > self.bytes:
            least = math.ceil((needed(1, 1) + _VARIES) / MB)  # the next run may need more
            raise BudgetError(
                f"a memory limit of {self.bytes / MB:,.0f} MB cannot be met: this model and these "
                f"classes need at least {least:,} MB; give that, or a smaller model"
            )
        sizes = [2**i for i in range(6)]
        chunk = max(c for c in sizes if c <= CHUNK and needed(c, 1) <= self.bytes)
        batch = max(b for b in sizes if b <= _BATCH and needed(chunk, b) <= self.bytes)
        return Plan(chunk, batch, needed(chunk, batch))


def image_bytes(checkpoint: Checkpoint, chunk: int) -> int:
    """Bytes of the image tower layer by layer, beside its process, pixels on both sides."""
    height, width = Preprocessing.open(checkpoint).size
    own = image_family(checkpoint).layered_bytes(checkpoint, height, width, chunk)
    # Here: photos of a chunk, their stack, and the chunk before while it is sent.
    return _PRODUCTS + own + chunk * 4 * 4 * 3 * height * width


def through_bytes(checkpoint: Checkpoint, block: int, chunk: int) -> int:
    """Bytes of photos that pass a tuned last ``block`` of so many here (0: there is none): it as it
    was, changed, and what changes its largest matrix; their tokens, centred, squared and normal."""
    config = checkpoint.image
    if not block or not isinstance(config, ImageConfig):
        return 0
    height, width = Preprocessing.open(checkpoint).size
    tokens = 1 + (height // config.patch) * (width // config.patch)
    largest = 4 * config.width * config.mlp_width
    return _PRODUCTS + 2 * block + largest + chunk * 4 * 4 * tokens * config.width


@dataclass(frozen=True)
class TextMemory:
    """What the text tower takes block by block, for a search that needs ``need`` of it."""

    checkpoint: Checkpoint
    prompts: Prompts
    need: Need = Need()
    precision: Precision = "float32"

    def bytes(self, batch: int) -> int:
        """Bytes beside the runtime, with ``batch`` candidates per call."""
        config, need = self.checkpoint.text, self.need
        numbers = 4 * config.width**2 + 2 * config.width * config.mlp_width
        others = 9 * config.width + config.mlp_width
        # What is no view of the file: scaled queries, or all of a block.
        copied = 4 * (numbers if self.checkpoint.weights.converted else config.width**2)
        if self.precision == "float32":
            weights, writing = 4 * (numbers + others), 0
        else:
            weights = config.layers * (_BYTES[self.precision] * numbers + 8 * others)
            writing = 4 * config.width * config.mlp_width  # a matrix from the file, beside all
        if self.prompts.whole:  # words, each once, and those of a call; positions
            rows = len({one for suffix in self.prompts.suffixes for one in suffix})
            rows += self._whole() + 2 * self.prompts.length
        else:
            rows = 5 * sum(map(len, self.prompts.suffixes)) + 2 * config.layers
        fixed = 4 * config.width * (rows + config.projection)
        more = need.tangents + (need.tokens > 0)
        graphs = _SESSIONS + fixed + more * (_GRAPHS + writing + fixed)
        return graphs + weights + copied + self.arena(batch)

    def arena(self, batch: int) -> int:
        """Bytes of what the runtime computes, which it does not give back.

        A tangent takes what a candidate does, and a call of tangents computes its point besides.
        """
        config = self.checkpoint.text
        if self.prompts.whole:
            tokens = chunk = self._whole()
            scores = 2 * 4 * chunk * config.heads * self.prompts.length
        else:
            tokens, scores = max(self.prompts.tokens, self.need.tokens), 0
            chunk = min(tokens, TEXT_CHUNK)
        active = 4 * chunk * (8 * config.width + 3 * config.mlp_width) + scores
        # Of tokens that wait for their chunk: before and after the block, cut and joined.
        active += 4 * (tokens - chunk) * 4 * config.width
        # Of fewer bits, the matrices of an MLP in float32.
        again = 0 if self.precision == "float32" else 2 * 4 * config.width * config.mlp_width
        return round(_ARENA * (batch + self.need.tangents) * active) + again

    def _whole(self) -> int:
        """Tokens of a call of a tower that computes prompts whole."""
        return group(self.prompts, LESS) * self.prompts.length


@cache
def _measure(modules: str) -> tuple[int, int]:
    """Bytes of a new interpreter that has imported modules and released what it can; its peak."""
    code = f"import {modules}; from sharpzo.memory import *; trim(); print(resident(), peak())"
    watch_anew()
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    now, most = map(int, done.stdout.split())
    add_child(most)
    return now, most
