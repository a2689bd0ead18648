"""A checkpoint folder becomes two black boxes, image and text, as ONNX graphs with sessions."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Handed on lazily: onnx and onnxruntime are only imported by who builds a tower.
_HOME = {
    "Checkpoint": "checkpoint",
    "OnnxImageTower": "tower",
    "OnnxTextTower": "tower",
    "Preprocessing": "preprocess",
    "resolve": "checkpoint",
}
__all__ = ["Checkpoint", "OnnxImageTower", "OnnxTextTower", "Preprocessing", "resolve"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
