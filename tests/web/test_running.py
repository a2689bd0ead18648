"""A server on one socket: what it refuses to listen on, slow clients, and how it ends."""

import asyncio
import http.client
import socket
import threading
import time

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi import serving
from sharpzo.errors import InputError
from sharpzo.web import running


async def _slow(request):
    await asyncio.sleep(float(request.query_params.get("seconds", 0)))
    return PlainTextResponse("done" * int(request.query_params.get("many", 1)))


APP = Starlette(routes=[Route("/", _slow)])


def fetch(port, path="/"):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        client.request("GET", path)
        return client.getresponse().read()
    finally:
        client.close()


def closed(client) -> bytes:
    """What is received until the other end closes."""
    found = b""
    try:
        while part := client.recv(1 << 16):
            found += part
    except ConnectionResetError:
        pass
    return found


def test_a_port_in_use_is_a_sentence():
    with running.listen("127.0.0.1", 0) as taken:
        with pytest.raises(InputError, match=r"cannot listen on 127.0.0.1, port .*in use.*--port"):
            running.listen("127.0.0.1", taken.getsockname()[1])
        assert running.is_loopback(taken)
        assert running.address(taken) == f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(InputError, match="no-such-host"):
        running.listen("no-such-host.invalid", 0)
    with running.listen("0.0.0.0", 0) as everywhere:
        assert not running.is_loopback(everywhere)
        assert running.address(everywhere).startswith("http://127.0.0.1:")


def test_what_was_begun_is_answered_before_the_end():
    found = []
    with serving(APP) as port:
        thread = threading.Thread(target=lambda: found.append(fetch(port, "/?seconds=0.5")))
        thread.start()
        time.sleep(0.2)
    thread.join(10)
    assert found == [b"done"]
    with pytest.raises(OSError, match="refused"):
        fetch(port)


def test_a_second_signal_ends_it_at_once(capfd):
    """And says so: an end without answers is not in order."""
    listening, ended = running.listen("127.0.0.1", 0), []
    port, stops = listening.getsockname()[1], []

    def serve():
        try:
            running.run(APP, listening, stops.append)
        except KeyboardInterrupt as stop:
            ended.append(str(stop))

    server = threading.Thread(target=serve)
    server.start()
    while not stops:
        time.sleep(0.01)
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(b"GET /?seconds=60 HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.2)
        stops[0]()
        stops[0]()
        server.join(10)
    assert ended == ["what was begun was not answered"]
    assert "Traceback" not in capfd.readouterr().err


def dripped(client, data: bytes) -> bytes:
    """Send this again and again until the other end closes, and return what was received."""
    try:
        while True:
            client.sendall(data)
            time.sleep(0.02)
    except OSError:
        return closed(client)


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(running, "HEAD", 0.2)
    monkeypatch.setattr(running, "READ", 0.2)
    with serving(APP) as port, socket.create_connection(("127.0.0.1", port), 20) as client:
        yield client
        assert fetch(port) == b"done"


def test_a_client_that_sends_nothing_is_let_go(hasty):
    assert closed(hasty) == b""


def test_a_client_that_sends_its_head_byte_by_byte_is_let_go(hasty):
    assert dripped(hasty, b"G") == b""


def test_a_body_that_no_one_reads_ends(hasty):
    hasty.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    dripped(hasty, b"1\r\nx\r\n")


def test_a_client_that_reads_nothing_is_let_go(hasty):
    hasty.sendall(b"GET /?many=5000000 HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.5)
    assert len(closed(hasty)) < 20_000_000


def test_no_more_connections_than_it_can_hold(monkeypatch):
    monkeypatch.setattr(running, "CONNECTIONS", 5)
    with serving(APP) as port:
        many = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(30)]
        assert sum(closed(client) == b"" for client in many[5:]) == 25
        for client in many:
            client.close()
        deadline = time.monotonic() + 20
        while True:
            try:
                assert fetch(port) == b"done"
                break
            except OSError:
                assert time.monotonic() < deadline


def test_what_is_no_http_or_too_long_is_refused(capfd):
    with serving(APP) as port:
        for line in (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 99_999):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(line)
                assert b" 400 " in closed(client)[:20]
        with socket.create_connection(("127.0.0.1", port), timeout=20):
            pass
        assert fetch(port) == b"done"
    assert capfd.readouterr().err == ""
