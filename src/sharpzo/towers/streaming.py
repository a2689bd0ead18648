"""Towers computed block by block, with the weights of one block in memory at a time.

Blocks of a tower have one shape, so a tower is three small graphs (first, middle and last block)
whose weights are inputs. They come from the memory map of the checkpoint, or are converted (float16
files), for the time of one block, and their pages are then let go: the system keeps files that it
has room for, so they are read from disk once. Same numbers as the whole graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from sharpzo.towers import image, text
from sharpzo.towers.blocks import Block
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.graph import Builder, Graph
from sharpzo.towers.prompts import Prompts
from sharpzo.towers.session import Session
from sharpzo.types import Array

_NAME = "block"  # of every block: graphs are shared


class StreamedText:
    """The text tower; ``run_many`` and ``close`` as a session of `text.build_text` has them.

    What the class names make constant is kept in memory, the checkpoint's own tensors are not.
    """

    def __init__(
        self, checkpoint: Checkpoint, prompts: Prompts, threads: int | None = None
    ) -> None:
        self._checkpoint = checkpoint
        self._sessions: dict[str, Session] = {}
        self._steps: list[_Step] = []
        config, n, m = checkpoint.text, prompts.n_context, checkpoint.text.width
        k = len(prompts.suffixes)
        writer = text.TextWriter(_Builder(), checkpoint, prompts)
        for layer in range(config.layers):
            first, last = layer == 0, layer == config.layers - 1
            inputs: dict[str, Any] = {"context": ("P", n, m)}
            if not first:
                inputs["suffix"] = ("S", m)
                _begin(writer, n, m)
            block = text.read_block(checkpoint, layer)
            writer.add_block(_NAME, block, first, last)
            outputs: dict[str, Any] = {writer.suffix: ("S", m)}
            if last:
                writer.add_features()
                outputs = {"states": ("P", k, m), "features": ("P", k, config.projection)}
            elif n:
                outputs[writer.context] = ("C", m)
            graph = writer.build.finish(inputs, outputs, "text-block")
            kind = "first" if first else "last" if last else "middle"
            if kind not in self._sessions:
                self._sessions[kind] = Session(graph.unbound(), threads)
            self._steps.append(_Step(self._sessions[kind], tuple(outputs), *_split(graph, block)))
            checkpoint.release(text.block_prefix(layer))
        checkpoint.weights.release("")

    def run_many(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Return ``states`` (P, K, H) and ``features`` (P, K, D) of ``context`` (P, n, m)."""
        carried = dict(inputs)
        shape = carried["context"].shape
        for layer, step in enumerate(self._steps):
            last = layer == len(self._steps) - 1
            wanted = outputs if last else step.outputs
            weights = step.weights(text.read_block(self._checkpoint, layer))
            found = step.session.run_many(wanted, {**carried, **weights})
            del weights
            self._checkpoint.release(text.block_prefix(layer))
            if last:
                return found
            carried["suffix"] = found[0]
            if len(found) > 1:
                carried["context"] = found[1].reshape(shape)
        raise AssertionError("a tower has at least one block")

    def close(self) -> None:
        """Give the memory back."""
        for session in self._sessions.values():
            session.close()
        self._steps = []


class StreamedImage:
    """The image tower, a chunk of photos through one block after the other.

    The rows of a whole chunk are in memory; within a block photos are computed one at a time,
    which keeps its widest layers small: a photo alone has rows enough to feed matrix products.
    """

    def __init__(
        self, checkpoint: Checkpoint, height: int, width: int, threads: int | None = None
    ) -> None:
        self._checkpoint = checkpoint
        config = checkpoint.image
        build = _Builder()
        rows, self._tokens = image.write_embedding(build, checkpoint, height, width)
        shape: tuple[int | str, ...] = ("R", config.width)
        graph = build.finish({"pixels": ("B", 3, height, width)}, {rows: shape}, "image-embedding")
        self._rows = rows
        kept = {name: np.array(array) for name, array in graph.weights.items()}
        self._embedding = Session(graph.unbound(), threads), kept
        block = image.read_block(checkpoint, 0)
        self._block = self._open(block, threads, last=False) if config.layers > 1 else None
        self._last = self._open(block, threads, last=True)
        checkpoint.release("vision_model.embeddings")
        checkpoint.release(image.block_prefix(checkpoint, 0))

    def _open(self, block: Block, threads: int | None, last: bool) -> _Step:
        build, checkpoint = _Builder(), self._checkpoint
        config = checkpoint.image
        x = image.write_block(build, config, "rows", _NAME, block, self._tokens, last)
        x = image.write_norm(build, checkpoint, x) if last else x
        graph = build.finish({"rows": ("R", config.width)}, {x: ("S", config.width)}, "image")
        return _Step(Session(graph.unbound(), threads), (x,), *_split(graph, block))

    def states(self, pixels: Array) -> Array:
        """Return states float32 (N, S) of one chunk of preprocessed photos (N, 3, h, w)."""
        session, weights = self._embedding
        many, tokens, width = len(pixels), self._tokens, self._checkpoint.image.width
        rows = np.empty((many, tokens, width), np.float32)
        for i in range(many):
            rows[i] = session.run(self._rows, {"pixels": pixels[i : i + 1], **weights})
        states = np.empty((many, width), np.float32)
        layers = self._checkpoint.image.layers
        for layer in range(layers):
            last = layer == layers - 1
            step = self._last if last else self._block
            assert step is not None
            weights = step.weights(image.read_block(self._checkpoint, layer))
            for i in range(many):
                found = step.session.run(step.outputs[0], {"rows": rows[i], **weights})
                if last:
                    states[i] = found[0]
                else:
                    rows[i] = found
            del weights
            self._checkpoint.release(image.block_prefix(self._checkpoint, layer))
        return states

    def close(self) -> None:
        """Give the memory back."""
        self._embedding[0].close()
        self._last.session.close()
        if self._block is not None:
            self._block.session.close()


@dataclass(frozen=True, eq=False)
class _Step:
    """One block: its session and outputs, which arrays of the block it reads, what is constant."""

    session: Session
    outputs: tuple[str, ...]
    wanted: frozenset[str]
    kept: dict[str, Array]

    def weights(self, block: Block) -> dict[str, Array]:
        """All inputs of the session that are not rows."""
        return self.kept | {n: a for n, a in _arrays(block).items() if n in self.wanted}


class _Builder(Builder):
    """Named constants are weights, however small: blocks share a graph, not their constants."""

    def constant(self, values: Any, name: str = "") -> str:
        if not name:
            return super().constant(values)
        array = np.asarray(values)
        kind = np.float32 if array.dtype.kind == "f" else np.int64
        return self.weight(name, array.astype(kind, copy=False))


def _begin(writer: text.TextWriter, n: int, width: int) -> None:
    """Let a writer go on in a new graph, whose inputs are what the one before put out."""
    writer.build = build = _Builder()
    writer.suffix = "suffix"
    if n:
        writer.context = build.op("Reshape", "context", build.constant([-1, width]))


def _split(graph: Graph, block: Block) -> tuple[frozenset[str], dict[str, Array]]:
    """Which arrays of a block its graph reads, and copies of what else the graph needs.

    Copies, so that no page of the checkpoint stays in memory for them.
    """
    names = frozenset(_arrays(block)) & set(graph.weights)
    return names, {n: np.array(a) for n, a in graph.weights.items() if n not in names}


def _arrays(block: Block) -> dict[str, Array]:
    """Return the arrays of a block by the names that its nodes read them under."""
    return {
        f"{_NAME}.{field.name}.{kind}": np.ascontiguousarray(array)
        for field in fields(block)
        for kind, array in zip(("weight", "bias"), getattr(block, field.name), strict=True)
    }
