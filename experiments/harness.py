"""What these scripts share: arguments, draws, development photos, lines of results, their pages.

A script is run by its path, so it puts this folder on its path first. DATASETS, its ``--data``,
holds ``eurosat/`` and ``caltech-101/`` in CoOp's layout; Fashion-MNIST is the demo's. Everything is
measured on the embedded model.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from sharpzo.data.dataset import Dataset, LabelledPhotos
from sharpzo.data.demo import load_demo
from sharpzo.data.few_shot import draw as draw_few
from sharpzo.data.loading import load

SEEDS = (1, 2, 3)
DEMO = ("demo", "fashion-mnist")
DOCS = Path(__file__).parents[1] / "docs"


def parser(
    doc: str | None, data_sets: Sequence[str] = (), cells: Iterable[str] = ()
) -> argparse.ArgumentParser:
    """The arguments that every script takes; ``--datasets`` and ``--cells`` where there are any."""
    found = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--data", type=Path, default=Path("datasets"))
    found.add_argument("--cache", type=Path, default=Path("datasets/cache"))
    found.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    if data_sets:
        found.add_argument("--datasets", nargs="+", default=list(data_sets))
    if cells := list(cells):
        found.add_argument("--cells", nargs="+", choices=cells, default=cells)
    return found


def draw(data: Path, name: str, seed: int, shots: int = 16) -> Dataset:
    """A draw of a data set; of the demo, whose draw has 16 shots, fewer are drawn again."""
    if name not in DEMO:
        return load(data, name, shots=shots, seed=seed)
    demo = load_demo(seed)
    return demo if shots == 16 else draw_few(demo, shots, seed)


def development(data: Path, name: str, seed: int) -> LabelledPhotos:
    """Held-out development photos: those of the other seeds' draws that this draw does not hold."""
    own = draw(data, name, seed)
    seen = {photo.digest() for part in (own.train, own.val) if part for photo in part.photos}
    photos, labels = [], []
    for other in SEEDS:
        drawn = draw(data, name, other)
        for part in (drawn.train, drawn.val):
            for photo, label in zip(part.photos, part.labels, strict=True) if part else ():
                if (digest := photo.digest()) not in seen:
                    seen.add(digest)
                    photos.append(photo)
                    labels.append(int(label))
    return LabelledPhotos(tuple(photos), np.array(labels), own.class_names)


class Lines:
    """Results, one JSON object per line; ``key`` names the fields that tell runs apart."""

    def __init__(self, script: str, name: str, *key: str) -> None:
        self.path = Path(script).parent / name
        self.key = key

    def read(self) -> list[dict[str, Any]]:
        """All lines, none if there is no file."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text("utf-8").splitlines()]

    def done(self) -> set[tuple[Any, ...]]:
        """The keys of the runs that are there."""
        return {tuple(line[name] for name in self.key) for line in self.read()}

    def append(self, line: Mapping[str, Any]) -> None:
        """Keep a run and show it."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), file=sys.stderr, flush=True)


def show(values: Iterable[float], digits: int = 1, sign: str = "") -> str:
    """Mean ± standard deviation over seeds; without the latter of a single one."""
    found = list(values)
    spread = f" ± {np.std(found, ddof=1):.{digits}f}" if len(found) > 1 else ""
    return f"{np.mean(found):{sign}.{digits}f}{spread}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def publish(page: str, parts: Mapping[str, str], write: bool) -> None:
    """Print tables; with ``write`` put each between its markers in a page of docs/."""
    path = DOCS / page
    text = path.read_text("utf-8")
    for name, part in parts.items():
        print(f"## {name}\n\n{part}")
        marks = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        into: Callable[[re.Match[str]], str] = lambda m, part=part: f"{m[1]}\n{part}\n{m[2]}"  # noqa: E731
        text, many = re.subn(marks, into, text, flags=re.DOTALL)
        if write and many != 1:
            raise SystemExit(f"{path} has {many} places for {name}; one is needed")
    if write:
        path.write_text(text, "utf-8")
