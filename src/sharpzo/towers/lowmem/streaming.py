"""A text tower computed block by block, with the weights of one block in memory at a time.

Blocks of a tower have one shape, so a tower is three small graphs (first, middle and last block)
whose weights are inputs. They come from the memory map of the checkpoint, or are converted (float16
files), for the time of one block, and their pages are then released: the system keeps files that it
has room for, so they are read from disk once. In fewer bits all blocks' weights stay in memory, and
nothing is read again. Same numbers as the whole graph. Tangents go from block to block beside the
rows that they belong to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from sharpzo.memory import trim
from sharpzo.towers import text, whole_text
from sharpzo.towers.blocks import Block
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.graph import Builder, Graph, Quantised
from sharpzo.towers.prompts import Prompts
from sharpzo.towers.runtime import Running, Session
from sharpzo.towers.tangent import TangentBuilder, check_moves
from sharpzo.types import Array, Precision

_NAME = "block"  # of every block: graphs are shared; families name their arrays alike
_MOVING = {"context": "directions", "suffix": "suffix_directions"}
_TANGENTS = _MOVING | {"states": "state_derivatives", "features": "derivatives"}

# Number of a block, name of a matrix -> what is stored of it.
Kept = dict[tuple[int, str], Array | Quantised | None]


class Writer(Protocol):
    """What writes a text tower in parts, such as `text.TextWriter`."""

    build: Builder
    suffix: str

    @property
    def outputs(self) -> Mapping[str, tuple[int, int]]: ...

    def inputs(self, first: bool, last: bool) -> Mapping[str, Sequence[int | str]]: ...

    def carried(self) -> dict[str, str]: ...

    def go_on(self, build: Builder) -> None: ...

    def add_block(self, name: str, block: Block, first: bool, last: bool) -> None: ...

    def add_features(self) -> None: ...


def stream(
    checkpoint: Checkpoint,
    prompts: Prompts,
    threads: int | None = None,
    precision: Precision = "float32",
    tangents: bool = False,
    kept: Kept | None = None,
) -> Running:
    """Return the running text tower, whatever its family; see `StreamedText`."""
    if not prompts.whole:
        return StreamedText(
            checkpoint, prompts, threads, precision, tangents, kept,
            begin=lambda build: text.TextWriter(build, checkpoint, prompts),
        )  # fmt: skip
    many = whole_text.group(prompts, whole_text.LESS)
    session = StreamedText(
        checkpoint, prompts, threads, precision, tangents, kept,
        begin=lambda build: whole_text.WholeWriter(build, checkpoint, prompts, many),
        vectors=prompts.n_context * (many if prompts.specific else 1),
    )  # fmt: skip
    return whole_text.ByClasses(session, checkpoint, prompts, many)


class StreamedText:
    """The text tower that ``begin`` writes; ``run`` and ``close`` as a session of
    `text.build_text` has them, or with ``tangents`` one of `tangent.build_tangent`. A context of a
    call has so many ``vectors``, by default those of the prompts.

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
        *,
        begin: Callable[[Builder], Writer],
        vectors: int | None = None,
    ) -> None:
        if tangents:
            check_moves(prompts)
        trim()
        self._checkpoint = checkpoint
        self._sessions: dict[str, Session] = {}
        self._steps: list[_Step] = []
        config, m = checkpoint.text, checkpoint.text.width
        kept = {} if kept is None else kept

        def fresh(layer: int) -> Builder:
            build = _Tangents(_MOVING, precision) if tangents else _Builder(precision)
            build.kept, build.layer = kept, layer
            return build

        writer = begin(fresh(0))
        shapes: dict[str, Sequence[int | str]] = {
            "context": ("P", prompts.vectors if vectors is None else vectors, m),
            "suffix": ("S", m),
            **{name: ("P", *shape) for name, shape in writer.outputs.items()},
        }
        for layer in range(config.layers):
            first, last = layer == 0, layer == config.layers - 1
            if not first:
                writer.go_on(fresh(layer))
            block = text.read_block(checkpoint, layer)
            writer.add_block(_NAME, block, first, last)
            build = writer.build
            if last:
                writer.add_features()
                results = {"states": "states", "features": "features"}
            else:
                results = writer.carried()
            moving = ["context"] if first else ["context", "suffix"]
            reads = {name: shapes[name] for name in moving} | dict(writer.inputs(first, last))
            gives = {value: shapes[name] for name, value in results.items()}
            if isinstance(build, TangentBuilder):
                reads |= {_TANGENTS[name]: _moved(shapes[name]) for name in moving}
                found = {_TANGENTS[name]: build.tangent(value) for name, value in results.items()}
                gives |= {found[_TANGENTS[name]]: _moved(shapes[name]) for name in results}
                results = results | found
            graph = build.finish(reads, gives, "text-block")
            again = _arrays(block).keys() & graph.weights if precision == "float32" else set[str]()
            fixed = _copied(graph, again)
            checkpoint.weights.release()
            kind = "first" if first else "last" if last else "middle"
            if kind not in self._sessions:
                self._sessions[kind] = Session(graph.unbound(), threads, shared=True)
                trim()  # the engine has been loaded, and this graph is compiled
            self._steps.append(_Step(self._sessions[kind], [*reads], results, again, fixed))
        trim()

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Return outputs of the whole graph, such as ``features`` (P, K, D) of ``context``
        (P, n, m)."""
        carried = dict(inputs)
        for layer, step in enumerate(self._steps):
            wanted = outputs if step is self._steps[-1] else [*step.results]
            given = {x: carried[x] for x in step.reads}
            found = step.session.run(
                [step.results[x] for x in wanted], given | step.fixed | self._again(layer)
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
    """One block: its session, what it ``reads`` of what came before, which of its values are
    ``results`` for the next one, names of the weights that are read for every call, and the others.
    """

    session: Session
    reads: list[str]
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


def _moved(shape: Sequence[int | str]) -> Sequence[int | str]:
    """The shape of a value's tangents."""
    return [one.lower() if isinstance(one, str) else one for one in shape]


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
