"""The errors of the package, one class for each remedy.

Every message says what was wrong, shows the value and says what to do. The command line prints
the message alone and ends with exit code 2.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any


class SharpzoError(Exception):
    """Root of every error that sharpzo raises on purpose."""


class InputError(SharpzoError, ValueError):
    """An argument, a photo or a folder is not usable; the caller can change it."""


class PhotoError(InputError):
    """One photo is not usable: ``photo`` names it, ``reason`` goes on with the sentence."""

    def __init__(self, photo: object, reason: str) -> None:
        super().__init__(str(photo), reason)
        self.photo, self.reason = str(photo), reason

    def __str__(self) -> str:
        return f"photo {self.photo} {self.reason}"


class PhotosError(InputError):
    """Some photos are not usable; ``errors`` has a `PhotoError` for each, ``many`` were tried.

    ``advice`` is what can be done about all of them.
    """

    def __init__(self, errors: Sequence[PhotoError], many: int, advice: str = "") -> None:
        super().__init__(errors, many, advice)
        self.errors, self.many, self.advice = tuple(errors), many, advice

    @property
    def lines(self) -> list[str]:
        """One for each photo, between what they have in common and the advice."""
        first = [str(error) for error in self.errors]
        if len(first) > 1:
            head = f"{len(first):,} of {self.many:,} photos cannot be used:"
            first = [head, *(f"  {line}" for line in first)]
        return [*first, self.advice] if self.advice else first

    def __str__(self) -> str:
        return "\n".join(self.lines)


class NotFittedError(InputError, AttributeError):
    """A classifier was used before it was fitted; scikit-learn's error of this name is alike."""


class CheckpointError(SharpzoError):
    """A model folder is incomplete, inconsistent or of an unknown architecture."""


class ArtifactError(SharpzoError):
    """A run folder is damaged, exists already or was made with another model."""


class EngineError(SharpzoError):
    """The inference runtime refused a graph or failed while running it."""


class BudgetError(SharpzoError):
    """A budget is too small for the work that was asked for."""


def optional(module: str, extra: str, what: str) -> Any:
    """Import a module that an extra of sharpzo installs; EngineError, with the command that does,
    if it is missing. ``what`` needs it."""
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise EngineError(
            f"{what} needs the package {package}; install it with: pip install 'sharpzo[{extra}]'"
        ) from None


def not_fitted(sentence: str) -> NotFittedError:
    """Make the error, which is scikit-learn's NotFittedError, too, where scikit-learn is loaded."""
    theirs = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
    if theirs is None:
        return NotFittedError(sentence)
    members = {"__reduce__": _reduce, "__module__": __name__}
    return type("NotFittedError", (NotFittedError, theirs), members)(sentence)


def _reduce(error: NotFittedError) -> tuple[Any, ...]:
    """How `not_fitted` makes the same again, in another process."""
    return not_fitted, error.args
