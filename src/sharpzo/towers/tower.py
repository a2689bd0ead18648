"""The two towers of a checkpoint on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from sharpzo.errors import EngineError, InputError
from sharpzo.memory import trim
from sharpzo.towers.checkpoint import Checkpoint, check_finite
from sharpzo.towers.config import ImageConfig
from sharpzo.towers.contents import TOKENIZER_FILES
from sharpzo.towers.families import image_family, text_family
from sharpzo.towers.graph_store import GraphStore
from sharpzo.towers.image import image_fingerprint
from sharpzo.towers.image_precision import open_image
from sharpzo.towers.preprocess import Preprocessing, stack
from sharpzo.towers.runtime import Arithmetic, Engine, Running, Runtime
from sharpzo.types import Array, ImagePrecision, LastBlock

if TYPE_CHECKING:
    from PIL.Image import Image

    from sharpzo.towers.lowmem.streaming import Kept

# Tokens of one call. Measured at width 256: below 500 the matrix products are too flat, above 2,000
# activations leave the cache (100 classes: 29 ms per forward at 800 tokens, 36 at 13,000).
TOKENS = 1024
# Of the image tower, whose rows are wider: with 257 tokens per photo 2 photos take 121 ms each, 8
# take 140 (width 384); with 65 tokens 2 to 16 photos take 28.
IMAGE_TOKENS = 520
# Tokens of one call of the tangent graph. Every call computes the primal anew, so few directions a
# call waste time and many waste memory: benchmarks/tangents.py.
TANGENT_TOKENS = 4096
LEAST_DIRECTIONS = 4


class OnnxTextTower:
    """Contexts to text features for fixed class names; fulfils `types.TextTower`.

    ``batch`` candidates are computed at a time, which bounds the memory and may be set anew; by
    default as many as make about 1,000 tokens. ``threads`` is the number of cores, all by default;
    ``engine`` and ``precision`` are those of `Runtime`. With ``streamed`` one block's weights are
    in memory at a time (`lowmem/streaming.py`), and no more directions of derivatives than
    candidates; raises `InputError` where that cannot be.

    Graphs are compiled on first use: what is wrong with class names is said at once, but nothing
    large is in memory before it has work to do.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        class_names: Sequence[str],
        template: str = "a photo of a {}.",
        n_context: int | None = None,
        batch: int | None = None,
        threads: int | None = None,
        engine: Engine = "onnxruntime",
        precision: Arithmetic = "float32",
        streamed: bool = False,
        specific: bool = False,
    ) -> None:
        from sharpzo.towers import prompts  # the image tower has none

        self._runtime = Runtime(engine, precision, threads)
        if streamed and (engine != "onnxruntime" or precision == "int4"):
            raise InputError(
                "under a memory limit the text tower is computed block by block, by onnxruntime in "
                f"float32, float16 or int8, not by {engine} in {precision}; leave out one of them"
            )
        self._runtime.require()
        self._family = text_family(checkpoint)
        if streamed and not self._family.streamed:
            raise InputError(
                f"a text tower of family {checkpoint.text.family!r} is not computed block by "
                "block; leave out the memory limit"
            )
        self._family.check(checkpoint)
        self.checkpoint = checkpoint
        self.prompts = self._family.layout(checkpoint, class_names, template, n_context, specific)
        self.class_names, self.template = self.prompts.class_names, self.prompts.template
        self.tokens = self.prompts.tokens  # that one forward computes
        self.batch = max(1, TOKENS // self.tokens) if batch is None else _positive("batch", batch)
        self.threads = self._runtime.threads
        self.rounding = self._runtime.rounding  # relative error of one operation
        self.logit_scale = checkpoint.logit_scale  # factor on cosines
        self.logit_bias = checkpoint.logit_bias
        self._start = prompts.start(checkpoint, self.prompts)
        self.projection = self._family.projection(checkpoint)  # (D, H)
        self.exact = self._family.exact
        self._streamed, self._closed = streamed, False
        self._untuned: Array | None = None
        self._sessions: dict[bool, Running] = {}  # by whether they compute tangents
        self._matrices: Kept = {}  # of blocks, in fewer bits

    @property
    def fingerprint(self) -> str:
        """sha256 over text weights, tokenizer and template; class names are not in it."""
        folder = self.checkpoint.folder
        files = [path for name in TOKENIZER_FILES if (path := folder / name).is_file()]
        words = [path.read_text("utf-8") for path in files]
        prefixes = ("text_model.", "text_projection.", "logit_scale")
        return self.checkpoint.digest(prefixes, repr(self.checkpoint.text), self.template, *words)

    @property
    def start(self) -> Array:
        return self._start.copy()

    @property
    def untuned(self) -> Array:
        if self._untuned is None:
            found = self.forward(self._start[None])[0]
            check_finite(found, self.checkpoint, "text tower's features")
            found.flags.writeable = False
            self._untuned = found
            return found
        return self._untuned

    @property
    def token_distance(self) -> float:
        from sharpzo.towers.prompts import token_moments

        return token_moments(self.checkpoint)[1]

    def forward(self, contexts: Array) -> Array:
        return self._run("features", contexts)

    def states(self, contexts: Array) -> Array:
        return self._run("states", contexts)

    def jvp(self, context: Array, directions: Array) -> tuple[Array, Array]:
        """See `types.TextTower`; the first call builds a second session. Raises `InputError` for
        other shapes and for a tower without context tokens."""
        directions = self._checked("directions", directions)
        context = self._checked("context", np.asarray(context)[None])
        usual = max(LEAST_DIRECTIONS, TANGENT_TOKENS // self.tokens, self.batch)
        found = _in_chunks(
            self._session(tangents=True), ["features", "derivatives"], "directions", directions,
            self.batch if self._streamed else usual, {"context": context},
        )  # fmt: skip
        return found[0][0][0], np.concatenate([derivatives for _, derivatives in found])

    def variant(
        self,
        *,
        class_names: Sequence[str] | None = None,
        template: str | None = None,
        n_context: int | None = None,
        specific: bool = False,
    ) -> OnnxTextTower:
        other = OnnxTextTower(
            self.checkpoint,
            class_names or self.class_names,
            template or self.template,
            n_context,
            # Tokens of a call are what a batch was chosen for; other prompts are about as long.
            batch=self.batch if self._streamed else None,
            streamed=self._streamed,
            specific=specific,
            **vars(self._runtime),
        )
        other._matrices = self._matrices
        return other

    def close(self) -> None:
        """Release the sessions; the tower can no longer be used."""
        self._closed = True
        self._matrices = {}  # a variant may still need those
        for session in self._sessions.values():
            session.close()

    def _checked(self, name: str, contexts: Array) -> Array:
        if self._closed:
            raise EngineError("the tower is closed; make a new one")
        contexts = np.asarray(contexts)
        wanted = self._start.shape
        if contexts.ndim != 3 or contexts.shape[1:] != wanted or not len(contexts):
            raise InputError(
                f"{name} have shape {contexts.shape}; (P, {wanted[0]}, {wanted[1]}) with P of at "
                "least 1 is needed"
            )
        if contexts.dtype.kind != "f":
            raise InputError(f"{name} are {contexts.dtype}; floating point is needed")
        return np.ascontiguousarray(contexts, dtype=np.float32)

    def _run(self, output: str, contexts: Array) -> Array:
        # Candidates are rows of one batch axis that no node mixes, so chunks are independent.
        contexts = self._checked("contexts", contexts)
        session = self._session(tangents=False)
        return _joined(_in_chunks(session, [output], "context", contexts, self.batch))[0]

    def _session(self, tangents: bool) -> Running:
        if tangents in self._sessions:
            return self._sessions[tangents]
        if self._streamed:
            from sharpzo.towers.lowmem.streaming import stream

            session: Running = stream(
                self.checkpoint, self.prompts, self.threads, self._runtime.weights, tangents,
                self._matrices,
            )  # fmt: skip
        else:
            session = self._family.open(self.checkpoint, self.prompts, self._runtime, tangents)
            self.checkpoint.weights.release()  # the runtime has copied what it needs
        self._sessions[tangents] = session
        return session


class OnnxImageTower:
    """Photos to features; fulfils `types.ImageTower`. Memory is bounded by ``batch``: where None,
    as many photos as have about 520 tokens, which is fastest, or 8 where a tower has none.

    The graph is compiled on first use, so that the fingerprint alone costs no session; it is kept
    in ``graphs``. ``fingerprint`` is given where it is known. ``precision``: see `image_precision`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        batch: int | None = None,
        threads: int | None = None,
        graphs: GraphStore | None = None,
        fingerprint: str | None = None,
        precision: ImagePrecision = "float32",
    ) -> None:
        self._preprocessing = Preprocessing.open(checkpoint)
        if batch is None:
            batch = _photos_at_once(checkpoint, *self._preprocessing.size)
        self._batch, self.threads = _positive("batch", batch), threads
        self.at_once: int | None = None
        self._graphs = graphs or GraphStore(None)
        self._fingerprint = fingerprint
        self._precision: ImagePrecision = precision
        self.checkpoint = checkpoint
        self._session: Running | None = None
        self._last_block: LastBlock | None = None
        self.projection = image_family(checkpoint).projection(checkpoint)

    @property
    def fingerprint(self) -> str:
        """sha256 over image weights and preprocessing."""
        self._fingerprint = self._fingerprint or image_fingerprint(self.checkpoint)
        return self._fingerprint

    @property
    def last_block(self) -> LastBlock:
        if self._last_block is None:
            self._last_block = image_family(self.checkpoint).last_block(self.checkpoint)
        return self._last_block

    def pixels(self, photos: Iterable[Array | Image]) -> Array:
        return stack(self._preprocessing, photos)

    def forward(self, pixels: Array) -> Array:
        return self._run(["states"], pixels)[0]

    def summarise(self, pixels: Array) -> Array:
        """Return float32 (N, R, S) of at least one preprocessed photo (N, 3, h, w); see
        `summaries`."""
        states, tokens = self._run(["states", "summary"], pixels)
        return np.concatenate([states[:, None], tokens], axis=1)

    def trace(self, pixels: Array) -> tuple[Array, Array]:
        tokens, states, summary = self._run(["tokens", "states", "summary"], pixels)
        return tokens, np.concatenate([states[:, None], summary], axis=1)

    def states(
        self,
        photos: Iterable[Array | Image],
        progress: Callable[[int], object] | None = None,
    ) -> Array:
        """Return float32 (N, S), what the projection reads, of photos of any size; see
        `summaries`."""
        return self.summaries(photos, progress)[:, 0]

    def summaries(
        self,
        photos: Iterable[Array | Image],
        progress: Callable[[int], object] | None = None,
    ) -> Array:
        """Return float32 (N, R, S) of photos of any size: the state, what the projection reads, and
        a summary of tokens (see `image.build_image`): R is 5. It is 3 of a ResNet, which has no
        blocks to read patches before, and 1 of a tower whose tokens are not known.

        The iterable is consumed lazily, one batch ahead: the next photos are decoded while these
        pass the tower (benchmarks/decoding.py). ``progress`` is called with how many are done after
        each batch.
        """
        source, done = iter(photos), 0
        family = image_family(self.checkpoint)
        rows = [np.zeros((0, family.rows, self.checkpoint.image.width), np.float32)]

        def decode() -> Array:
            return self.pixels(islice(source, self._batch))

        with ThreadPoolExecutor(max_workers=1) as decoder:
            ahead = decoder.submit(decode)
            while len(pixels := ahead.result()):
                ahead = decoder.submit(decode)
                if self._session is None and len(pixels) == self._batch:  # for one it takes long
                    self._open()
                    trim()  # what starting took, before activations are added
                rows.append(self.summarise(pixels))
                done += len(pixels)
                if progress is not None:
                    progress(done)
        return np.concatenate(rows)

    def close(self) -> None:
        """Release the session; it is made again if the tower is used again."""
        self._last_block = None
        if self._session is not None:
            self._session.close()
            self._session = None

    def _run(self, outputs: Sequence[str], pixels: Array) -> list[Array]:
        return _joined(_in_chunks(self._open(), outputs, "pixels", pixels, self._batch))

    def _open(self) -> Running:
        if self._session is None:
            self._session = open_image(
                self.checkpoint, self._precision, self._preprocessing.size, self.threads,
                self._graphs, lambda: self.fingerprint,
            )  # fmt: skip
        return self._session


def _photos_at_once(checkpoint: Checkpoint, height: int, width: int) -> int:
    config = checkpoint.image
    if not isinstance(config, ImageConfig):
        return 8
    return max(IMAGE_TOKENS // (1 + (height // config.patch) * (width // config.patch)), 1)


def _in_chunks(
    session: Running,
    outputs: Sequence[str],
    name: str,
    rows: Array,
    size: int,
    others: Mapping[str, Array] | None = None,
) -> list[list[Array]]:
    """Outputs of every chunk of the input ``name``, at most ``size`` rows per call."""
    return [
        session.run(outputs, {**(others or {}), name: rows[i : i + size]})
        for i in range(0, len(rows), size)
    ]


def _joined(chunks: list[list[Array]]) -> list[Array]:
    return chunks[0] if len(chunks) == 1 else [np.concatenate(o) for o in zip(*chunks, strict=True)]


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise InputError(f"{name} is {value}; give 1 or more")
    return value
