"""The command of docs/release.md runs as it stands there, on a tiny model and tree."""

import json
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sharpzo.cli.app import app

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "towers"), str(TESTS / "data")]


def test_the_command_of_the_docs(tmp_path):
    models = pytest.importorskip("random_models")
    from trees import coop_tree

    text = (TESTS.parent / "docs" / "release.md").read_text()
    program, *arguments = shlex.split(text.split("```sh\n")[1].splitlines()[0])
    assert program == "sharpzo"
    vision = {**models.VISION, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    models.save_clip(tmp_path / "model", models.TEXT, vision)
    rows = {
        split: [[f"{split}{i}{k}.jpg", k, name] for i in range(2) for k, name in enumerate(names)]
        for split in ("train", "val", "test")
        for names in [("River", "Forest")]
    }
    told = {
        "DATA": str(coop_tree(tmp_path / "data", rows)),
        "openai/clip-vit-base-patch16": str(tmp_path / "model"),
        "20000": "1",
        "release-20000": str(tmp_path / "run"),
    }
    assert told.keys() <= set(arguments)
    result = CliRunner().invoke(app, [told.get(word, word) for word in arguments])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["preset"], record["template"], record["steps"]) == (
        "release",
        "a photo of a {}.",
        1,
    )
    # One generation, and an evaluation before and after it.
    assert record["forwards"] == 1064 + 2
    assert record["stopped"] == "the planned number of steps was done"
