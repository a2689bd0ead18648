"""A classifier as a web page: a folder that a browser opens, from a disk or a server, offline.

Everything is in scripts, as a page that is opened from a disk may fetch no file; its policy
forbids every connection.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from sharpzo.data.photo import Photo
from sharpzo.export.agreement import Agreement, compare
from sharpzo.export.browser_runtime import API, GLUE, VERSION, WASM, Runtime
from sharpzo.export.bundle import MODEL, asset, new_folder, settle, write_model_file
from sharpzo.export.classifier_graph import ClassifierGraph
from sharpzo.fitting.trained import Trained

_MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy of this
software and associated documentation files (the "Software"), to deal in the Software without
restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def write_site(
    trained: Trained,
    graph: ClassifierGraph,
    out: Path,
    photos: Sequence[Photo],
    source: str,
    lost: float,
    runtime: Runtime,
) -> Agreement:
    """Write a folder with index.html, and what it needs; the model is checked as any export is.

    Raises EngineError, and writes nothing, where it disagrees with predict on the photos.
    """
    with new_folder(out) as folder:
        ask = write_model_file(graph, trained, folder, "onnx")
        found = compare(trained, ask, graph.threshold, photos, lost, source)
        settle(found, graph, folder)
        model = folder / MODEL
        parts = {"about": dict(graph.metadata), "model": _text(model.read_bytes())}
        _script(folder / "model.js", "CLASSIFIER", parts)
        model.unlink()
        (folder / "runtime.js").write_bytes(runtime[API])
        parts = {"glue": _text(runtime[GLUE]), "wasm": _text(runtime[WASM])}
        _script(folder / "runtime-data.js", "RUNTIME", parts)
        for name in ("index.html", "page.js"):
            (folder / name).write_bytes(asset(f"site/{name}"))
        (folder / "LICENCES.txt").write_text(
            f"model.js\n{graph.metadata['licence']}\n\nindex.html, page.js\nsharpzo, Apache-2.0\n\n"
            f"runtime.js, runtime-data.js\nONNX Runtime Web {VERSION}, Copyright (c) Microsoft "
            f"Corporation, MIT licence:\n\n{_MIT}",
            "utf-8",
        )
    return found


def _script(file: Path, name: str, value: object) -> None:
    """Write a script that sets a global to a value that JSON has, without line ends in it."""
    text = json.dumps(value).replace("<", "\\u003c")
    file.write_text(f"window.{name} = {text};\n", "utf-8")


def _text(blob: bytes) -> str:
    return base64.b64encode(blob).decode("ascii")
