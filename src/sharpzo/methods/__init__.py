"""Every method under its name; the modules here register theirs.

A method of your own is one file with a ``register(Method(...))``, see docs/methods.md.
"""

from importlib import import_module
from pkgutil import iter_modules

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

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
