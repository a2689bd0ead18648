"""Every method under its name; a module here is a family of methods and registers them.

A method of your own is one file with a ``register(Method(...))``, see docs/methods.md.
"""

from sharpzo.methods import (  # noqa: F401  (each registers its methods)
    blackvip,
    clap,
    cma_es,
    coop,
    fgn,
    gda,
    image_ladder,
    ladder,
    linear_probe,
    lp_plus_plus,
    projection,
    proker,
    prolip,
    sharpzo_prompt,
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
    "find",
    "fit",
    "load_plugin",
    "register",
]
