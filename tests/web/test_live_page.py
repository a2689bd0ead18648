"""The page's server: who may open a workspace, workspaces apart, a fit from photos to answers."""

import io
import json
import time
import zipfile
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from asgi import ask
from sharpzo.data.demo import load_demo
from sharpzo.web.guard import LOOPBACK, Guard
from sharpzo.web.live_page import LivePage
from sharpzo.web.tabs import Tabs
from sharpzo.web.work import Work

TOKEN = "kept-from-others"
CLASSES = ("sandal", "dress", "bag")
OWN = {"Origin": "http://127.0.0.1:8000"}


class Client:
    """What a page does, without a browser."""

    def __init__(self, home, cache, given=None):
        self.tabs = Tabs(home, cache, given)
        self.app = Guard(LivePage(self.tabs, TOKEN, {"web": False}).app(), hosts=LOOPBACK)
        self.key = ""

    def open(self, token=TOKEN, workspace=None, **headers):
        body = json.dumps({"token": token, "workspace": workspace}).encode()
        return ask(self.app, "POST", "/open", OWN | headers, [body])

    def __call__(self, method, path, body=b"", key=None):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return ask(self.app, method, f"/w/{key or self.key}/{path}", OWN, [body])

    def put(self, label, name, content, key=None):
        return self("PUT", f"photos/{label}/{name}", content, key)

    def tab(self):
        return self.tabs.find(self.key)

    def wait(self, seconds=120):
        """What the work of the tab came to."""
        work, end = self.tab().desk.work, time.monotonic() + seconds
        while work.running:
            assert time.monotonic() < end, work.state()
            time.sleep(0.02)
        return work.state()


@pytest.fixture
def client(tmp_path, cache, monkeypatch):
    monkeypatch.setattr("sharpzo.web.tab.trim", lambda: None)  # slow where torch is loaded
    made = Client(tmp_path / "home", cache)
    (tmp_path / "home").mkdir()
    made.key = made.open().json["key"]
    yield made
    made.tabs.close()


def png(pixels) -> bytes:
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def fill(client, each=6, classes=CLASSES):
    demo = load_demo(1)
    for label in classes:
        rows = np.flatnonzero(demo.train.labels == demo.class_names.index(label))[:each]
        for row in rows:
            found = client.put(label, f"{row}.png", png(demo.train.photos[row].decode()))
            assert found.status == 200, found.body


def test_the_page_itself_has_no_secret_and_a_strict_policy(client):
    for path, kind in (("/", "text/html"), ("/page.js", "javascript"), ("/page.css", "css")):
        found = ask(client.app, "GET", path)
        assert found.status == 200
        assert kind in found.headers["content-type"]
        assert "default-src 'none'" in found.headers["content-security-policy"]
        assert TOKEN.encode() not in found.body
        assert b"http" not in found.body.replace(b"http://www.w3.org/2000/svg", b"")


def test_only_the_token_opens_a_workspace(client):
    for token in ("", TOKEN[:-1], TOKEN + "x", None, [TOKEN], {"a": 1}):
        found = client.open(token)
        assert (found.status, list(found.json)) == (403, ["error"])
        assert "whole address" in found.json["error"]
    for body in (b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"7"):
        assert ask(client.app, "POST", "/open", OWN, [body]).status in (400, 403)
    app = LivePage(client.tabs, TOKEN, {}, once="once").app()
    for status in (200, 403):  # what a command line showed is worth nothing any more
        found = ask(app, "POST", "/open", OWN, [b'{"token": "once"}'])
        assert found.status == status
    for token in (b"", b"\\ud800"):
        body = b'{"token": "%s"}' % token
        assert ask(app, "POST", "/open", OWN, [body]).status in (400, 403)
    assert client.open(host="evil.example:8000").status == 403
    assert client.open(Origin="http://evil.example").status == 403
    assert client("GET", "photos", key="guessed").status == 404
    assert client("GET", "photos").status == 200


def test_workspaces_do_not_mix(client):
    one, two = client.key, client.open().json["key"]
    assert one != two
    fill(client, 1, ("bag",))
    assert list(client("GET", "photos", key=one).json["classes"]) == ["bag"]
    assert client("GET", "photos", key=two).json["classes"] == {}
    (photo,) = client("GET", "photos").json["classes"]["bag"]
    assert client("GET", f"photos/bag/{photo[0]}").headers["content-type"] == "image/jpeg"
    assert client("GET", f"photos/bag/{photo[0]}", key=two).status == 400
    again = client.open(workspace="1").json
    assert again["key"] == one  # the same tab, loaded anew
    assert [row["photos"] for row in client.open(workspace="2").json["earlier"]] == [1]
    assert client.open(workspace="../1").status == 400


def test_the_number_of_workspaces_is_limited(client, monkeypatch):
    monkeypatch.setattr("sharpzo.web.tabs.MOST", 2)
    assert client.open().status == 200
    found = client.open()
    assert "2 tabs, which is the most" in found.json["error"]
    assert client("POST", "leave").status == 200  # the tab of the empty one is closed
    assert client.open().json["workspace"] == "1"


def test_no_address_leads_out_of_the_workspace(client, tmp_path):
    fill(client, 1, ("bag",))
    (tmp_path / "home" / "secret.png").write_bytes(png(np.zeros((9, 9, 3), np.uint8)))
    for up in ("../../secret.png", "..%2f..%2fsecret.png", "....//secret.png", "/etc/passwd"):
        for path in (f"photos/bag/{up}", f"photos/{up}/x", f"files/{up}", f"runs/{up}/run.zip"):
            for one in (path, quote(path), path.replace("%2f", "/")):
                assert client("GET", one).status in (400, 404, 405)
    for name in ("..", "../x", "a/b", "%2e%2e"):
        assert client.put(name, name, b"x").status in (400, 404, 405)
    assert {p.name for p in (tmp_path / "home").iterdir()} == {"1", "secret.png"}


def test_a_photo_that_is_too_large_or_none_is_a_sentence(client, monkeypatch):
    found = client.put("bag", "a.png", b"no photo")
    assert found.status == 400
    assert "is not a readable JPEG" in found.json["error"]
    assert "/" not in found.json["error"].replace(" / ", "")
    app = LivePage(client.tabs, TOKEN, {})
    app._photos.most = 1000
    client.app = Guard(app.app(), hosts=LOOPBACK)
    assert client.put("bag", "a.png", b"x" * 1001).status == 413
    assert client("GET", "photos").json["classes"] == {}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    found = client.put("bag", "a.png", png(np.zeros((9, 9, 3), np.uint8)))
    assert (found.status, found.json["error"]) == (
        507, "this cannot be kept: No space left on device"
    )  # fmt: skip


def test_from_photos_to_an_answer(client):
    found = client("POST", "tune", {"method": "ladder+tokens"})
    assert found.json["error"] == "Give photos of at least two classes."
    for name in ("cat", "none"):
        client("POST", "classes", {"name": name})
    found = client("POST", "tune", {"method": "ladder+tokens"})
    assert found.json["error"] == "Give photos of at least two classes."
    for name in ("cat", "none"):
        client("DELETE", f"classes/{name}")
    fill(client)
    copy = load_demo(1).train
    bag = copy.photos[int(np.flatnonzero(copy.labels == copy.class_names.index("bag"))[0])]
    client.put("dress", "copy.png", png(bag.decode()))
    client.put("dress", "cut.png", png(np.arange(30_000, dtype=np.uint8).reshape(100, 100, 3))[:99])
    client("POST", "check")
    assert client.wait()["error"] == ""
    listed = client("GET", "photos").json
    kinds = {one["kind"]: one for one in listed["found"]["findings"]}
    assert kinds["unreadable"]["photos"] == [["dress", "cut.png"]]
    assert ["dress", "copy.png"] in kinds["copy"]["photos"]
    assert kinds["copy"]["sentence"].startswith("2 times the same file, in several classes")
    assert "smaller than 64 x 64" in kinds["small"]["sentence"]
    for name in ("copy.png", "cut.png"):
        assert client("DELETE", f"photos/dress/{name}").status == 200
    assert client("GET", "photos").json["found"] is None  # of other photos
    assert client("POST", "tune", {"method": "coop"}).status == 400
    assert client("POST", "tune", {"method": "ladder+tokens"}).status == 200
    assert "is running" in client("POST", "tune", {"method": "sharpzo"}).json["error"]
    assert "in use" in client("DELETE", "classes/bag").json["error"]
    assert client.wait()["error"] == ""
    (run,) = client("GET", "runs").json
    assert (run["run"], run["finished"], run["method"]) == ("1", True, "ladder+tokens")
    assert run["of"] == 3
    assert run["right"] + len(run["mistakes"]) == run["of"]
    assert run["same_photos"]
    fresh = load_demo(1).test
    bag = fresh.photos[int(np.flatnonzero(fresh.labels == fresh.class_names.index("bag"))[0])]
    found = client("POST", "runs/1/answer", png(bag.decode())).json
    assert found["label"] == found["top"][0]["label"] in CLASSES
    assert sum(one["probability"] for one in found["top"]) == pytest.approx(1)
    assert client("POST", "runs/1/answer", b"no photo").status == 400
    assert client("POST", "runs/2/answer", b"no photo").status == 400
    assert client("POST", "runs/1/export", {"kind": "exe"}).status == 400
    with zipfile.ZipFile(io.BytesIO(client("GET", "runs/1/run.zip").body)) as archive:
        assert {"1/run.json", "1/arrays.safetensors"} <= set(archive.namelist())
    client("DELETE", f"photos/bag/{listed['classes']['bag'][0][0]}")
    assert not client("GET", "runs").json[0]["same_photos"]
    (client.tabs._home / "1" / "results" / "1.json").unlink()  # as if we had been killed then
    later = Client(client.tabs._home, None)  # the program, started anew
    later.key = later.open(workspace="1").json["key"]
    (one,) = later("GET", "runs").json
    assert [one[name] for name in ("run", "of", "right")] == ["1", 3, run["right"]]


def test_a_search_is_stopped_and_goes_on(client, monkeypatch):
    command = Work.command

    def short(self, arguments, *others):
        more = ["--budget-forwards", "400"] if "--out" in arguments else []
        return command(self, [*arguments, *more], *others)

    monkeypatch.setattr(Work, "command", short)
    fill(client, 3)
    client("POST", "tune", {"method": "sharpzo"})
    work = client.tab().desk.work
    while work.running and "loss" not in work.shown:
        time.sleep(0.01)
    client("POST", "stop")
    stopped = client.wait()
    (run,) = client("GET", "runs").json
    if not run["finished"]:  # it may have been faster
        assert stopped["stopped"]
        assert run == {"run": "1", "finished": False, "method": "sharpzo"}
        assert client("POST", "runs/1/answer", b"").status == 400
        client("POST", "tune", {"run": "1"})
        done = client.wait()
        assert done["error"] == ""
        assert not done["stopped"]
        assert done["run"] == 1
    (run,) = client("GET", "runs").json
    assert run["finished"]
    assert 0 < run["forwards"] <= 400
