"""The two towers of a checkpoint as black boxes on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from sharpzo.errors import EngineError, InputError
from sharpzo.metrics import normalise
from sharpzo.towers.checkpoint import TOKENIZER_FILES, Checkpoint
from sharpzo.towers.image import image_fingerprint, read_projection
from sharpzo.towers.preprocess import Preprocessing, stack
from sharpzo.towers.prompts import Prompts, layout, start, token_moments
from sharpzo.towers.runtime import Arithmetic, Engine, Running, Runtime
from sharpzo.types import Array, LastBlock

if TYPE_CHECKING:
    from PIL.Image import Image

    from sharpzo.towers.graph import Graph
    from sharpzo.towers.lowmem.streaming import Kept
    from sharpzo.towers.precision import Precision

# Tokens of one call. Measured at width 256: below 500 the matrix products are too flat, above 2,000
# activations leave the cache (100 classes: 29 ms a forward at 800 tokens, 36 at 13,000).
TOKENS = 1024
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

    >>> from sharpzo.towers.checkpoint import Checkpoint, resolve
    >>> checkpoint = Checkpoint.open(resolve())  # doctest: +SKIP
    >>> tower = OnnxTextTower(checkpoint, ["cat", "dog"])  # doctest: +SKIP
    >>> tower.forward(tower.start[None]).shape  # doctest: +SKIP
    (1, 2, 256)
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
        self._checkpoint = checkpoint
        self._runtime = Runtime(engine, precision, threads)
        if streamed and (engine != "onnxruntime" or precision == "int4"):
            raise InputError(
                "under a memory limit the text tower is computed block by block, by onnxruntime in "
                f"float32, float16 or int8, not by {engine} in {precision}; leave out one of them"
            )
        self._streamed = streamed
        self._closed = False
        self._runtime.check()
        checkpoint.check_text()
        self._prompts = layout(checkpoint, class_names, template, n_context, specific)
        usual = max(1, TOKENS // self.tokens)
        self.batch = usual if batch is None else _positive("batch", batch)
        self._start = start(checkpoint, self._prompts)
        self._logit_scale = checkpoint.logit_scale
        config = checkpoint.text
        shape = (config.projection, config.width)
        self._projection = checkpoint.tensor("text_projection.weight", shape)
        self._session: Running | None = None
        self._tangents: Running | None = None
        self._matrices: Kept = {}  # of blocks, in fewer bits

    @property
    def fingerprint(self) -> str:
        """sha256 over text weights, tokenizer and template; class names are not in it."""
        folder = self._checkpoint.folder
        files = [path for name in TOKENIZER_FILES if (path := folder / name).is_file()]
        words = [path.read_text("utf-8") for path in files]
        prefixes = ("text_model.", "text_projection.", "logit_scale")
        return self._checkpoint.digest(
            prefixes, repr(self._checkpoint.text), self._prompts.template, *words
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names as they were given, in order."""
        return self._prompts.class_names

    @property
    def template(self) -> str:
        """The sentence with {} in place of the class name."""
        return self._prompts.template

    @property
    def start(self) -> Array:
        """Token embeddings of the template's words before the class name, float32 (n, m)."""
        return self._start.copy()

    @property
    def logit_scale(self) -> float:
        """Factor on cosines (already exponentiated)."""
        return self._logit_scale

    @property
    def token_distance(self) -> float:
        """Root mean square distance between two random rows of the token table."""
        return token_moments(self._checkpoint)[1]

    @property
    def rounding(self) -> float:
        """Relative error of one operation of its arithmetic."""
        return self._runtime.rounding

    @property
    def tokens(self) -> int:
        """Tokens that one forward computes."""
        return self._prompts.tokens

    @property
    def projection(self) -> Array:
        """Final text projection, float32 (D, H)."""
        return self._projection

    @property
    def checkpoint(self) -> Checkpoint:
        """The model folder, for methods that need the weights themselves."""
        return self._checkpoint

    @property
    def prompts(self) -> Prompts:
        """Token ids of the prompts of all class names."""
        return self._prompts

    @property
    def threads(self) -> int | None:
        """Number of cores; None: all."""
        return self._runtime.threads

    def forward(self, contexts: Array) -> Array:
        """Return raw text features (P, K, D) float32 of contexts (P, n, m)."""
        return self._run("features", contexts)

    def states(self, contexts: Array) -> Array:
        """Return states at EOS after the final norm (P, K, H) float32 of contexts (P, n, m)."""
        return self._run("states", contexts)

    def variant(
        self,
        *,
        class_names: Sequence[str] | None = None,
        template: str | None = None,
        n_context: int | None = None,
        specific: bool = False,
    ) -> OnnxTextTower:
        """Return the same tower for other names, another template or context length, or for
        contexts that are ``specific`` to a class."""
        other = OnnxTextTower(
            self._checkpoint,
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

    def jvp(self, context: Array, directions: Array) -> tuple[Array, Array]:
        """Return raw text features (K, D) at a context (n, m), and their derivatives (p, K, D)
        along directions (p, n, m), exact and float32; see `tangent.py`.

        The first call builds a second session. Raises `InputError` for other shapes and for a
        tower without context tokens.
        """
        directions = self._checked("directions", directions)
        context = self._checked("context", np.asarray(context)[None])
        session = self._tangents = self._tangents or self._open(tangents=True)
        usual = max(LEAST_DIRECTIONS, TANGENT_TOKENS // self.tokens, self.batch)
        count = self.batch if self._streamed else usual
        outputs, chunks = ("features", "derivatives"), []
        for i in range(0, len(directions), count):
            chunk = directions[i : i + count]
            inputs = {"context": context, "directions": chunk}
            chunks.append(session.run(outputs, inputs))
        return chunks[0][0][0], np.concatenate([derivatives for _, derivatives in chunks])

    def close(self) -> None:
        """Release the sessions; the tower can no longer be used."""
        self._closed = True
        self._matrices = {}  # a variant may still need those
        for session in (self._session, self._tangents):
            if session is not None:
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
        contexts = self._checked("contexts", contexts)
        session = self._session = self._session or self._open()
        # Candidates are rows of one batch axis that no node mixes; a chunk never sees another.
        chunks = [
            session.run([output], {"context": contexts[i : i + self.batch]})[0]
            for i in range(0, len(contexts), self.batch)
        ]
        return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)

    def _open(self, tangents: bool = False) -> Running:
        if self._streamed:
            from sharpzo.towers.lowmem.streaming import StreamedText

            threads, precision = self._runtime.threads, self._runtime.weights
            return StreamedText(
                self._checkpoint, self._prompts, threads, precision, tangents, self._matrices
            )
        if tangents:
            from sharpzo.towers.tangent import build_tangent

            return self._compile(build_tangent)
        from sharpzo.towers.text import build_text

        return self._compile(build_text)

    def _compile(self, build: Callable[[Checkpoint, Prompts, Precision], Graph]) -> Running:
        session = self._runtime.open(build(self._checkpoint, self._prompts, self._runtime.weights))
        self._checkpoint.weights.release()  # the runtime has copied what it needs
        return session


class OnnxImageTower:
    """Photos to features; fulfils `types.ImageTower`. Memory is bounded by ``batch``.

    The graph is compiled on first use, so that a tower may be asked for its fingerprint alone.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        batch: int = 16,
        threads: int | None = None,
        engine: Engine = "onnxruntime",
    ) -> None:
        self._batch = _positive("batch", batch)
        self._runtime = Runtime(engine, threads=threads)
        self._checkpoint = checkpoint
        self._preprocessing = Preprocessing.open(checkpoint)
        self._session: Running | None = None
        self._last_block: LastBlock | None = None
        self._projection = read_projection(checkpoint)

    @property
    def fingerprint(self) -> str:
        """sha256 over image weights and preprocessing."""
        return image_fingerprint(self._checkpoint)

    @property
    def projection(self) -> Array:
        """Final image projection, float32 (D, S): features = normalised states @ projection.T."""
        return self._projection

    def pixels(self, photos: Iterable[Array | Image]) -> Array:
        """Return uint8 (height, width, 3) or PIL photos as float32 (N, 3, h, w), preprocessed."""
        return stack(self._preprocessing, photos)

    def forward(self, pixels: Array) -> Array:
        """Return states float32 (N, S) of preprocessed photos (N, 3, h, w)."""
        if not len(pixels):
            return np.zeros((0, self._checkpoint.image.width), np.float32)
        return self._run(["states"], pixels)[0]

    def trace(self, pixels: Array) -> tuple[Array, Array]:
        """Return tokens before the last block, float32 (N, T, S), class token first, and states
        (N, S) of at least one preprocessed photo (N, 3, h, w)."""
        tokens, states = self._run(["tokens", "states"], pixels)
        return tokens, states

    @property
    def last_block(self) -> LastBlock:
        """What makes states of tokens, read from the checkpoint at the first call."""
        if self._last_block is None:
            from sharpzo.towers.image import read_last_block

            self._last_block = read_last_block(self._checkpoint)
        return self._last_block

    def _run(self, outputs: Sequence[str], pixels: Array) -> list[Array]:
        if self._session is None:
            from sharpzo.towers.image import build_image

            graph = build_image(self._checkpoint, *self._preprocessing.size)
            self._session = self._runtime.open(graph)
            self._checkpoint.weights.release()
        found = [
            self._session.run(outputs, {"pixels": pixels[i : i + self._batch]})
            for i in range(0, len(pixels), self._batch)
        ]
        if len(found) == 1:
            return found[0]
        return [np.concatenate([one[i] for one in found]) for i in range(len(outputs))]

    def states(
        self,
        photos: Iterable[Array | Image],
        progress: Callable[[int], object] | None = None,
    ) -> Array:
        """Return float32 (N, S), what the projection reads, of photos of any size.

        The iterable is consumed lazily, one batch ahead: the next photos are decoded while these
        pass the tower (benchmarks/decoding.py). ``progress`` hears how many are done after each
        batch.
        """
        source, rows, done = iter(photos), [], 0

        def decode() -> Array:
            return self.pixels(islice(source, self._batch))

        with ThreadPoolExecutor(max_workers=1) as decoder:
            ahead = decoder.submit(decode)
            while len(pixels := ahead.result()):
                ahead = decoder.submit(decode)
                rows.append(self.forward(pixels))
                done += len(pixels)
                if progress is not None:
                    progress(done)
        return np.concatenate(rows) if rows else self.forward(np.zeros((0, 3, 1, 1), np.float32))

    def project(self, states: Array) -> Array:
        """Return unit features float32 (N, D) of states (N, S)."""
        return normalise(states @ self._projection.T)

    def encode(
        self,
        photos: Iterable[Array | Image],
        progress: Callable[[int], object] | None = None,
    ) -> Array:
        """Return float32 (N, D), rows of length 1; see `states`."""
        return self.project(self.states(photos, progress))

    def close(self) -> None:
        """Release the session; it is made again if the tower is used again."""
        self._last_block = None
        if self._session is not None:
            self._session.close()
            self._session = None


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise InputError(f"{name} is {value}; give 1 or more")
    return value
