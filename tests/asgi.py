"""An ASGI app asked without a server, and one on a port in a thread."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sharpzo.web.running import listen, run


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def asked(app, method, path, headers=None, parts=(b"",), pause=0.0, leaves=False) -> Answer:
    """Send a request whose body arrives in these parts, ``pause`` seconds before each; of a None
    the client goes away, and after them all if it ``leaves``."""
    raw = {"host": "127.0.0.1:8000", **{k.lower(): v for k, v in (headers or {}).items()}}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
        "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
        "headers": [(k.encode(), v.encode()) for k, v in raw.items()],
    }  # fmt: skip
    left, sent = list(parts), []

    async def receive():
        if not left and leaves:
            return {"type": "http.disconnect"}
        if not left:
            await asyncio.sleep(3600)  # the client waits
        await asyncio.sleep(pause)
        part = left.pop(0)
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    return Answer(
        start["status"],
        {k.decode().lower(): v.decode() for k, v in start["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


def ask(*arguments, **options) -> Answer:
    """`asked`, in a loop of its own."""
    return asyncio.run(asked(*arguments, **options))


@contextmanager
def serving(app) -> Iterator[int]:
    """The port of an app that is served by a thread of this process."""
    listening = listen("127.0.0.1", 0)
    port, stops = listening.getsockname()[1], []
    thread = threading.Thread(target=run, args=(app, listening, stops.append), daemon=True)
    thread.start()
    try:
        yield port
    finally:
        while not stops:
            thread.join(0.01)
        stops[0]()
        thread.join(30)
        assert not thread.is_alive()
