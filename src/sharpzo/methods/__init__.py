"""Every method under its name; the modules here register theirs when they are needed.

A method of your own is one file with a ``register(Method(...))``, see docs/methods.md.
"""

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
    "find",
    "fit",
    "load_plugin",
    "register",
]
