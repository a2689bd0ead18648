"""An export as a folder: made beside its place, put there when it has been checked."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Literal

from sharpzo.data.photo import Photo
from sharpzo.errors import InputError
from sharpzo.export.agreement import Agreement, Answer, compare
from sharpzo.export.classifier_graph import FAMILIARITY, PROBABILITIES, ClassifierGraph
from sharpzo.fitting.trained import Trained
from sharpzo.towers.preprocess import Preprocessing
from sharpzo.towers.runtime import Running, Session, cores
from sharpzo.types import Array

Format = Literal["onnx", "openvino"]
MODEL, AGREEMENT, SCRIPT = "model.onnx", "agreement.json", "classify.py"


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill; it gets the name ``out`` at the end, and is gone after a failure.

    Raises InputError if there is something of that name.
    """
    if out.exists() or out.is_symlink():
        raise InputError(f"{out} exists already; give a new name, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield made
        made.chmod(0o777 & ~_umask())
        os.rename(made, out)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def asset(name: str) -> bytes:
    """The content of a file that exports are made of."""
    return (files("sharpzo") / "assets" / "export" / name).read_bytes()


def write_model(
    trained: Trained,
    graph: ClassifierGraph,
    out: Path,
    photos: Sequence[Photo],
    source: str,
    lost: float,
    format: Format = "onnx",
) -> Agreement:
    """Write a folder with the model's file or files, ``agreement.json`` and, for ONNX with photos
    as its input, ``classify.py``.

    Raises EngineError, and writes nothing, where the answers are not those of predict on the
    photos of a ``source``.
    """
    with new_folder(out) as folder:
        ask = write_model_file(graph, trained, folder, format)
        multi = "multi" in graph.metadata
        found = compare(trained, ask, graph.threshold, photos, lost, source, multi)
        settle(found, graph, folder)
        if graph.signature == "photo" and format == "onnx":
            (folder / SCRIPT).write_bytes(asset("classify.py.txt"))
    return found


def write_model_file(
    graph: ClassifierGraph, trained: Trained, folder: Path, format: Format
) -> Answer:
    """Write the model into a folder, and return what asks it."""
    threads = trained.record.get("threads")
    (folder / MODEL).write_bytes(graph.whole())
    if format == "onnx":
        return answering(Session(folder / MODEL, threads), trained, graph)
    from sharpzo.export.openvino_model import FILE, Compiled, convert

    model = convert(folder / MODEL, graph.metadata)
    import openvino

    openvino.save_model(model, folder / FILE, compress_to_fp16=False)  # our own are narrow
    del model  # it holds the file
    (folder / MODEL).unlink()
    return answering(Compiled(folder / FILE, threads or cores()), trained, graph)


def settle(found: Agreement, graph: ClassifierGraph, folder: Path) -> None:
    """Require agreement, and write it down."""
    found.require(graph.precision)
    text = json.dumps(found.record() | dict(graph.metadata), indent=1, ensure_ascii=False)
    (folder / AGREEMENT).write_text(text, "utf-8")


def answering(session: Running, trained: Trained, graph: ClassifierGraph) -> Answer:
    """Ask a session about one photo."""
    wanted = [PROBABILITIES] if graph.threshold is None else [PROBABILITIES, FAMILIARITY]
    preprocessing = Preprocessing.open(trained.towers.checkpoint)

    def answer(photo: Array) -> tuple[Array, float | None]:
        value = photo if graph.signature == "photo" else preprocessing.apply(photo)[None]
        probabilities, *familiar = session.run(wanted, {graph.signature: value})
        return probabilities[0], float(familiar[0][0]) if familiar else None

    return answer


def _umask() -> int:
    """The mask of new files, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
