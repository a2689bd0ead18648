"""The image and the text tower of a checkpoint folder, as ONNX graphs with sessions."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharpzo.towers.checkpoint import Checkpoint, resolve
    from sharpzo.towers.preprocess import Preprocessing
    from sharpzo.towers.tower import OnnxImageTower, OnnxTextTower

__all__ = ["Checkpoint", "OnnxImageTower", "OnnxTextTower", "Preprocessing", "resolve"]

# Handed on lazily: onnx and onnxruntime are only imported by who builds a tower.
_HOME = {
    "Checkpoint": "checkpoint",
    "OnnxImageTower": "tower",
    "OnnxTextTower": "tower",
    "Preprocessing": "preprocess",
    "resolve": "checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
