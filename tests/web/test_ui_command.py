"""The command `sharpzo ui`: what it refuses, what it prints, what the browser is given."""

import queue
import re
import sys
import webbrowser

import pytest

from asgi import ask
from command import answer, refused
from sharpzo.web import running


@pytest.fixture
def given(monkeypatch):
    """Serve nothing, and keep the app and the addresses that a browser is to open."""
    found = {"opened": queue.Queue()}

    def run(app, listening, ready, ending):
        with listening:
            ready(None)
        ending()
        found["app"] = app

    monkeypatch.setattr(running, "run", run)
    monkeypatch.setattr(webbrowser, "open", found["opened"].put)
    return found


def opens(app, token):
    host = {"Origin": "http://127.0.0.1:8000"}
    return ask(app, "POST", "/open", host, [b'{"token": "%s"}' % token.encode()]).status == 200


def test_the_address_and_the_folder_are_told(given, tmp_path, capsys):
    said = answer(capsys, 0, "ui", tmp_path / "home").out
    where, token = re.search(r"(http://127\.0\.0\.1:\d+/#)(\S+)", said).groups()
    assert str(tmp_path / "home" / ".sharpzo-ui") in said
    once = given["opened"].get(timeout=60).removeprefix(where)
    assert once != token
    assert [opens(given["app"], one) for one in (once, once, token, token)] == [
        True, False, True, True,
    ]  # fmt: skip
    assert answer(capsys, 0, "ui", tmp_path / "home", "--no-browser").out != said
    assert given["opened"].empty()


def test_without_a_folder_one_is_made_and_kept(given, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    said = answer(capsys, 0, "ui", "--no-browser").out
    (home,) = tmp_path.iterdir()
    assert str(home) in said
    assert home.stat().st_mode & 0o077 == 0 or sys.platform == "win32"


def test_what_cannot_be_is_a_sentence(given, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    assert "is a file; give a folder" in refused(capsys, "ui", tmp_path / "file")
    assert "no-such-model" in refused(capsys, "ui", tmp_path / "a", "--model", "./no-such-model")
    with running.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert "--port" in refused(capsys, "ui", tmp_path / "a", "--port", port)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    said = refused(capsys, "ui", tmp_path / "a")
    assert "pip install 'sharpzo[web]'" in said


def test_two_programs_do_not_share_a_folder(given, tmp_path, capsys, monkeypatch):
    said = []

    def second(app, listening, ready, ending):
        listening.close()
        monkeypatch.undo()
        said.append(refused(capsys, "ui", tmp_path / "home", "--no-browser"))

    monkeypatch.setattr(running, "run", second)
    answer(capsys, 0, "ui", tmp_path / "home", "--no-browser")
    assert "is being written by process" in said[0]
