"""The page of `sharpzo ui`: what it may ask for, each within the workspace of its tab.

The address that the command prints ends with a token behind a ``#``, which browsers send to no one.
The page opens a workspace with it, and gets a secret name, under which alone the photos, runs and
progress of that workspace are found.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from sharpzo.errors import SharpzoError
from sharpzo.memory import MB
from sharpzo.web.answering import Answering
from sharpzo.web.refusals import HANDLERS, Refusal
from sharpzo.web.tab import METHODS, Tab
from sharpzo.web.tabs import Tabs
from sharpzo.web.uploads import Uploads
from sharpzo.web.workspace import MOST_BYTES

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
OF_A_REPORT = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
SIDE = 160  # pixels of a thumbnail
LOOK, ALIVE = 0.2, 10.0  # seconds between two looks at a state, and two signs of life
Handler = Callable[[Request, Tab], Awaitable[Response]]


class LivePage:
    """The app. ``token`` opens workspaces, and so does ``once``, a single time: every user of the
    machine may read the command line of a browser. ``can`` says what this installation can besides
    (``report``, ``web``). `close` ends the streams of events, which would last for ever."""

    def __init__(self, tabs: Tabs, token: str, can: dict[str, bool], once: str = "") -> None:
        self._tabs, self._token, self._can, self._once = tabs, token, can, once
        self._answering = Answering()
        self._photos = Uploads(MOST_BYTES, 8 * MOST_BYTES)
        self._documents = Uploads(MB // 10, MB)
        self._thumbnails = asyncio.Semaphore(2)
        self._closed = False

    def close(self) -> None:
        """End what would not end by itself."""
        self._closed = True

    def app(self) -> Starlette:
        """The ASGI app."""
        of_a_tab = [
            self._route("/events", self._events),
            self._route("/leave", self._leave, "POST"),
            self._route("/photos", self._list),
            self._route("/classes", self._add_class, "POST"),
            self._route("/classes/{label}", self._remove_class, "DELETE"),
            self._route("/photos/{label}/{name}", self._add, "PUT"),
            self._route("/photos/{label}/{name}", self._remove, "DELETE"),
            self._route("/photos/{label}/{name}", self._picture),
            self._route("/fill", self._fill, "POST"),
            self._route("/check", self._check, "POST"),
            self._route("/tune", self._tune, "POST"),
            self._route("/stop", self._stop, "POST"),
            self._route("/runs", self._runs),
            self._route("/runs/{run}/answer", self._answer, "POST"),
            self._route("/runs/{run}/export", self._export, "POST"),
            self._route("/runs/{run}/run.zip", self._run),
            self._route("/runs/{run}/report", self._report),
            self._route("/files/{name}", self._file),
        ]
        routes = [
            Route("/", self._asset("page.html", "text/html")),
            Route("/page.js", self._asset("page.js", "text/javascript")),
            Route("/page.css", self._asset("page.css", "text/css")),
            Route("/open", self._open, methods=["POST"]),
            Mount("/w/{key}", routes=of_a_tab),
        ]
        return Starlette(routes=routes, exception_handlers={**HANDLERS, SharpzoError: _refuse})

    # --- without a workspace ----------------------------------------------------------------------

    def _asset(self, name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
        content = (files("sharpzo") / "assets" / "ui" / name).read_bytes()

        async def asset(request: Request) -> Response:
            return Response(content, media_type=kind, headers=HEADERS)

        return asset

    async def _open(self, request: Request) -> Response:
        """The token, and the name of a workspace or none -> its secret, and what there is."""
        asked = await self._document(request)
        if not self._may_open(str(asked.get("token", "")).encode("utf-8", "replace")):
            raise Refusal(403, "open the page by the whole address that 'sharpzo ui' printed")
        name = asked.get("workspace")
        key, tab = await run_in_threadpool(self._tabs.open, None if name is None else str(name))
        return JSONResponse({
            "key": key,
            "token": self._token,
            "workspace": tab.workspace.folder.name,
            "methods": METHODS,
            "can": self._can,
            "folders": await run_in_threadpool(self._tabs.folders),
            "earlier": await run_in_threadpool(self._tabs.earlier, key),
        })  # fmt: skip

    def _may_open(self, token: bytes) -> bool:
        if self._once and hmac.compare_digest(token, self._once.encode()):
            self._once = ""
            return True
        return hmac.compare_digest(token, self._token.encode())

    async def _document(self, request: Request) -> dict[str, Any]:
        async with self._documents.read(request) as body:
            try:
                return msgspec.json.decode(body or b"{}", type=dict[str, Any])
            except (msgspec.MsgspecError, RecursionError):
                raise Refusal(400, "the body has to be a JSON object") from None

    def _route(self, path: str, handler: Handler, method: str = "GET") -> Route:
        async def found(request: Request) -> Response:
            tab = self._tabs.find(request.path_params["key"])
            if tab is None:
                raise Refusal(404, "this workspace is closed; load the page again")
            try:
                return await handler(request, tab)
            except SharpzoError as error:
                raise Refusal(400, tab.plain(str(error))) from None
            except OSError as error:
                raise Refusal(507, f"this cannot be kept: {error.strerror or error}") from None

        return Route(path, found, methods=[method])

    # --- photos -----------------------------------------------------------------------------------

    async def _events(self, request: Request, tab: Tab) -> Response:
        key = request.path_params["key"]

        async def states() -> AsyncIterator[str]:
            said, when = "", 0.0
            self._tabs.watching[key] = self._tabs.watching.get(key, 0) + 1
            try:
                while not self._closed and not await request.is_disconnected():
                    state = json.dumps(tab.state())
                    if state != said:
                        yield f"data: {state}\n\n"
                    elif time.monotonic() - when > ALIVE:
                        yield ": \n\n"
                    else:
                        await asyncio.sleep(LOOK)
                        continue
                    said, when = state, time.monotonic()
            finally:
                self._tabs.watching[key] -= 1
                self._tabs.seen(key)

        return StreamingResponse(states(), media_type="text/event-stream")

    async def _leave(self, request: Request, tab: Tab) -> Response:
        self._tabs.seen(request.path_params["key"], leaves=True)
        return JSONResponse({})

    async def _list(self, request: Request, tab: Tab) -> Response:
        def listed() -> dict[str, Any]:
            classes = {
                name: [[photo.name, photo.stat().st_mtime_ns // 10**6] for photo in photos]
                for name, photos in tab.workspace.classes().items()
            }
            return {"version": tab.workspace.version, "classes": classes, "found": tab.found()}

        return JSONResponse(await run_in_threadpool(listed))

    async def _add_class(self, request: Request, tab: Tab) -> Response:
        name = str((await self._document(request)).get("name", ""))
        with tab.changing() as workspace:
            return JSONResponse({"name": await run_in_threadpool(workspace.add_class, name)})

    async def _remove_class(self, request: Request, tab: Tab) -> Response:
        with tab.changing() as workspace:
            await run_in_threadpool(workspace.remove_class, request.path_params["label"])
        return JSONResponse({})

    async def _add(self, request: Request, tab: Tab) -> Response:
        def add(body: bytes) -> str:
            with tab.changing() as workspace, workspace.incoming() as file:
                file.write_bytes(body)
                label, name = (request.path_params[part] for part in ("label", "name"))
                return workspace.add(label, name, file)

        tab.workspace.check_room()  # before the bytes come
        async with self._photos.read(request) as body:
            return JSONResponse({"name": await run_in_threadpool(add, body)})

    async def _remove(self, request: Request, tab: Tab) -> Response:
        with tab.changing() as workspace:
            await run_in_threadpool(
                workspace.remove, request.path_params["label"], request.path_params["name"]
            )
        return JSONResponse({})

    async def _picture(self, request: Request, tab: Tab) -> Response:
        """A photo, small and encoded anew: what was sent is never handed out."""
        label, name = (request.path_params[part] for part in ("label", "name"))
        async with self._thumbnails:
            blob = await run_in_threadpool(tab.workspace.picture, label, name, SIDE)
        kept = {"Cache-Control": "private, max-age=86400"}  # its address changes with the photo
        return Response(blob, media_type="image/jpeg", headers=kept)

    async def _fill(self, request: Request, tab: Tab) -> Response:
        """Photos of the demo, or of a folder of the person's."""
        asked = await self._document(request)
        name = asked.get("folder")
        folder = None if name is None else await run_in_threadpool(self._tabs.folder, str(name))

        await run_in_threadpool(tab.fill, folder)
        return JSONResponse({})

    async def _check(self, request: Request, tab: Tab) -> Response:
        await run_in_threadpool(tab.check)
        return JSONResponse({})

    # --- runs -------------------------------------------------------------------------------------

    async def _tune(self, request: Request, tab: Tab) -> Response:
        asked = await self._document(request)
        if "run" in asked:
            await run_in_threadpool(tab.resume, str(asked["run"]))
        else:
            await run_in_threadpool(tab.tune, str(asked.get("method", "")))
        return JSONResponse({})

    async def _stop(self, request: Request, tab: Tab) -> Response:
        tab.desk.stop()
        return JSONResponse({})

    async def _runs(self, request: Request, tab: Tab) -> Response:
        return JSONResponse(await run_in_threadpool(tab.results))

    async def _answer(self, request: Request, tab: Tab) -> Response:
        def answer(body: bytes) -> dict[str, Any]:
            return self._answering.answer(tab.finished(request.path_params["run"]), body)

        async with self._photos.read(request) as body:
            return JSONResponse(await run_in_threadpool(answer, body))

    async def _export(self, request: Request, tab: Tab) -> Response:
        asked = await self._document(request)
        kind = str(asked.get("kind", ""))
        await run_in_threadpool(tab.export, request.path_params["run"], kind)
        return JSONResponse({})

    async def _run(self, request: Request, tab: Tab) -> Response:
        run = request.path_params["run"]
        blob = await run_in_threadpool(tab.run_zip, run)
        return Response(blob, media_type="application/zip", headers=_saved(f"run-{run}.zip"))

    async def _report(self, request: Request, tab: Tab) -> Response:
        file = tab.file(f"{request.path_params['run']}-report.html")
        return FileResponse(file, headers={**HEADERS, "Content-Security-Policy": OF_A_REPORT})

    async def _file(self, request: Request, tab: Tab) -> Response:
        file = tab.file(request.path_params["name"])
        return FileResponse(file, headers=_saved(file.name))


def _saved(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


async def _refuse(request: Request, error: Exception) -> Response:
    return Refusal(400, str(error)).response()
