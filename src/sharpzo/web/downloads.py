"""Folders as zip files."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import IO


def zipped(folder: Path, to: IO[bytes] | None = None) -> bytes:
    """A folder as a zip file with it at its top, written ``to`` a file or returned."""
    out = to or io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.is_symlink():
                archive.write(file, Path(folder.name, file.relative_to(folder)))
    return b"" if to else out.getvalue()  # type: ignore[union-attr]
