"""A classifier's graph as OpenVINO's files.

OpenVINO reads the nodes of our graph, but resizes otherwise than ONNX defines it (2026.4: a
antialiased cubic Resize is off by up to 154 levels of 255). Its own operation of Pillow's filter
takes that node's place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sharpzo.errors import EngineError
from sharpzo.towers.runtime import open_core
from sharpzo.types import Array

FILE = "model.xml"


def convert(onnx_file: Path, metadata: Mapping[str, str]) -> Any:
    """Return OpenVINO's model of a classifier's ONNX file, with the same inputs and outputs and
    the ``metadata`` under ``sharpzo`` of its runtime information.

    Raises EngineError if OpenVINO is missing or does not read the file.
    """
    core = open_core()
    import openvino
    import openvino.opset13 as ops

    try:
        model = core.read_model(onnx_file)
        for node in model.get_ops():
            if node.get_type_name() != "Interpolate":
                continue
            mode = "bicubic_pillow" if node.get_attributes()["mode"] == "cubic" else None
            sides = ops.gather(
                node.input_value(1), np.array([2, 3], np.int64), np.array(0, np.int64)
            )
            resized = ops.interpolate(
                node.input_value(0), sides, mode or "bilinear_pillow", "sizes",
                axes=np.array([2, 3], np.int64), cube_coeff=-0.5,
            )  # fmt: skip
            openvino.utils.replace_node(node, resized)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO does not read the graph: {error}") from error
    for key, value in metadata.items():
        model.set_rt_info(value, ["sharpzo", key])
    return model


class Compiled:
    """OpenVINO's files as a session: ``run`` as `towers.runtime.Session` has it."""

    def __init__(self, file: Path, threads: int) -> None:
        core = open_core()
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        self._request: Any = core.compile_model(file, "CPU", options).create_infer_request()

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Return several outputs of one run, float32."""
        self._request.infer(dict(inputs))
        return [np.array(self._request.get_tensor(name).data, np.float32) for name in outputs]

    def close(self) -> None:
        """Give the memory back."""
        self._request = None
