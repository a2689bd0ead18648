"""Who may ask: programs of this machine, or whoever has the token; no page of another site."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from sharpzo.web.refusals import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_ALWAYS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """An ASGI app in front of another one.

    ``hosts`` are the names under which it may be asked, None for any: a page of another site may
    let its own name lead to 127.0.0.1, and is then refused by that name. With a ``token`` each
    request has to carry ``Authorization: Bearer TOKEN``. Browsers say which site a request comes
    from: those of other sites, of other ports of this machine too, are refused, but for following
    a link here.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Collection[str] | None, token: str | None = None
    ) -> None:
        self._app, self._token = app, token
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_always(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(Headers(scope=scope), scope["method"])
        except Refusal as refusal:
            await refusal.response()(scope, receive, send_always)
        else:
            await self._app(scope, receive, send_always)

    def _check(self, headers: Headers, method: str) -> None:
        """Raise what a request is refused with."""
        host = headers.get("host", "")
        if self._hosts is not None and host_name(host) not in self._hosts:
            raise Refusal(
                403, f"this service does not answer under the name {host!r}; ask for 127.0.0.1"
            )
        if self._token is not None:
            kind, _, given = headers.get("authorization", "").partition(" ")
            same = hmac.compare_digest(given.strip().encode(), self._token.encode())
            if kind.lower() != "bearer" or not same:
                raise Refusal(
                    401,
                    "the token is missing or wrong; send the header Authorization: Bearer TOKEN",
                    {"WWW-Authenticate": "Bearer"},
                )
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        followed = method == "GET" and headers.get("sec-fetch-dest") == "document"
        elsewhere = site not in ("none", "same-origin") and not followed
        if elsewhere or (origin is not None and _place(origin) != host.lower()):
            raise Refusal(403, "pages of other sites may not ask this service")


def _place(origin: str) -> str:
    """The host and port in an Origin header, "" if it has none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # "http://[", which is the origin of no page
        return ""


def host_name(host: str) -> str:
    """The name in a Host header, without its port.

    >>> host_name("LocalHost:8000"), host_name("[::1]:8000"), host_name("::1")
    ('localhost', '::1', '::1')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    name = host if host.count(":") > 1 else host.partition(":")[0]
    return name.lower()
