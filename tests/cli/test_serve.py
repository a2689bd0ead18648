"""`sharpzo serve` as a person types it: in a process, on a port of its own, and ended by a signal.

What an app answers to hostile requests is in tests/web."""

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from command import FAST, call, demo_folder, document, refused
from sharpzo.cli.serve import _said

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return demo_folder(tmp_path_factory.mktemp("photos"), train=4, test=2)


@pytest.fixture(scope="module")
def runs(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, method in (("first", ()), ("second run", FAST)):
        assert call("fit", photos / "train", "--out", folder / name, *method) == 0
    return [folder / "first", folder / "second run"]


class Serving:
    """A process that serves: what it printed, and requests to it."""

    def __init__(self, process):
        self.process = process
        self.said, self.command = (process.stdout.readline() for _ in range(2))
        self.port = int(re.search(r":(\d+);", self.said)[1])

    def ask(self, method, path, body=b"", headers=None):
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            client.request(method, path, body, headers or {})
            answer = client.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            client.close()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@contextmanager
def serving(*arguments, **variables):
    line = [sys.executable, "-m", "sharpzo", "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        env={**os.environ, **variables},
    )  # fmt: skip
    try:
        yield Serving(process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def served(runs):
    with serving(*runs) as found:
        yield found
        assert found.end() == (0, "")


def test_the_page_shows_what_is_printed():
    page = (Path(__file__).parents[2] / "docs" / "service.md").read_text("utf-8")
    _, command = _said("http://127.0.0.1:8000", ("my-run",), None).splitlines()
    assert f"\n{command}\n" in page


def test_it_says_where_it_is_and_how_to_ask(served, photos, tmp_path):
    assert served.said.startswith("serving first, second run at http://127.0.0.1:")
    shutil.copy(next((photos / "test" / "bag").iterdir()), tmp_path / "photo.jpg")
    program, *arguments = shlex.split(served.command)
    assert program == "curl"
    if shutil.which("curl"):
        line = ["curl", "--silent", *arguments]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, check=True)
        assert json.loads(done.stdout)["label"]
    else:
        status, _ = served.ask("POST", "/first", (tmp_path / "photo.jpg").read_bytes())
        assert status == 200


def test_many_clients_get_each_their_own_answer(served, runs, photos, capsys):
    """Beside those that break off, with their photo sent in half, or whole."""
    some = sorted((photos / "test").rglob("*.png"))
    wanted = {
        (run.name.replace(" ", "%20"), photo): said["label"]
        for run in runs
        for photo, said in zip(some, document(capsys, "predict", run, *some), strict=True)
    }
    found = {}

    def ask(place):
        run, photo = place
        found[place] = served.ask("POST", f"/{run}", photo.read_bytes())[1]["label"]

    threads = [threading.Thread(target=ask, args=(place,)) for place in wanted]
    for k, thread in enumerate(threads):
        thread.start()
        blob = some[0].read_bytes()
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            linger = struct.pack("ii", 1, 0)  # a reset, as of a process that was killed
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            head = f"POST /first HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(blob)}\r\n\r\n"
            client.sendall(head.encode() + blob[: len(blob) // (1 + k % 2)])
    for thread in threads:
        thread.join(60)
    assert found == wanted
    assert served.ask("GET", "/health")[1]["status"] == "ok"


def test_pages_of_other_sites_are_refused(served):
    assert served.ask("GET", "/", headers={"Host": "evil.example"})[0] == 403
    assert served.ask("POST", "/first", headers={"Origin": "http://evil.example"})[0] == 403
    assert served.ask("GET", "/", headers={"Host": "localhost"})[0] == 200


def test_a_signal_waits_for_what_was_begun_and_the_token_is_demanded(runs, photos):
    blob = next((photos / "test" / "bag").iterdir()).read_bytes()
    with serving(runs[0], "--host", "0.0.0.0", SHARPZO_TOKEN=TOKEN) as served:
        assert '-H "Authorization: Bearer $SHARPZO_TOKEN"' in served.command
        own = {"Authorization": f"Bearer {TOKEN}", "Host": "board.local"}
        for headers in ({}, {"Authorization": f"Bearer {TOKEN[::-1]}"}):
            assert served.ask("POST", "/", blob, headers)[0] == 401
        assert served.ask("POST", "/", blob, own)[1]["label"] == "bag"
        client = socket.create_connection(("127.0.0.1", served.port), 60)
        with client:
            lines = [*(f"{name}: {value}" for name, value in own.items()),
                     f"Content-Length: {len(blob)}"]  # fmt: skip
            head = "\r\n".join(["POST / HTTP/1.1", *lines, "", ""]).encode()
            client.sendall(head + blob[:-10])
            while True:  # the request was taken
                if served.ask("GET", "/health", headers=own)[0] == 200:
                    break
            served.process.send_signal(signal.SIGTERM)
            client.sendall(blob[-10:])
            answer = http.client.HTTPResponse(client)
            answer.begin()
            assert (answer.status, json.loads(answer.read())["label"]) == (200, "bag")
        _, err = served.process.communicate(timeout=60)
        assert (served.process.returncode, err) == (0, "")


def test_what_cannot_be_served_is_a_sentence(runs, capsys, monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(capsys, "serve", runs[0], "--port", port)
        assert f"cannot listen on 127.0.0.1, port {port}" in said
    assert "16 characters" in refused(capsys, "serve", runs[0], "--token", "short")
    assert "letters, digits" in refused(capsys, "serve", runs[0], "--token", "ä" * 20)
    assert "both called 'first'" in refused(capsys, "serve", runs[0], runs[0])
    assert "no run folder" in refused(capsys, "serve", tmp_path / "none")
    assert "logit bias" in refused(capsys, "serve", runs[0], "--multi")
    assert "no class" in refused(capsys, "serve", runs[1], "--lost", "0.1")
    assert "lose is nan" in refused(capsys, "serve", runs[0], "--lost", "nan")
    assert "not a size" in refused(capsys, "serve", runs[0], "--photo-limit", "many")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    said = refused(capsys, "serve", runs[0])
    assert said.endswith("needs the package uvicorn; install it with: pip install 'sharpzo[web]'")
