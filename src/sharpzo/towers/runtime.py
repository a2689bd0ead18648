"""Engine, precision and threads of a tower, and sessions of ONNX Runtime and of OpenVINO, which has
bfloat16 arithmetic where the processor has it."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, get_args

import numpy as np
from msgspec import Meta

from sharpzo.errors import EngineError, InputError, optional
from sharpzo.settings import Settings
from sharpzo.types import SINGLE, Array, Precision

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
_CGROUP = Path("/sys/fs/cgroup")
# As many as the largest machines have; far more take minutes to start, and then fail.
Threads = Annotated[int, Meta(ge=1, le=1024, description="a number of cores from 1 to 1024")]


class Running(Protocol):
    """A compiled graph of any engine."""

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Return several outputs of one run, float32."""
        ...

    def close(self) -> None:
        """Give the memory of the session back."""
        ...


@dataclass(frozen=True)
class Runtime(Settings):
    """``engine`` onnxruntime, openvino or cuda; ``precision`` float32, with openvino also bfloat16,
    with onnxruntime also float16, int8 or int4 for matrices alone; ``threads`` None: all cores
    that this process may use.

    Raises `InputError` for what an engine cannot do.

    >>> Runtime(precision="int8").weights
    'int8'
    """

    engine: Engine = "onnxruntime"
    precision: Arithmetic = "float32"
    threads: Threads | None = None

    def check(self) -> None:
        """Raise `InputError` for a precision that the engine does not have."""
        able = _PRECISIONS[self.engine]
        if self.precision not in able:
            others = [e for e, precisions in _PRECISIONS.items() if self.precision in precisions]
            raise InputError(
                f"precision is {self.precision!r}; engine {self.engine} has {', '.join(able)}; "
                f"{self.precision} needs engine {' or '.join(others)}"
            )

    @property
    def weights(self) -> Precision:
        """What the graph keeps its matrices in."""
        return "float32" if self.precision == "bfloat16" else self.precision

    @property
    def rounding(self) -> float:
        """Relative error of one operation; matrices of fewer bits are multiplied in float32."""
        return 2**-9 if self.precision == "bfloat16" else SINGLE

    def require(self) -> None:
        """Raise `EngineError` if the engine cannot run here, before there is a graph."""
        if self.engine == "openvino":
            open_core(self.precision == "bfloat16")
        elif self.engine == "cuda":
            ort = _onnx_runtime()
            if "CUDAExecutionProvider" not in ort.get_available_providers():
                raise EngineError(
                    "engine cuda needs the package onnxruntime-gpu and an NVIDIA card; this ONNX "
                    f"Runtime {ort.__version__} has none: use engine onnxruntime"
                )

    def open(self, graph: Graph) -> Running:
        """Compile a graph; raises `EngineError` if the engine is missing or refuses."""
        if self.engine == "openvino":
            return OpenVinoSession(
                graph, self.threads or cores(), bfloat16=self.precision == "bfloat16"
            )
        return Session(graph, self.threads, cuda=self.engine == "cuda")

    def start(self, file: Path) -> Session:
        """Run a graph that is in a file, as it is; raises `InputError` where that cannot be, and
        what `open` raises."""
        if self.engine == "openvino" or self.precision != "float32":
            raise InputError(
                f"an ONNX file is run as it is, by onnxruntime or cuda in float32, not by "
                f"{self.engine} in {self.precision}; leave out engine and precision"
            )
        return Session(file, self.threads, cuda=self.engine == "cuda")


class Session:
    """One compiled graph, built or in a file; ``run`` maps named float32 arrays to the wanted
    outputs.

    ``cuda``: on the graphics processor, in true float32. ``shared``: one arena for all sessions
    that say so, which stays when they are closed. Raises `EngineError` if the runtime refuses the
    graph or fails while running it.
    """

    def __init__(
        self,
        graph: Graph | Path,
        threads: int | None = None,
        cuda: bool = False,
        shared: bool = False,
    ) -> None:
        ort = _onnx_runtime()
        providers: list[Any] = ["CPUExecutionProvider"]
        if cuda:
            providers.insert(0, ("CUDAExecutionProvider", {"use_tf32": "0"}))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # An arena keeps its peak for ever, but our calls are bounded in size; measured with a text
        # tower of width 256 in one graph: 130 against 137 MB and 5 to 8 % less time than without.
        options.enable_cpu_mem_arena = True
        if shared:
            _share_arena()
            options.add_session_config_entry("session.use_env_allocators", "1")
        options.enable_mem_pattern = False  # plans for one shape; the last batch may be shorter
        options.log_severity_level = 3
        # Spinning threads take the cores from each other and from others: two threads on two busy
        # cores, 6.9 instead of 9.6 ms per forward without spinning.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._kept: list[Any] = []
        if isinstance(graph, Path):  # its weights are mapped from the file beside it
            model: str | bytes = str(graph)
        else:
            model = graph.model.SerializeToString()
            self._keep(graph, options)
        try:
            self._session: Any = ort.InferenceSession(model, options, providers=providers)
        except Exception as error:  # the runtime's exceptions share no base of their own
            raise EngineError(
                f"ONNX Runtime {ort.__version__} refused the graph: {error}"
            ) from error

    def _keep(self, graph: Graph, options: Any) -> None:
        """Hand a graph's weights over.

        The runtime may read these arrays in place, so they are kept as long as the session. (1.32
        copies them, packed or not: `Graph.unbound` is the way to hold weights once.)
        """
        ort = _onnx_runtime()
        self._kept = [ort.OrtValue.ortvalue_from_numpy(a) for a in graph.weights.values()]
        options.add_external_initializers(list(graph.weights), self._kept)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        if self._session is None:
            raise EngineError("the session is closed; make a new tower")
        try:
            found = self._session.run(list(outputs), dict(inputs))
        except Exception as error:
            shapes = {name: array.shape for name, array in inputs.items()}
            raise EngineError(f"ONNX Runtime failed on inputs {shapes}: {error}") from error
        return [np.asarray(values) for values in found]

    def close(self) -> None:
        self._session = None
        self._kept = []


class OpenVinoSession:
    """One graph, compiled for every batch size that it meets.

    Static shapes are several times faster here than a free batch, so a call that is smaller than
    the largest before it is filled up with copies of its last row. ``alone``: one row is not; the
    graph for it stays beside that of many. Raises `EngineError` if OpenVINO is missing (see
    `open_core`) or refuses the graph.
    """

    def __init__(
        self, graph: Graph | Path, threads: int, bfloat16: bool = False, alone: bool = False
    ) -> None:
        self._alone = alone
        self._core: Any = open_core(bfloat16)
        self._options = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        try:
            with TemporaryDirectory() as folder:
                file = graph if isinstance(graph, Path) else graph.save(folder)
                # read_model maps the weights' file; compiling copies what it needs.
                self._model: Any = self._core.read_model(file)
                # The input whose first axis is free, and the others' fixed shapes.
                self._batched = next(
                    port.any_name for port in self._model.inputs if port.partial_shape[0].is_dynamic
                )
                self._requests: dict[int, Any] = {}
                self._request(1)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO refused the graph: {error}") from error

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        if self._core is None:
            raise EngineError("the session is closed; make a new tower")
        rows = inputs[self._batched]
        one = self._alone and len(rows) == 1
        batch = 1 if one else max(len(rows), *self._requests)
        if batch > len(rows):
            filling = np.repeat(rows[-1:], batch - len(rows), axis=0)
            inputs = {**inputs, self._batched: np.concatenate([rows, filling])}
        request = self._request(batch)
        try:
            request.infer(dict(inputs))
        except RuntimeError as error:
            shapes = {name: array.shape for name, array in inputs.items()}
            raise EngineError(f"OpenVINO failed on inputs {shapes}: {error}") from error
        found = [np.array(request.get_tensor(name).data, np.float32) for name in outputs]
        return [values[: len(rows)] if len(values) == batch else values for values in found]

    def close(self) -> None:
        self._core = self._model = None
        self._requests = {}

    def _request(self, batch: int) -> Any:
        if batch not in self._requests:
            shape = self._model.input(self._batched).partial_shape
            shape[0] = batch
            self._model.reshape({self._batched: shape})
            compiled = self._core.compile_model(self._model, "CPU", self._options)
            kept = {size: one for size, one in self._requests.items() if self._alone and size == 1}
            self._requests = {**kept, batch: compiled.create_infer_request()}
        return self._requests[batch]


def open_core(bfloat16: bool = False, what: str = "engine openvino") -> Any:
    """Return OpenVINO's core, which ``what`` needs; raises `EngineError` if it is missing, or
    bfloat16 on this processor is."""
    # Its converter, which nothing here calls, is imported with it and leaves a client id in the
    # user's home folder, unless the package that reports what was converted is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    core = _core(optional("openvino", "openvino", what))
    if bfloat16 and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise EngineError(
            "this processor has no bfloat16 arithmetic (AVX512-BF16 or AMX), so it would save "
            "nothing; use float32"
        )
    return core


@cache
def _core(openvino: Any) -> Any:
    """The only one of this process. Each gives the thread a stack for signal handlers and, when it
    ends, the one before it: where the first of two ends first, that is gone, and Ctrl-C ends the
    process by a segmentation fault."""
    return openvino.Core()


def cores() -> int:
    """Return how many cores this process may use: affinity and cgroup quota, at least 1.

    ONNX Runtime itself counts the machine's cores and would start 32 threads in a container that
    may use two (onnxruntime issue 29510).
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        count = os.cpu_count() or 1
    return max(1, min(count, _quota()))


def _quota() -> int:
    """Return the cgroup's share of processors, rounded up; a large number without a limit."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()  # cgroup 2
    except (OSError, ValueError):
        try:
            quota = (_CGROUP / "cpu/cpu.cfs_quota_us").read_text().strip()  # cgroup 1
            period = (_CGROUP / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return 1 << 16
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:  # "max" or -1
        return 1 << 16
    return math.ceil(int(quota) / int(period))


@cache
def _onnx_runtime() -> Any:
    """Return ONNX Runtime without its reports (see `sharpzo`): this call is all that Windows builds
    know, and all that helps if the runtime was imported before sharpzo."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


@cache
def _share_arena() -> None:
    """Make the arena that sessions share: it grows by what is asked for, and splits what it has.

    Measured with ViT-B/16's text tower in int8, block by block: 15 MB, where an arena for each of
    three sessions took 21, and none 17 in holes that glibc leaves between aligned blocks.
    """
    ort = _onnx_runtime()
    kind, memory = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
    settings = ort.OrtArenaCfg(
        {"arena_extend_strategy": 1, "initial_chunk_size_bytes": 1, "max_dead_bytes_per_chunk": 1}
    )
    ort.create_and_register_allocator(ort.OrtMemoryInfo("Cpu", kind, 0, memory), settings)
