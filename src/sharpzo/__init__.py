"""Adapt a frozen vision-language model to your own photos with forward passes only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Nothing leaves this machine. ONNX Runtime reads its switch once, as it is imported, and by default
# reports the process, the system and every session to its vendor. All of sharpzo is imported
# through here, and child processes inherit it.
os.environ.update(
    ORT_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    RAY_USAGE_STATS_ENABLED="0",
    MLFLOW_DISABLE_TELEMETRY="true",
)

__version__ = "0.1.0"
__all__ = [
    "Budget",
    "ContextMethod",
    "ContextSettings",
    "Fit",
    "Fraction",
    "LinearHead",
    "LossObjective",
    "LossesAt",
    "Method",
    "Models",
    "PromptClassifier",
    "PromptObjective",
    "Reason",
    "Search",
    "SearchMethod",
    "SearchingSettings",
    "Settings",
    "SharpzoError",
    "Task",
    "__version__",
    "context_fit",
    "generator",
    "linear_contexts",
    "normalise",
    "register",
    "search_until_spent",
]

if TYPE_CHECKING:
    from sharpzo.budget import Budget
    from sharpzo.classifier import PromptClassifier
    from sharpzo.errors import SharpzoError
    from sharpzo.linear import LinearHead
    from sharpzo.methods.registry import Fit, Method, Task, register
    from sharpzo.methods.searching import (
        ContextMethod,
        ContextSettings,
        SearchingSettings,
        SearchMethod,
        context_fit,
        linear_contexts,
        search_until_spent,
    )
    from sharpzo.metrics import normalise
    from sharpzo.models import Models
    from sharpzo.optim import Search
    from sharpzo.rng import generator
    from sharpzo.settings import Fraction, Settings
    from sharpzo.tuning.objective import PromptObjective
    from sharpzo.types import LossesAt, LossObjective, Reason

_HOMES = {
    "budget": ["Budget"],
    "classifier": ["PromptClassifier"],
    "errors": ["SharpzoError"],
    "linear": ["LinearHead"],
    "methods": ["Fit", "Method", "Task", "register"],
    "methods.searching": [
        "ContextMethod",
        "ContextSettings",
        "SearchMethod",
        "SearchingSettings",
        "context_fit",
        "linear_contexts",
        "search_until_spent",
    ],
    "metrics": ["normalise"],
    "models": ["Models"],
    "optim": ["Search"],
    "rng": ["generator"],
    "settings": ["Fraction", "Settings"],
    "tuning.objective": ["PromptObjective"],
    "types": ["LossObjective", "LossesAt", "Reason"],
}


def __getattr__(name: str) -> Any:  # loaded on first use: importing sharpzo costs nothing
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"sharpzo.{home}"), name)
    raise AttributeError(f"module 'sharpzo' has no attribute '{name}'")
