"""Every method under its name; a module here is a family of methods and registers them.

A method of your own is one file with a ``register(Method(...))``, see docs/methods.md.
"""

from sharpzo.methods import (
    blackvip,
    clap,
    coop,
    fgn,
    gda,
    ladder,
    linear_probe,
    lp_plus_plus,
    projection,
    proker,
    prolip,
    prompt,
    tip_adapter,
    zero_shot,
    zip,
    zo_sgd,
)
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
    "blackvip",
    "clap",
    "coop",
    "fgn",
    "find",
    "fit",
    "gda",
    "ladder",
    "linear_probe",
    "load_plugin",
    "lp_plus_plus",
    "projection",
    "proker",
    "prolip",
    "prompt",
    "register",
    "tip_adapter",
    "zero_shot",
    "zip",
    "zo_sgd",
]
