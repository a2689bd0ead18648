"""OpenVINO sessions: the same graphs, and bfloat16 arithmetic where the processor has it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sharpzo.errors import EngineError, optional
from sharpzo.towers.graph import Graph
from sharpzo.types import Array


def open_core(bfloat16: bool = False) -> Any:
    """Return OpenVINO's core; raises `EngineError` if it is missing, or bfloat16 on this processor
    is."""
    # Its converter, which nothing here calls, is imported with it and leaves a client id in the
    # user's home folder, unless the package that reports what was converted is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    core = optional("openvino", "openvino", "engine openvino").Core()
    if bfloat16 and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise EngineError(
            "this processor has no bfloat16 arithmetic (AVX512-BF16 or AMX), so it would save "
            "nothing; use float32"
        )
    return core


class OpenVinoSession:
    """One graph, compiled for every batch size that it meets.

    Static shapes are several times faster here than a free batch, so a call that is smaller than
    the largest before it is filled up with copies of its last row. Raises `EngineError` if
    OpenVINO is missing (see `open_core`) or refuses the graph.
    """

    def __init__(self, graph: Graph, threads: int, bfloat16: bool = False) -> None:
        self._core: Any = open_core(bfloat16)
        self._options = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        try:
            with TemporaryDirectory() as folder:
                # read_model maps the weights' file; compiling copies what it needs.
                self._model: Any = self._core.read_model(graph.save(folder))
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
        batch = max(len(rows), *self._requests)
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
            self._requests = {batch: compiled.create_infer_request()}
        return self._requests[batch]
