"""Every method under its name; a module here is a family of methods and registers them.

A method of your own is one file with a ``register(Method(...))``, see docs/methods.md.
"""

from sharpzo.methods import coop, linear_probe, projection, prompt, zero_shot
from sharpzo.methods.registry import (
    METHODS,
    Fit,
    Images,
    Method,
    Task,
    find,
    fit,
    load_plugin,
    register,
)

__all__ = [
    "METHODS",
    "Fit",
    "Images",
    "Method",
    "Task",
    "coop",
    "find",
    "fit",
    "linear_probe",
    "load_plugin",
    "projection",
    "prompt",
    "register",
    "zero_shot",
]
