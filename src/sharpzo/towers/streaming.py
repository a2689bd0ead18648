"""The text tower computed block by block, with the weights of one block in memory at a time.

Blocks of a tower have one shape, so a tower is three small graphs (first, middle and last block)
whose weights are inputs. They come from the memory map of the checkpoint, or are converted (float16
files), for the time of one block, and their pages are then let go: the system keeps files that it
has room for, so they are read from disk once. In fewer bits all blocks' weights stay in memory, and
nothing is read again. Same numbers as the whole graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from sharpzo.memory import trim
from sharpzo.towers import text
from sharpzo.towers.blocks import Block
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.graph import Builder, Graph
from sharpzo.towers.precision import Precision
from sharpzo.towers.prompts import Prompts
from sharpzo.towers.session import Session
from sharpzo.types import Array

_NAME = "block"  # of every block: graphs are shared


class StreamedText:
    """The text tower; ``run_many`` and ``close`` as a session of `text.build_text` has them.

    What the class names make constant is kept in memory, and matrices of another ``precision`` than
    float32; the checkpoint's own tensors are not. int4 is not for this: a runtime takes no input of
    two numbers a byte.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        prompts: Prompts,
        threads: int | None = None,
        precision: Precision = "float32",
    ) -> None:
        trim()
        self._checkpoint = checkpoint
        self._sessions: dict[str, Session] = {}
        self._steps: list[_Step] = []
        config, m, k = checkpoint.text, checkpoint.text.width, len(prompts.suffixes)
        n = 0 if prompts.specific else prompts.n_context  # vectors that move on as they are
        writer = text.TextWriter(_Builder(precision), checkpoint, prompts)
        for layer in range(config.layers):
            first, last = layer == 0, layer == config.layers - 1
            inputs: dict[str, Any] = {"context": ("P", prompts.vectors, m)}
            if not first:
                inputs["suffix"] = ("S", m)
                _begin(writer, _Builder(precision), n, m)
            block = text.read_block(checkpoint, layer)
            writer.add_block(_NAME, block, first, last)
            outputs: dict[str, Any] = {writer.suffix: ("S", m)}
            if last:
                writer.add_features()
                outputs = {"states": ("P", k, m), "features": ("P", k, config.projection)}
            elif n:
                outputs[writer.context] = ("C", m)
            graph = writer.build.finish(inputs, outputs, "text-block")
            again = frozenset(_arrays(block)) if precision == "float32" else frozenset[str]()
            again, kept = _split(graph, again)
            checkpoint.weights.release()
            kind = "first" if first else "last" if last else "middle"
            if kind not in self._sessions:
                self._sessions[kind] = Session(graph.unbound(), threads, shared=True)
                trim()  # the engine has been loaded, and this graph is compiled
            self._steps.append(_Step(self._sessions[kind], tuple(outputs), again, kept))
        trim()

    def run_many(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Return ``states`` (P, K, H) and ``features`` (P, K, D) of ``context`` (P, n, m)."""
        carried = dict(inputs)
        shape = carried["context"].shape
        for layer, step in enumerate(self._steps):
            last = layer == len(self._steps) - 1
            wanted = outputs if last else step.outputs
            found = step.session.run_many(wanted, carried | step.kept | self._again(layer))
            self._checkpoint.weights.release()
            if last:
                return found
            carried["suffix"] = found[0]
            if len(found) > 1:
                carried["context"] = found[1].reshape(shape)
        raise AssertionError("a tower has at least one block")

    def _again(self, layer: int) -> dict[str, Array]:
        """Arrays of a block that are read for every call."""
        wanted = self._steps[layer].again
        block = text.read_block(self._checkpoint, layer) if wanted else None
        return {} if block is None else {n: a for n, a in _arrays(block).items() if n in wanted}

    def close(self) -> None:
        """Give the memory back."""
        for session in self._sessions.values():
            session.close()
        self._steps = []
        trim()


@dataclass(frozen=True, eq=False)
class _Step:
    """One block: its session and outputs, names of the inputs that are read for every call, and the
    others."""

    session: Session
    outputs: tuple[str, ...]
    again: frozenset[str]
    kept: dict[str, Array]


class _Builder(Builder):
    """Named constants are weights, however small: blocks share a graph, not their constants."""

    def constant(self, values: Any, name: str = "") -> str:
        if not name:
            return super().constant(values)
        array = np.asarray(values)
        kind = np.float32 if array.dtype.kind == "f" else np.int64
        return self.weight(name, array.astype(kind, copy=False))


def _begin(writer: text.TextWriter, build: Builder, n: int, width: int) -> None:
    """Let a writer go on in a new graph, whose inputs are what the one before put out."""
    writer.build = build
    writer.suffix = "suffix"
    if n:
        writer.context = build.op("Reshape", "context", build.constant([-1, width]))


def _split(graph: Graph, again: frozenset[str]) -> tuple[frozenset[str], dict[str, Array]]:
    """Which of the arrays that can be read again a graph needs, and its others.

    Views are copied, so that no page of the checkpoint stays in memory for them.
    """
    others = {name: array for name, array in graph.weights.items() if name not in again}
    kept = {n: a if a.flags.owndata else np.array(a) for n, a in others.items()}
    return again & set(graph.weights), kept


def _arrays(block: Block) -> dict[str, Array]:
    """Return the arrays of a block by the names that its nodes read them under."""
    return {
        f"{_NAME}.{field.name}.{kind}": np.ascontiguousarray(array)
        for field in fields(block)
        for kind, array in zip(("weight", "bias"), getattr(block, field.name), strict=True)
    }
