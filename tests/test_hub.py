"""Runs on a hub: a local folder, a local server that speaks its protocol, and what a card says."""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from hub_server import serving
from sharpzo import PromptClassifier, hub
from sharpzo.data.demo import load_demo
from sharpzo.errors import ArtifactError, InputError

FILES = {"README.md", "arrays.safetensors", "history.jsonl", "run.json"}
AWAY = """
import json, os, sys
from sharpzo import PromptClassifier, errors
run, name = sys.argv[1:3]
classifier = PromptClassifier.load(run)
said = {"url": classifier.push_to_hub(name, token="secret")}
classifier.push_to_hub("me/parts", token="secret")
found = PromptClassifier.from_pretrained(name, token="secret")
said["classes"] = found.classes_.tolist()
os.environ["HF_HUB_OFFLINE"] = "1"
said["again"] = PromptClassifier.from_pretrained(name, local_files_only=True).record_["method"]
for what in (
    lambda: classifier.push_to_hub(name, token="wrong"),
    lambda: PromptClassifier.from_pretrained("me/none", token="secret"),
):
    try:
        what()
    except errors.ArtifactError as error:
        said.setdefault("refused", []).append(str(error))
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def classifier():
    demo = load_demo(1)
    rows = [row for k in range(3) for row in np.flatnonzero(demo.train.labels == k)[:2]]
    photos = [demo.train.photos[row].decode() for row in rows]
    labels = [demo.class_names[demo.train.labels[row]] for row in rows]
    return PromptClassifier().fit(photos, labels)


def test_a_folder_is_written_and_read(classifier, tmp_path):
    folder = classifier.save_pretrained(tmp_path / "shared")
    assert {path.name for path in folder.iterdir()} == FILES
    found = PromptClassifier.from_pretrained(folder)
    assert found.classes_.tolist() == classifier.classes_.tolist()
    photo = load_demo(1).test.photos[0].decode()
    assert np.array_equal(found.predict_proba(photo), classifier.predict_proba(photo))


def test_nothing_is_overwritten(classifier, tmp_path):
    """The hub's own mixin removes a config.json that it finds, such as a model's."""
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="not empty"):
        classifier.save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="is no folder"):
        classifier.save_pretrained(tmp_path / "config.json")
    assert (tmp_path / "config.json").read_text() == "{}"


def test_a_server_gets_the_run_and_gives_it_back(classifier, tmp_path):
    """In a process of its own, whose hub is the local one from the start."""
    run = classifier.save(tmp_path / "run")
    with serving(token="secret") as server:
        environment = {
            **os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"),
            "NO_PROXY": "127.0.0.1,localhost", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", AWAY, str(run), "me/clothes"],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout.splitlines()[-1])
        files = server.files["me/clothes"]
        assert files.keys() >= FILES
        arrays = (run / "arrays.safetensors").read_bytes()
        assert files["arrays.safetensors"] == arrays
        oid = hashlib.sha256(arrays).hexdigest()
        puts = [line.removeprefix(f"PUT /lfs/{oid}") for line in server.asked if "PUT" in line]
        assert puts == ["", "/1", "/2", "/3"]  # once whole, once in parts
        assert server.files["me/parts"]["arrays.safetensors"] == arrays
        assert server.private["me/clothes"] is True
        assert said["url"].startswith(f"{server.url}/me/clothes/commit/")
    assert said["classes"] == classifier.classes_.tolist()
    assert said["again"] == "ladder+tokens"
    pushed, fetched = said["refused"]
    assert "me/clothes was not pushed to the hub: " in pushed
    assert "me/none cannot be had from the hub: " in fetched
    assert b'from_pretrained("me/clothes")' in files["README.md"]


def test_a_name_that_is_none_asks_no_hub():
    with pytest.raises(InputError, match="neither a folder nor a hub id"):
        PromptClassifier.from_pretrained("not//a name")
    with pytest.raises(ArtifactError, match="the run folder is None"):
        PromptClassifier.from_pretrained(None)  # type: ignore[arg-type]


def test_no_path_of_this_machine_is_published(classifier, tmp_path):
    record = {**classifier.record_, "model": {"id": str(tmp_path / "clip"), "sha256": "0" * 64}}
    secret = str(tmp_path)
    record["data"] = {
        **record["data"], "source": f"folder {tmp_path / 'my photos'}",
        "notes": [f"{secret}/a.jpg is there twice"],
        "skipped": [{"path": f"{secret}/b.jpg", "reason": "is empty"}],
    }  # fmt: skip
    bare = hub.published(record)
    assert secret not in json.dumps(bare)
    assert (bare["model"]["id"], bare["data"]["source"]) == ("clip", "my photos")
    kept = hub.published({**record, "model": {"id": "openai/clip", "sha256": "0" * 64}})
    assert kept["model"]["id"] == "openai/clip"
    trained = replace(classifier.trained, record=record)
    folder = hub._mixin(trained, None)
    folder.save_pretrained(tmp_path / "shared")
    texts = [(tmp_path / "shared" / name).read_text("utf-8") for name in ("README.md", "run.json")]
    assert not [text for text in texts if secret in text]


def test_the_card_says_data_cost_metrics_and_limits(classifier):
    record = {**classifier.record_, "test": {"accuracy": 0.8125, "zero_shot_accuracy": 0.25}}
    card = hub.model_card(hub.published(record), "me/clothes", 90_000)
    headings = re.findall(r"^## (.*)$", card, re.MULTILINE)
    assert headings == ["Data", "Cost", "Metrics", "Limits"]
    assert f"{record['data']['training_photos']} training photos" in card
    assert re.search(r"^\| test( \(\d+\))? \| 81\.2 % \| 25\.0 % \|$", card, re.MULTILINE)
    assert "1 forward of the text tower" in card
    assert record["model"]["sha256"][:12] in card
    alone = {**record, "validation": {"accuracy": None}, "test": {"accuracy": None}}
    assert "No accuracy was measured" in hub.model_card(alone, None, 90_000)


def test_the_hub_client_is_loaded_by_those_who_ask():
    code = (
        "import sys; from sharpzo import PromptClassifier; print('huggingface_hub' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
