"""Two encoders as ONNX files, running: what a tower asks of a session, whatever is inside them.

Every prompt is computed whole for every candidate, and derivatives are differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from sharpzo.errors import CheckpointError
from sharpzo.towers.config import PAIR
from sharpzo.towers.pair import MASKS, ImageFile, PairImage, PairText, Pooling, TextFile
from sharpzo.towers.prompts import Prompts, lay_out_whole, moments_in, token_table
from sharpzo.towers.runtime import Running, Runtime
from sharpzo.towers.tokenizer import Tokenizer
from sharpzo.types import Array

if TYPE_CHECKING:
    from sharpzo.towers.checkpoint import Checkpoint
    from sharpzo.towers.onnx_file import OnnxFile

# Tokens of a call, as many rows as that makes: enough to feed two cores, little memory.
_TOKENS = 2048
# Length of a step in token distances. Relative error of differences along contexts: 4e-4; 0.001 and
# 0.1 give 7e-3 (benchmarks/differences.py).
STEP = 0.02


class Network:
    """One of the two files, running: rows in, rows out, whatever their number."""

    def __init__(
        self, session: Running, file: OnnxFile, said: ImageFile | TextFile, width: int
    ) -> None:
        self._session, self._file = session, file
        self._output, self.width = said.output, width
        self._pooling: Pooling = said.pooling
        sizes = [port.shape[0] for port in file.inputs.values() if port.shape]
        self._batch = next((size for size in sizes if size is not None), None)

    def __call__(self, inputs: Mapping[str, Array], lengths: Array | None = None) -> Array:
        """Return features float32 (B, D); ``lengths`` (B,) are the tokens that pooling sees."""
        given = {name: self._as(name, array) for name, array in inputs.items()}
        many = len(next(iter(given.values())))
        parts = []
        for first in range(0, many, self._batch or many):
            some = {n: _filled(a[first : first + (self._batch or many)], self._batch)
                    for n, a in given.items()}  # fmt: skip
            (found,) = self._session.run([self._output], some)
            parts.append(found)
        out = np.concatenate(parts)[:many] if len(parts) > 1 else parts[0][:many]
        if self._pooling != "none" and out.ndim == 3:
            tokens = next(iter(given.values())).shape[1]
            if lengths is not None and out.shape[1] != tokens:
                raise CheckpointError(
                    f"{self._file.path}: output {self._output!r} has {out.shape[1]} tokens for "
                    f"prompts of {tokens}; pooling {self._pooling!r} in {PAIR} needs one for each"
                )
            out = _pooled(out.astype(np.float32), self._pooling, lengths)
        if out.shape != (many, self.width):
            raise CheckpointError(
                f"{self._file.path}: output {self._output!r} made {out.shape} of {many} rows; "
                f"({many}, {self.width}) is needed, see width and pooling in {PAIR}"
            )
        return out.astype(np.float32, copy=False)

    def close(self) -> None:
        """Give the memory of the session back."""
        self._session.close()

    def _as(self, name: str, array: Array) -> Array:
        return np.ascontiguousarray(array, MASKS[self._file.inputs[name].kind])


def _filled(rows: Array, many: int | None) -> Array:
    """Rows and copies of the last one, for a graph that takes one number of rows alone."""
    if many is None or len(rows) == many:
        return rows
    return np.concatenate([rows, np.repeat(rows[-1:], many - len(rows), axis=0)])


def _pooled(tokens: Array, pooling: Pooling, lengths: Array | None) -> Array:
    """Tokens (B, T, D) to (B, D), of the first ``lengths`` (B,) of them."""
    many, most = tokens.shape[:2]
    lengths = np.full(many, most) if lengths is None else lengths
    if pooling == "first":
        return tokens[:, 0]
    if pooling == "last":
        return tokens[np.arange(many), lengths - 1]
    inside_prompt = np.arange(most) < lengths[:, None]
    return np.einsum("btd,bt->bd", tokens, inside_prompt / lengths[:, None]).astype(np.float32)


class RunningText:
    """The text encoder as a session: "context" (P, n, m) to "features" (P, K, D), the same as
    "states"; with "directions" (p, n, m) also "derivatives" (p, K, D), by central differences.

    A forward computes every prompt of every candidate, those of one length together.
    """

    def __init__(self, network: Network, checkpoint: Checkpoint, prompts: Prompts) -> None:
        self._network, self._prompts = network, prompts
        self._said = _text(checkpoint).said
        table, weights = token_table(checkpoint), checkpoint.weights
        framed = len(prompts.before) + prompts.n_context
        self._lengths = np.array([framed + len(suffix) for suffix in prompts.suffixes])
        self._before = weights.rows(table, np.array(prompts.before, np.int64))
        filling = [] if prompts.pad is None else [prompts.pad]
        # What follows the context, filled up: the same number of tokens within a call.
        self._after = [
            weights.rows(table, np.array([*suffix, *filling * (prompts.length - own)], np.int64))
            for suffix, own in zip(prompts.suffixes, self._lengths, strict=True)
        ]
        self._distance = moments_in(weights, table)[1]

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        context = inputs["context"]
        if "directions" not in inputs:
            features = self._features(context)
            return [features for _ in outputs]
        found = self._derivatives(context, inputs["directions"])
        return [found[name] for name in outputs]

    def close(self) -> None:
        """Give the memory of the session back."""
        self._network.close()

    def _derivatives(self, context: Array, directions: Array) -> dict[str, Array]:
        many = len(directions)
        lengths = np.linalg.norm(directions.reshape(many, -1), axis=1)
        still = lengths == 0
        steps = (STEP * self._distance / np.where(still, 1, lengths)).astype(np.float32)
        steps = steps[:, None, None]
        ends = [context, context + steps * directions, context - steps * directions]
        features = self._features(np.concatenate(ends))
        slopes = (features[1 : 1 + many] - features[1 + many :]) / (2 * steps)
        slopes[still] = 0
        return {"features": features[:1], "derivatives": slopes}

    def _features(self, contexts: Array) -> Array:
        width = self._network.width
        found = np.empty((len(contexts), len(self._lengths), width), np.float32)
        shapes = np.array([len(after) for after in self._after])
        for tokens in np.unique(shapes):
            chosen = np.flatnonzero(shapes == tokens)
            pairs = np.stack(np.meshgrid(np.arange(len(contexts)), chosen), axis=-1).reshape(-1, 2)
            length = len(self._before) + self._prompts.n_context + int(tokens)
            for first in range(0, len(pairs), max(1, _TOKENS // length)):
                some = pairs[first : first + max(1, _TOKENS // length)]
                rows = np.stack([self._prompt(contexts[p], k) for p, k in some])
                found[some[:, 0], some[:, 1]] = self._encode(rows, self._lengths[some[:, 1]])
        return found

    def _encode(self, rows: Array, lengths: Array) -> Array:
        inputs = {self._said.input: rows}
        if self._said.mask:
            inputs[self._said.mask] = np.arange(rows.shape[1]) < lengths[:, None]
        return self._network(inputs, lengths)

    def _prompt(self, context: Array, k: int) -> Array:
        """Embeddings (L, m) of one prompt."""
        if self._prompts.specific:
            n = self._prompts.n_context
            context = context[k * n : (k + 1) * n]
        return np.concatenate([self._before, context, self._after[k]])


class RunningImage:
    """The image encoder as a session: "pixels" to "states" (B, D), which are the features.

    Its tokens are not known: "summary" (B, 0, D) and "tokens" (B, 0, D) have none.
    """

    def __init__(self, network: Network, said: ImageFile) -> None:
        self._network, self._said = network, said

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        states = self._network({self._said.input: inputs["pixels"]})
        none = np.zeros((len(states), 0, states.shape[1]), np.float32)
        return [states if name == "states" else none for name in outputs]

    def close(self) -> None:
        """Give the memory of the session back."""
        self._network.close()


def layout(
    checkpoint: Checkpoint,
    class_names: Sequence[str],
    template: str,
    n_context: int | None,
    specific: bool,
) -> Prompts:
    """Return the prompts of class names; see `prompts.layout`."""
    config = _text(checkpoint)
    tokenizer = Tokenizer.read(checkpoint.folder / config.tokenizer, config.vocabulary)
    pad, length = config.said.pad, config.said.length
    return lay_out_whole(tokenizer, length, pad, class_names, template, n_context, specific)


def open_text(checkpoint: Checkpoint, prompts: Prompts, runtime: Runtime) -> RunningText:
    """Return the text encoder, running, for class names."""
    config = _text(checkpoint)
    session = runtime.start(config.file.path)
    network = Network(session, config.file, config.said, config.projection)
    return RunningText(network, checkpoint, prompts)


def open_image(
    checkpoint: Checkpoint, height: int, width: int, threads: int | None
) -> RunningImage:
    """Return the image encoder, running, for photos of one size; `CheckpointError` for a size that
    it does not take."""
    config = cast(PairImage, cast(object, checkpoint.image))
    said, file = config.said, config.file
    config.check_size(height, width)
    session = Runtime(threads=threads).start(file.path)
    return RunningImage(Network(session, file, said, config.projection), said)


def _text(checkpoint: Checkpoint) -> PairText:
    return cast(PairText, cast(object, checkpoint.text))
