"""The same table on a cluster of two nodes, of which one is killed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

import pytest
from bench_engines import Here, finished, log_of, start, table

from sharpzo.bench.cell import expand
from sharpzo.bench.driver import run_bench
from sharpzo.bench.engines import RayEngine
from sharpzo.bench.recipe import read_recipe
from sharpzo.bench.results import About, Results
from sharpzo.errors import EngineError

RAY = Path(sys.executable).with_name("ray")
PLUGIN = """
import time
from dataclasses import dataclass
from sharpzo.methods import METHODS, Method, register
from sharpzo.methods.zero_shot import fit_zero_shot

@dataclass(frozen=True)
class Settings:
    seconds: float = 8.0

def fit(settings, task):
    time.sleep(settings.seconds)
    return fit_zero_shot(METHODS["zero-shot"].settings, task)

register(Method("slow", "a test's own", Settings(), fit))
"""


def test_without_ray_one_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"pip install 'sharpzo\[ray\]'"):
        list(RayEngine().run([], tmp_path))


def test_an_address_without_a_cluster_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, but not listening
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(EngineError, match=f"no Ray cluster answers at {address}"):
            list(RayEngine(address).run([], tmp_path))


class Node:
    """A Ray node of one core: ``ray start`` in a session of its own."""

    def __init__(self, log, *options):
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_MEMORY_MONITOR": "1"}
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [str(RAY), "start", "--block", "--num-cpus=1",
                 "--object-store-memory=80000000", *options],
                stdout=file, stderr=file, start_new_session=True, env={**os.environ, **quiet},
            )  # fmt: skip

    def kill(self):
        """As a power cut: everything of the node at once, nothing is told."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def works(self):
        """Whether a fit runs on this node."""
        parents = {}
        for entry in Path("/proc").iterdir():
            try:
                status = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                command = (entry / "cmdline").read_text()
            except (OSError, IndexError):
                continue
            parents[entry.name] = status[1], command
        for parent, command in list(parents.values()):
            if "sharpzo.bench.compute" in command:
                while parent in parents:
                    if parent == str(self.process.pid):
                        return True
                    parent = parents[parent][0]
        return False


@pytest.fixture
def nodes(tmp_path):
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folder = tempfile.mkdtemp(prefix="ray")  # paths of sockets have to be short
    head = Node(
        tmp_path / "head.log", "--head", f"--port={address.split(':')[1]}",
        "--include-dashboard=false", f"--temp-dir={folder}",
    )  # fmt: skip
    second = None
    try:
        wait_until(lambda: "Ray runtime started" in (tmp_path / "head.log").read_text())
        second = Node(tmp_path / "second.log", f"--address={address}")
        wait_until(lambda: "Ray runtime started" in (tmp_path / "second.log").read_text())
        yield address, head, second
    finally:
        for node in (second, head):
            if node is not None:
                node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def wait_until(true, limit=240):
    end = time.monotonic() + limit
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.slow
def test_a_cluster_that_loses_a_node_makes_the_table_of_one_machine(nodes, recipe, tmp_path):
    address, _, second = nodes
    (tmp_path / "slow.py").write_text(PLUGIN)
    path = recipe(
        plugins='["slow.py"]', seeds="[1, 2, 3]",
        methods='["zero-shot", { method = "slow", label = "A" }, "projection"]',
    )  # fmt: skip
    out, alone = tmp_path / "out", tmp_path / "alone"
    process = start(path, out, "--engine", "ray", "--address", address)
    wait_until(lambda: len(finished(out)) >= 1 and second.works())
    time.sleep(2)
    second.kill()
    before = len(finished(out))
    assert process.wait() == 0, log_of(out).read_text()
    assert before < 9 == len(finished(out))
    wanted = read_recipe(path)
    about = About(wanted.title, wanted.baseline, expand(wanted))
    run_bench(about, Results(alone), Here(), alone / "features")
    assert table(out) == table(alone)
