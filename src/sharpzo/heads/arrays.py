"""What a head is rebuilt from: the arrays of an artefact."""

from __future__ import annotations

from collections.abc import Container

from sharpzo.errors import ArtifactError


def require_arrays(arrays: Container[str], *names: str) -> None:
    """Raise ArtifactError for the first of these arrays that an artefact does not hold."""
    for name in names:
        if name not in arrays:
            raise ArtifactError(f"the artefact lacks the array '{name}'; fit the run again")
