"""Adapt a frozen vision-language model to your own photos with forward passes only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Nothing leaves this machine. ONNX Runtime reads its switch once, as it is imported, and by default
# reports the process, the system and every session to its vendor. All of sharpzo is imported
# through here, and child processes inherit it.
os.environ.update(
    ORT_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_TELEMETRY="1", RAY_USAGE_STATS_ENABLED="0"
)

__version__ = "0.1.0"
__all__ = ["Budget", "PromptClassifier", "SharpzoError", "__version__"]

if TYPE_CHECKING:
    from sharpzo.budget import Budget
    from sharpzo.classifier import PromptClassifier
    from sharpzo.errors import SharpzoError

_HOMES = {
    "Budget": "sharpzo.budget",
    "PromptClassifier": "sharpzo.classifier",
    "SharpzoError": "sharpzo.errors",
}


def __getattr__(name: str) -> Any:  # loaded on first use: importing sharpzo costs nothing
    if name not in _HOMES:
        raise AttributeError(f"module 'sharpzo' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
