"""Bodies of requests, bounded in bytes and in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.requests import Request

from sharpzo.memory import MB
from sharpzo.web.refusals import BUSY, Refusal


class Uploads:
    """Reads bodies of at most ``most`` bytes and ``seconds`` each; all of those that are in memory
    at a time have at most ``together`` bytes."""

    def __init__(self, most: int, together: int, seconds: float = 60.0) -> None:
        self.most, self.together, self.seconds = most, max(together, most), seconds
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncGenerator[bytes]:
        """Read the body of a request, which counts until the block is left; raises Refusal, and
        what Starlette raises if the client is gone."""
        body = bytearray()
        try:
            await asyncio.wait_for(self._fill(body, request), self.seconds)
        except BaseException as error:
            self._held -= len(body)
            if isinstance(error, asyncio.TimeoutError):
                raise Refusal(
                    408, f"the body did not arrive within {self.seconds:g} seconds; send it again"
                ) from None
            raise
        whole = bytes(body)
        del body  # not twice in memory while the answer is made
        try:
            yield whole
        finally:
            self._held -= len(whole)

    async def _fill(self, body: bytearray, request: Request) -> None:
        if int(request.headers.get("content-length", 0)) > self.most:  # the server checks digits
            raise self._too_large()
        async for part in request.stream():
            if len(body) + len(part) > self.most:
                raise self._too_large()
            if self._held + len(part) > self.together:
                raise Refusal(
                    503, "too many bytes are being sent at once; try again in a second", BUSY
                )
            body += part
            self._held += len(part)

    def _too_large(self) -> Refusal:
        return Refusal(
            413, f"the body is too large (the limit is {self.most / MB:,.3g} MB); send less"
        )
