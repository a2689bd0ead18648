"""The errors a person can meet, told apart by what the reader can do about them.

Every message says what was wrong, shows the value and says what to do. The command line prints
the message alone and ends with exit code 2.
"""

from __future__ import annotations


class SharpzoError(Exception):
    """Root of every error that sharpzo raises on purpose."""


class InputError(SharpzoError, ValueError):
    """An argument, a photo or a folder is not usable; the caller can change it."""


class CheckpointError(SharpzoError):
    """A model folder is incomplete, inconsistent or of an unknown architecture."""


class ArtifactError(SharpzoError):
    """A run folder is damaged, exists already or was made with another model."""


class EngineError(SharpzoError):
    """The inference runtime refused a graph or failed while running it."""


class BudgetError(SharpzoError):
    """A budget is too small for the work that was asked for."""
