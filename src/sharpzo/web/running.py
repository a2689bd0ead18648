"""An ASGI app on one socket, until a signal ends it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from sharpzo.errors import InputError
from sharpzo.process import stop_signals

# Seconds: that a client may take to send the head of a request, and to read an answer; that it may
# be idle between two; that answers may take once a signal has come.
HEAD, READ, IDLE, LAST = 10, 30, 5, 90
CONNECTIONS = 400  # a process may usually open 1,024 files


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one. InputError if that cannot be."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:  # a name that is too long
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(
            f"cannot listen on {host}, port {port}: {why}; give another --port (0: a free one) or "
            "--host"
        ) from None


def is_loopback(listening: socket.socket) -> bool:
    """Whether this machine alone can reach a socket."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def address(listening: socket.socket) -> str:
    """The address of a socket, as this machine reaches it: ``http://127.0.0.1:8000``."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if listening.family == socket.AF_INET6 else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(
    app: ASGIApp,
    listening: socket.socket,
    ready: Callable[[Callable[[], None]], object] = lambda stop: None,
    ending: Callable[[], object] = lambda: None,
) -> None:
    """Serve until Ctrl-C, SIGTERM, or a call of what ``ready`` is given once requests are taken.

    No request is taken after that, and those that were begun are answered; a second signal ends
    it at once, by KeyboardInterrupt. ``lifespan`` of the app is its own, as ASGI has it. ``ending``
    is called with the first signal: it has to end answers that would last for ever.
    """
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        log_config=None,
        log_level="error",  # a traceback of ours; not what strangers send
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=LAST,
    )
    server = _Server(config)

    def stop(*_: Any) -> None:
        server.force_exit = server.should_exit
        server.should_exit = True
        ending()

    with stop_signals(stop):
        ready(stop)
        server.run(sockets=[listening])
    if server.force_exit:
        raise KeyboardInterrupt("what was begun was not answered")


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to `run`: uvicorn would end the process by the one that came."""
        yield


class _Protocol(H11Protocol):
    """A connection, which is closed where its client takes too long."""

    _head: asyncio.TimerHandle | None = None
    _read: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        self._wait_for_head()

    def on_response_complete(self) -> None:
        # First: what was sent ahead may begin the next request in here.
        self._wait_for_head()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read = self.loop.call_later(READ, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._read)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        _cancel(self._head)
        _cancel(self._read)

    def _wait_for_head(self) -> None:
        answered = self.cycle  # of the request before, or none

        def close() -> None:
            if self.cycle is answered:
                self.transport.abort()

        _cancel(self._head)
        self._head = self.loop.call_later(HEAD, close)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
