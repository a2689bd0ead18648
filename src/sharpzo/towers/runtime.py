"""Which engine computes a tower, in which precision, on how many cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from sharpzo.errors import InputError
from sharpzo.settings import integer
from sharpzo.towers.precision import Precision
from sharpzo.types import SINGLE, Array

if TYPE_CHECKING:
    from sharpzo.towers.graph import Graph

Engine = Literal["onnxruntime", "openvino", "cuda"]
Arithmetic = Literal[Precision, "bfloat16"]
# Weight-only precisions need a runtime that leaves the matrices as they are until they are used;
# bfloat16 is arithmetic, and needs a processor that has it.
_PRECISIONS: dict[str, tuple[str, ...]] = {
    "onnxruntime": get_args(Precision),
    "openvino": ("float32", "bfloat16"),
    "cuda": ("float32",),
}

MOST_THREADS = 1024  # of the largest machines; far more take minutes to start, and then fail


class Running(Protocol):
    """A compiled graph of any engine."""

    def run_many(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Return several outputs of one run, float32."""
        ...

    def close(self) -> None:
        """Give the memory of the session back."""
        ...


@dataclass(frozen=True)
class Runtime:
    """``engine`` onnxruntime, openvino or cuda; ``precision`` float32, with openvino also bfloat16,
    with onnxruntime also float16, int8 or int4 for matrices alone; ``threads`` None: all cores
    that this process may use.

    Raises `InputError` for what an engine cannot do.

    >>> Runtime(precision="int8").weights
    'int8'
    """

    engine: Engine = "onnxruntime"
    precision: Arithmetic = "float32"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.engine not in _PRECISIONS:
            raise InputError(f"engine is {self.engine!r}; give one of {', '.join(_PRECISIONS)}")
        able = _PRECISIONS[self.engine]
        if self.precision not in able:
            others = [e for e, precisions in _PRECISIONS.items() if self.precision in precisions]
            hint = f"; {self.precision} needs engine {' or '.join(others)}" if others else ""
            raise InputError(
                f"precision is {self.precision!r}; engine {self.engine} has {', '.join(able)}{hint}"
            )
        threads = self.threads
        if threads is None:
            return
        threads = integer("threads", threads)
        if threads < 1:
            raise InputError(f"threads is {threads}; give 1 or more, or nothing for all cores")
        if threads > MOST_THREADS:
            raise InputError(
                f"threads is {threads:,}, more than the {MOST_THREADS:,} that can be of use; give "
                "the number of cores, or nothing for all"
            )
        object.__setattr__(self, "threads", threads)

    @property
    def weights(self) -> Precision:
        """What the graph keeps its matrices in."""
        return "float32" if self.precision == "bfloat16" else self.precision

    @property
    def rounding(self) -> float:
        """Relative error of one operation; matrices of fewer bits are multiplied in float32."""
        return 2**-9 if self.precision == "bfloat16" else SINGLE

    def check(self) -> None:
        """Raise `EngineError` if the engine cannot run here, before there is a graph."""
        if self.engine == "openvino":
            from sharpzo.towers.openvino import open_core

            open_core(self.precision == "bfloat16")
        elif self.engine == "cuda":
            from sharpzo.towers.session import require_cuda

            require_cuda()

    def open(self, graph: Graph) -> Running:
        """Compile a graph; raises `EngineError` if the engine is missing or refuses."""
        if self.engine == "openvino":
            from sharpzo.towers.openvino import OpenVinoSession

            return OpenVinoSession(graph, self.threads, bfloat16=self.precision == "bfloat16")
        from sharpzo.towers.session import Session

        return Session(graph, self.threads, cuda=self.engine == "cuda")
