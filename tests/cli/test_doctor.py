"""`sharpzo doctor`: it measures, and whatever is broken on a machine is one finding with advice."""

import json
import re

import pytest

from command import answer, document, refused
from sharpzo import diagnosis, machine
from sharpzo.memory import parse_size
from sharpzo.process import ProcessDied

COSTS = {
    "forward": {"onnxruntime": 0.004}, "photo": 0.05, "image_apart": 1e-6, "peak": 200_000_000,
    "text_apart": {"onnxruntime": 0.0}, "photo_in": {},
}  # fmt: skip


@pytest.fixture
def measured(monkeypatch):
    """A child process that answers at once, with what the test puts in here."""
    costs = {**COSTS, "asked": []}

    class Child:
        def __init__(self, module):
            self.module = module

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def send(self, message):
            costs["asked"].append(message["engines"])

        def receive(self):
            if message := costs.get("dies"):
                raise ProcessDied(self.module, message)
            return costs

    monkeypatch.setattr(diagnosis, "Child", Child)
    monkeypatch.setattr(diagnosis, "requirements", lambda: {"": ["numpy"], "heic": ["no-such"]})
    return costs


def findings(capsys, code=0, *options):
    found = json.loads(answer(capsys, code, "doctor", "--json", *options).out)
    return found["broken"], {one["name"]: one for one in found["findings"]}


def test_a_machine_that_is_well(capsys, tmp_path, monkeypatch):
    """Nothing is faked: the embedded model is measured (a second engine takes seconds more)."""
    monkeypatch.setattr(diagnosis, "OTHERS", ())
    found = document(capsys, "doctor", "--cache", tmp_path / "cache")
    by_name = {one["name"]: one for one in found["findings"]}
    assert found["broken"] == []
    assert {"system", "packages", "processor", "threads", "memory", "cache"} < by_name.keys()
    assert 1e-5 < by_name["forward"]["values"]["onnxruntime"] < 10
    assert 1e-4 < by_name["photo"]["values"]["seconds"] < 10
    apart = by_name["engine"]["values"]
    assert 0 < apart["onnxruntime, photos"] < 1e-3
    assert all(re.fullmatch(r"[^.].*\.", one["advice"]) for one in found["findings"])


def test_what_a_person_reads(capsys, measured):
    printed = answer(capsys, 0, "doctor").out
    assert "4.0 ms by onnxruntime, ten classes, the embedded model" in printed
    assert "A search of 5,000 forwards takes about 20 seconds" in printed
    assert printed.endswith("Nothing is broken.\n")


def test_a_faster_precision_of_photos_is_named(capsys, measured):
    measured["photo_in"] = {"bfloat16": 0.03, "int8": 0.02}
    _, found = findings(capsys)
    assert found["photo"]["found"].endswith("without decoding, 30 in bfloat16, 20 in int8")
    assert "so many times as fast: bfloat16 1.7, int8 2.5" in found["photo"]["advice"]
    measured["photo_in"] = {"int8": 0.045}
    assert "--image-precision" not in findings(capsys)[1]["photo"]["advice"]


def test_an_engine_that_the_processor_cannot_run(capsys, measured):
    measured["dies"] = "killed by signal 4"
    broken, found = findings(capsys, 1)
    assert broken == ["engine"]
    assert "killed by signal 4" in found["engine"]["found"]
    assert "64-bit system" in found["engine"]["advice"]
    assert "Broken: engine" in answer(capsys, 1, "doctor").out


def test_an_engine_that_computes_something_else(capsys, measured):
    measured["image_apart"] = 0.7
    broken, found = findings(capsys, 1)
    assert broken == ["engine"]
    assert "features are wrong (onnxruntime, photos)" in found["engine"]["found"]


def test_a_second_engine_that_is_broken_hides_no_first(capsys, measured, monkeypatch):
    monkeypatch.setattr(diagnosis, "versions", lambda names: dict.fromkeys(names, "1.0"))
    receive = diagnosis.Child.receive

    def only_the_first(self):
        if measured["asked"][-1] == ["onnxruntime", "openvino"]:
            raise ProcessDied(self.module, "killed by signal 11")
        return receive(self)

    monkeypatch.setattr(diagnosis.Child, "receive", only_the_first)
    broken, _ = findings(capsys, 1)
    assert broken == ["engine"]
    assert "openvino does not run here" in answer(capsys, 1, "doctor").out
    assert "4.0 ms by onnxruntime" in answer(capsys, 1, "doctor").out


def test_a_32_bit_system(capsys, measured, monkeypatch):
    monkeypatch.setattr(diagnosis.struct, "calcsize", lambda kind: 4)
    broken, found = findings(capsys, 1)
    assert broken == ["system"]
    assert "64-bit" in found["system"]["advice"]


def test_a_package_that_is_missing(capsys, measured, monkeypatch):
    monkeypatch.setattr(diagnosis, "requirements", lambda: {"": ["numpy", "no-such-package"]})
    broken, found = findings(capsys, 1)
    assert broken == ["packages"]
    assert found["packages"]["advice"] == "Install them: pip install no-such-package"


def test_little_memory_gets_a_limit_that_fits(capsys, measured, monkeypatch):
    small = machine.Memory(900_000_000, 600_000_000, 400_000_000)
    monkeypatch.setattr(machine, "memory", lambda: small)
    _, found = findings(capsys)
    assert found["memory"]["state"] == "advice"
    limit = re.search(r"--memory-limit (\S+)", found["memory"]["advice"])[1]
    assert 200_000_000 < parse_size(limit) < 400_000_000


def test_a_processor_without_wide_instructions(capsys, measured, monkeypatch):
    monkeypatch.setattr(machine, "instructions", tuple)
    _, found = findings(capsys)
    assert "An old processor" in found["processor"]["advice"]


def test_more_threads_than_cores(capsys, measured):
    _, found = findings(capsys, 0, "--threads", "1000")
    assert found["threads"]["state"] == "advice"


def test_a_full_disk(capsys, measured, monkeypatch, tmp_path):
    free = type("Usage", (), {"free": 5_000_000})
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda path: free)
    _, found = findings(capsys, 0, "--cache", tmp_path)
    assert "SHARPZO_CACHE_SIZE" in found["cache"]["advice"]


@pytest.mark.parametrize(
    ("model", "why"), [(".", "config.json is missing"), ("./no-such-folder", "no-such-folder")]
)
def test_a_model_that_cannot_be_read_hides_no_other_finding(
    capsys, tmp_path, monkeypatch, model, why
):
    monkeypatch.chdir(tmp_path)
    broken, found = findings(capsys, 1, "--model", model)
    assert broken == ["model"]
    assert why in found["model"]["found"]
    assert {"system", "packages", "processor", "threads", "memory", "cache"} < found.keys()


def test_a_wrong_option_is_refused(capsys):
    assert "threads is 0" in refused(capsys, "doctor", "--threads", "0")


def test_requirements_are_read_by_extra(monkeypatch):
    lines = ["numpy>=2.0", "tomli>=2.2; python_version < '3.11'", "ray>=2; extra == 'ray'",
             "mkdocstrings[python]>=1 ; extra == \"docs\""]  # fmt: skip
    monkeypatch.setattr(diagnosis.metadata, "requires", lambda name: lines)
    found = diagnosis.requirements()
    assert found == {"": ["numpy"], "ray": ["ray"], "docs": ["mkdocstrings"]}
