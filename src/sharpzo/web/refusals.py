"""What is refused: a status and a JSON document with one sentence."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

BUSY = {"Retry-After": "1"}  # seconds


class Refusal(HTTPException):
    """A request that is not answered; the sentence says why, and what to do."""

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, sentence, headers)

    def response(self) -> Response:
        """The document ``{"error": sentence}``."""
        return JSONResponse({"error": self.detail}, self.status_code, self.headers)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, Refusal):
        return error.response()
    path, headers = request.url.path, dict(error.headers or {})
    sentences = {
        404: f"there is nothing at {path}",
        405: f"{path} takes {headers.get('Allow', 'other methods')}, not {request.method}",
    }
    sentence = sentences.get(error.status_code, error.detail)
    return Refusal(error.status_code, sentence, headers).response()


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # it is sent to no one


async def _failed(request: Request, error: Exception) -> Response:
    return Refusal(500, "this failed here; the program's own output says why").response()


# For `Starlette(exception_handlers=...)`.
HANDLERS: dict[Any, Any] = {HTTPException: _refuse, ClientDisconnect: _gone, Exception: _failed}
