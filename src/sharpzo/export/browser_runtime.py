"""ONNX Runtime for browsers: three files of the npm package onnxruntime-web, which PyPI does not
have. They come from a folder, from the package's archive, or once from the network."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from urllib.request import urlopen

from sharpzo.errors import InputError
from sharpzo.storage.files import write_atomically

VERSION = "1.30.0"
URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
SIZE = "33 MB to download, 14 MB to keep, MIT licence"
DOWNLOAD = "download"
API, GLUE, WASM = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
_SHA256 = {
    API: "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    GLUE: "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
_LARGEST = 64 << 20  # bytes of an archive
Runtime = Mapping[str, bytes]  # the three files by name


def find_runtime(given: str | None, cache: Path | None, url: str = URL) -> Runtime:
    """Return the files: of ``given``, a folder, an archive or `DOWNLOAD`, else of the ``cache``,
    where what was given is kept.

    Raises InputError where they are missing or others than those of `VERSION`.
    """
    kept = cache / f"onnxruntime-web-{VERSION}" if cache else None
    if given is None:
        found = {} if kept is None else _of_folder(kept)
        if not found:
            raise InputError(
                f"a web page needs onnxruntime-web {VERSION} ({SIZE}): give --runtime "
                f"{DOWNLOAD} to fetch it once, or the folder or archive that "
                f"'npm pack onnxruntime-web@{VERSION}' gives"
            )
    elif given == DOWNLOAD:
        found = (kept and _of_folder(kept)) or _of_archive(_fetched(url))
    elif os.path.isdir(given):
        places = (Path(given), Path(given) / "dist", Path(given) / "package" / "dist")
        found = next(filter(None, map(_of_folder, places)), {})
    elif os.path.isfile(given):
        found = _of_archive(Path(given).read_bytes())
    else:
        raise InputError(f"there is no folder or archive {given} of onnxruntime-web")
    for name, digest in _SHA256.items():
        if hashlib.sha256(found.get(name, b"")).hexdigest() != digest:
            where = "what is kept" if given is None else given
            raise InputError(
                f"{where} has no {name} of onnxruntime-web {VERSION}; give the archive of "
                f"'npm pack onnxruntime-web@{VERSION}', or --runtime {DOWNLOAD}"
            )
    if kept is not None and given is not None:
        kept.mkdir(parents=True, exist_ok=True)
        for name, blob in found.items():
            write_atomically(kept / name, blob)
    return found


def _of_folder(folder: Path) -> dict[str, bytes]:
    """The files in a folder; nothing unless all are there."""
    if not all((folder / name).is_file() for name in _SHA256):
        return {}
    return {name: (folder / name).read_bytes() for name in _SHA256}


def _of_archive(blob: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(blob), mode="r:gz") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name in _SHA256 and member.isfile() and member.size <= _LARGEST:
                    read = archive.extractfile(member)
                    found[name] = read.read() if read else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(
            f"the archive of onnxruntime-web cannot be read ({error}); get it again"
        ) from None
    return found


def _fetched(url: str, opener: Callable[..., io.BufferedIOBase] = urlopen) -> bytes:
    try:
        with opener(url, timeout=60) as answer:
            return answer.read(_LARGEST)
    except OSError as error:
        raise InputError(
            f"{url} could not be downloaded ({error}); get it with "
            f"'npm pack onnxruntime-web@{VERSION}' elsewhere, and give the file as --runtime"
        ) from None
