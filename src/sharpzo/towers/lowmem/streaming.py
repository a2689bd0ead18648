"""The text tower computed block by block, with the weights of one block in memory at a time.

Blocks of a tower have one shape, so a tower is three small graphs (first, middle and last block)
whose weights are inputs. They come from the memory map of the checkpoint, or are converted (float16
files), for the time of one block, and their pages are then released: the system keeps files that it
has room for, so they are read from disk once. In fewer bits all blocks' weights stay in memory, and
nothing is read again. Same numbers as the whole graph. Tangents go from block to block beside the
rows that they belong to.
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
from sharpzo.towers.graph import Builder, Graph, Quantised
from sharpzo.towers.prompts import Prompts
from sharpzo.towers.runtime import Session
from sharpzo.towers.tangent import TangentBuilder, check_moves
from sharpzo.types import Array, Precision

_NAME = "block"  # of every block: graphs are shared
_MOVING = {"context": "directions", "suffix": "suffix_directions"}
_TANGENTS = _MOVING | {"states": "state_derivatives", "features": "derivatives"}

# Number of a block, name of a matrix -> what is stored of it.
Kept = dict[tuple[int, str], Array | Quantised | None]


class StreamedText:
    """The text tower; ``run`` and ``close`` as a session of `text.build_text` has them, or
    with ``tangents`` one of `tangent.build_tangent`.

    What the class names make constant is kept in memory, and matrices of another ``precision`` than
    float32; the checkpoint's own tensors are not. Such matrices go into ``kept``, which towers of
    one checkpoint and precision may share. int4 is not for this: a runtime takes no input of two
    numbers per byte.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        prompts: Prompts,
        threads: int | None = None,
        precision: Precision = "float32",
        tangents: bool = False,
        kept: Kept | None = None,
    ) -> None:
        if tangents:
            check_moves(prompts)
        trim()
        self._checkpoint = checkpoint
        self._sessions: dict[str, Session] = {}
        self._steps: list[_Step] = []
        config, m, k = checkpoint.text, checkpoint.text.width, len(prompts.suffixes)
        n = 0 if prompts.specific else prompts.n_context  # vectors that move on as they are
        shapes: dict[str, Sequence[int | str]] = {
            "context": ("P", prompts.vectors, m), "directions": ("p", prompts.vectors, m),
            "suffix": ("S", m), "suffix_directions": ("s", m),
            "states": ("P", k, m), "state_derivatives": ("p", k, m),
            "features": ("P", k, config.projection), "derivatives": ("p", k, config.projection),
        }  # fmt: skip
        kept = {} if kept is None else kept

        def begin(layer: int) -> Builder:
            build = _Tangents(_MOVING, precision) if tangents else _Builder(precision)
            build.kept, build.layer = kept, layer
            return build

        writer = text.TextWriter(begin(0), checkpoint, prompts)
        for layer in range(config.layers):
            first, last = layer == 0, layer == config.layers - 1
            reads = ["context"] if first else ["context", "suffix"]
            if not first:
                _go_on(writer, begin(layer), n, m)
            block = text.read_block(checkpoint, layer)
            writer.add_block(_NAME, block, first, last)
            build, results = writer.build, {"suffix": writer.suffix}
            if last:
                writer.add_features()
                results = {"states": "states", "features": "features"}
            elif n:
                results["context"] = build.reshape(writer.context, [-1, n, m])
            if isinstance(build, TangentBuilder):
                reads += [_TANGENTS[x] for x in reads]
                results |= {_TANGENTS[x]: build.tangent(value) for x, value in results.items()}
            graph = build.finish(
                {x: shapes[x] for x in reads},
                {value: shapes[x] for x, value in results.items()},
                "text-block",
            )
            again = _arrays(block).keys() & graph.weights if precision == "float32" else set[str]()
            fixed = _copied(graph, again)
            checkpoint.weights.release()
            kind = "first" if first else "last" if last else "middle"
            if kind not in self._sessions:
                self._sessions[kind] = Session(graph.unbound(), threads, shared=True)
                trim()  # the engine has been loaded, and this graph is compiled
            self._steps.append(_Step(self._sessions[kind], results, again, fixed))
        trim()

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Return outputs of the whole graph, such as ``features`` (P, K, D) of ``context``
        (P, n, m)."""
        carried = dict(inputs)
        for layer, step in enumerate(self._steps):
            wanted = outputs if step is self._steps[-1] else [*step.results]
            found = step.session.run(
                [step.results[x] for x in wanted], carried | step.fixed | self._again(layer)
            )
            self._checkpoint.weights.release()
            carried.update(zip(wanted, found, strict=True))
        return [carried[x] for x in outputs]

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
    """One block: its session, which of its values are ``results`` for the next one, names of the
    inputs that are read for every call, and the others."""

    session: Session
    results: dict[str, str]
    again: set[str]
    fixed: dict[str, Array]


class _Builder(Builder):
    """Named constants are weights, however small: blocks share a graph, not their constants.

    Matrices of fewer bits come from ``kept``, or go there.
    """

    kept: Kept
    layer: int

    def stored(self, name: str, array: Array) -> Array | Quantised | None:
        key = self.layer, name
        if key not in self.kept:
            self.kept[key] = super().stored(name, array)
        return self.kept[key]

    def constant(self, values: Any, name: str = "") -> str:
        if not name:
            return super().constant(values)
        array = np.asarray(values)
        kind = np.float32 if array.dtype.kind == "f" else np.int64
        return self.weight(name, array.astype(kind, copy=False))


class _Tangents(_Builder, TangentBuilder):
    """The same with tangents."""


def _go_on(writer: text.TextWriter, build: Builder, n: int, width: int) -> None:
    """Let a writer go on in a new graph, whose inputs are the outputs of the one before."""
    writer.build = build
    writer.suffix = "suffix"
    if n:
        writer.context = build.reshape("context", [-1, width])


def _copied(graph: Graph, again: set[str]) -> dict[str, Array]:
    """The arrays of a graph that are not read again.

    Views are copied, so that no page of the checkpoint stays in memory for them.
    """
    others = {name: array for name, array in graph.weights.items() if name not in again}
    return {n: a if a.flags.owndata else np.array(a) for n, a in others.items()}


def _arrays(block: Block) -> dict[str, Array]:
    """Return the arrays of a block by the names that its nodes read them under."""
    return {
        f"{_NAME}.{field.name}.{kind}": np.ascontiguousarray(array)
        for field in fields(block)
        for kind, array in zip(("weight", "bias"), getattr(block, field.name), strict=True)
    }
