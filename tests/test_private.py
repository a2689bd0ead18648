"""Nothing leaves the machine, whatever the command: no network socket, and no file of a vendor.

Nor does a command need torch.
"""

import importlib.util
import json
import os
import platform
import subprocess
import sys

import pytest

import offline
from command import demo_folder

COMMANDS = """
import json, sys
sys.modules["torch"] = sys.modules["transformers"] = None  # importing them is an error now
from dataclasses import replace
from sharpzo.cli import main
from sharpzo.data import demo
whole = demo.load_demo(1)  # 700 photos pass the image tower no otherwise than 65
train, val = whole.train.take(range(0, 160, 8)), whole.val.take(range(0, 40, 2))
few = replace(whole, train=train, val=val, test=whole.test.take(range(0, 500, 20)))
demo.load_demo = lambda seed: few
for arguments in json.loads(sys.argv[1]):
    print("sharpzo", *arguments, file=sys.stderr)
    try:
        main(arguments)
    except SystemExit as end:
        assert not end.code, end.code
"""
RECIPE = """
data_sets = ["photos"]
shots = [2]
budgets = [60]
methods = ["sharpzo"]
"""
SUPPORTED = sys.platform == "linux" and platform.machine() in offline.SOCKET


@pytest.fixture
def home(tmp_path):
    """A person's folder with a few photos, and the bare environment of a new user.

    Telemetry is silent where it sees a test or a CI service, so no other variable is handed on.
    """
    home = tmp_path / "home"
    demo_folder(home / "photos", ("sandal", "bag"), train=3, test=1)
    (home / "recipe.toml").write_text(RECIPE)
    return home


def environment(home):
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    kinds = ("CACHE", "CONFIG", "DATA", "STATE")
    folders = {f"XDG_{kind}_HOME": str(home / kind) for kind in kinds}
    return kept | folders | {"HOME": str(home), "TMPDIR": str(home)}


def offline_commands(home, *commands):
    """Run command lines in one process without torch; one that opens a network socket kills it."""
    line = [sys.executable, "-c", COMMANDS, json.dumps(commands)]
    run = offline.run if SUPPORTED else subprocess.run
    options = {} if SUPPORTED else {"capture_output": True, "text": True, "check": False}
    return run(line, cwd=home, env=environment(home), **options)


def test_no_command_opens_a_network_socket_needs_torch_or_leaves_a_file_of_others(home):
    before = {path for path in home.rglob("*") if path.is_file()}
    engines = ["onnxruntime"] + ["openvino"] * bool(importlib.util.find_spec("openvino"))
    search = ["--method", "sharpzo", "--budget-forwards", "60"]
    # Photos of the demo are encoded once for all tests, in the cache folder of the test session.
    features = os.path.join(os.environ["XDG_CACHE_HOME"], "sharpzo", "features")
    photo = str(next((home / "photos" / "test").rglob("*.png")))
    done = offline_commands(
        home,
        ["methods"],
        ["demo", "--out", "demo", "--cache", features, "--budget-forwards", "60"],
        *(["fit", "photos", "--out", f"by-{e}", "--engine", e, *search] for e in engines),
        ["fit", "photos", "--out", "small", "--memory-limit", "1GB", "--no-cache"],
        ["predict", "small", photo],
        ["predict", "small", photo, "--memory-limit", "1GB", "--no-cache"],
        ["watch", "small", os.path.dirname(photo), "--once", "--to", "small/answers.csv"],
        ["evaluate", "by-onnxruntime", "photos"],
        ["report", "by-onnxruntime", "--no-landscape"],
        ["bench", "recipe.toml", "--data", ".", "--out", "table", "--cache", features],
        ["report", "table"],
    )
    assert done.returncode != offline.OPENED, f"a socket was opened by {last(done)}"
    assert done.returncode == 0, done.stderr
    ours = [home / name for name in ("demo", "small", "table", "CACHE/sharpzo/features")]
    ours += [home / "CACHE" / "matplotlib"]  # its list of the fonts that the machine has
    ours += [home / f"by-{engine}" for engine in engines]
    left = {path for path in home.rglob("*") if path.is_file()} - before
    assert not {path for path in left if not any(path.is_relative_to(folder) for folder in ours)}


@pytest.mark.skipif(not SUPPORTED, reason="system calls are filtered on Linux alone")
def test_only_the_id_of_a_model_on_the_hub_asks_the_network(home):
    """Which also shows that a socket is noticed, a child's and a library's own."""
    fit = ["fit", "photos", "--out", "run", "--model"]
    assert offline_commands(home, [*fit, "nobody/no-such-model"]).returncode == offline.OPENED
    missing = offline_commands(home, [*fit, "./no-such-folder"])
    assert "no-such-folder" in missing.stderr
    assert missing.returncode != offline.OPENED
    lookup = "import socket; socket.getaddrinfo('a.invalid', 80)"
    child = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {lookup!r}]))"
    assert offline.run([sys.executable, "-c", child]).returncode == offline.OPENED % 256


def test_what_a_user_had_switched_on_is_off():
    """These report where they are used, which no test without a network can wait for."""
    code = """
import os, sharpzo
from huggingface_hub import constants
print(constants.HF_HUB_DISABLE_TELEMETRY, os.environ["RAY_USAGE_STATS_ENABLED"])
print(os.environ["MLFLOW_DISABLE_TELEMETRY"])
"""
    asked = os.environ | {"HF_HUB_DISABLE_TELEMETRY": "0", "RAY_USAGE_STATS_ENABLED": "1"}
    asked["MLFLOW_DISABLE_TELEMETRY"] = "false"
    done = subprocess.run([sys.executable, "-c", code], env=asked, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "0", "true"], done.stderr


def last(done):
    return [line for line in done.stderr.splitlines() if line.startswith("sharpzo ")][-1:]
