"""The command line as a person types it, and a few photos of the demo in folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharpzo.cli import main
from sharpzo.data.demo import load_demo

CLASSES = ("sandal", "dress", "bag")
FAST = ("--method", "projection")


def demo_folder(root: Path, classes=CLASSES, **per_class: int) -> Path:
    """Write ``root/SPLIT/CLASS/ROW.png``; a mapping of ``classes`` gives them other names."""
    demo = load_demo(1)
    names = classes if isinstance(classes, dict) else dict(zip(classes, classes, strict=True))
    for split, many in per_class.items():
        labelled = getattr(demo, split)
        for name, known in names.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for row in np.flatnonzero(labelled.labels == demo.class_names.index(known))[:many]:
                Image.fromarray(labelled.photos[row].decode()).save(folder / f"{row}.png")
    return root


def call(*arguments) -> int:
    """Run a command; return its exit code."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code or 0
    return 0


def answer(capsys, code, *arguments):
    """What a command prints (``out`` and ``err``) that ends with this code."""
    capsys.readouterr()
    found = call(*arguments)
    printed = capsys.readouterr()
    assert found == code, printed.err
    assert "Traceback" not in printed.err
    return printed


def document(capsys, *arguments):
    """The JSON document of a command that succeeds, which prints nothing else."""
    printed = answer(capsys, 0, *arguments, "--json")
    assert printed.err == ""
    return json.loads(printed.out, parse_constant=pytest.fail)


def sentence_of(capsys, code, *arguments) -> str:
    """The one sentence that a command ends with."""
    lines = answer(capsys, code, *arguments).err.splitlines()
    (sentence,) = [line for line in lines if line.startswith("sharpzo: ")]
    return sentence


def refused(capsys, *arguments) -> str:
    """The one sentence of an error with exit code 2."""
    return sentence_of(capsys, 2, *arguments)
