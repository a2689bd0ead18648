"""The app of `sharpzo serve`: a photo in, a JSON document out."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sharpzo import __version__
from sharpzo.data.dataset import strange
from sharpzo.data.photo import Photo, as_photo
from sharpzo.detour import fixed_views
from sharpzo.fitting.documents import documents_of
from sharpzo.fitting.trained import Trained
from sharpzo.memory import MB
from sharpzo.models import Models
from sharpzo.towers.open import largest
from sharpzo.web.batches import Batches, Document
from sharpzo.web.refusals import BUSY, HANDLERS, Refusal
from sharpzo.web.uploads import Uploads


class Service:
    """Runs of ``models`` over HTTP.

    ``lost`` is the share of known photos that each run may take for none of its classes; ``top``
    classes are named, with ``multi`` each is decided on its own. A photo whose decoding takes more
    than ``memory`` bytes is refused. At most ``waiting`` photos wait for the batch before.
    """

    def __init__(
        self,
        models: Models,
        uploads: Uploads,
        *,
        lost: Mapping[str, float],
        top: int = 5,
        multi: bool = False,
        memory: int = 500 * MB,
        waiting: int = 128,
    ) -> None:
        self._models, self._uploads = models, uploads
        self._lost, self._top, self._multi, self._memory = lost, top, multi, memory
        self._most = waiting
        self._batches = Batches(self._documents, waiting)

    def app(self) -> Starlette:
        """What a server runs."""
        routes = [
            Route("/", self._root, methods=["GET", "POST"]),
            Route("/health", self._health, methods=["GET"]),
            Route("/{run}", self._classify, methods=["POST"]),
        ]
        app = Starlette(routes=routes, exception_handlers=HANDLERS)
        app.router.redirect_slashes = False
        return app

    def warm(self) -> None:
        """Open the towers, by a photo through each run."""
        grey = as_photo(np.full((8, 8, 3), 128, np.uint8))
        for run in self._models.runs:
            self._models.answer([grey], run=run)

    def close(self) -> None:
        """Answer what waits, and release the towers."""
        self._batches.close()
        self._models.close()

    # --- requests ---------------------------------------------------------------------------------

    async def _root(self, request: Request) -> Response:
        answer = self._classify if request.method == "POST" else self._about
        return await answer(request)

    async def _about(self, request: Request) -> Response:
        runs = {name: _described(self._models.trained(name)) for name in self._models.runs}
        return JSONResponse({"sharpzo": __version__, "runs": runs})

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "waiting": self._batches.waiting})

    async def _classify(self, request: Request) -> Response:
        run = self._run(request)
        kind = request.headers.get("content-type", "")
        if kind.startswith("multipart/"):
            raise Refusal(
                415, "the body is a form; send the photo's bytes alone: curl --data-binary @FILE"
            )
        if self._batches.waiting >= self._most:  # before the photo is sent
            raise self._busy()
        async with self._uploads.read(request) as body:
            if not body:
                raise Refusal(422, "the body is empty; send the bytes of a photo")
            try:
                future = self._batches.submit(run, body)
            except queue.Full:
                raise self._busy() from None
            document = await _answer(request, future)
        if "error" in document:
            raise Refusal(document.get("status", 422), f"the photo {document['error']}")
        return JSONResponse({**document, "path": "photo"})

    def _run(self, request: Request) -> str:
        """The run that a request names; Refusal if there is none."""
        runs, name = self._models.runs, request.path_params.get("run")
        if name in runs:
            return name
        if name is None and len(runs) == 1:
            return runs[0]
        which = f"no run {name!r} here" if name else "no run named"
        raise Refusal(404, f"there is {which}; post to one of: {', '.join(map(repr, runs))}")

    def _busy(self) -> Refusal:
        return Refusal(503, f"{self._most} photos wait already; try again in a second", BUSY)

    # --- in the thread of the batches -------------------------------------------------------------

    def _documents(self, run: str, bodies: Sequence[bytes]) -> list[Document]:
        trained = self._models.trained(run)
        photos = [Photo(str(k), content=body) for k, body in enumerate(bodies)]
        found = {photo.name: _too_large(trained, photo, self._memory) for photo in photos}
        usable = [photo for photo in photos if found[photo.name] is None]
        answers = self._models.answer(usable, run=run)
        documents = documents_of(trained, answers, self._lost[run], self._top, self._multi)
        found |= {document["path"]: document for document in documents}
        return [document for document in found.values() if document is not None]


def _described(trained: Trained) -> dict[str, Any]:
    """What a client has to know of a run: its classes, and whether it says "none of these"."""
    return {
        "classes": [str(label) for label in trained.classes],
        "none": trained.strangers is not None,
        "method": trained.method.name,
    }


def _too_large(trained: Trained, photo: Photo, memory: int) -> Document | None:
    """What is said of a photo that takes too much memory."""
    split = strange([photo])
    seen = [split, *(split.seen(view) for view in fixed_views([trained.head]))]
    needed = largest(map(trained.towers.sized, seen))
    if needed <= memory:
        return None
    return {
        "status": 413,
        "error": f"takes {needed / MB:,.0f} MB of memory to decode (the limit is "
        f"{memory / MB:,.0f} MB); make it smaller",
    }


async def _answer(request: Request, future: Future[Document]) -> Document:
    """Wait for an answer, or until the client is gone: then its photo needs none."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    answer, left = asyncio.wrap_future(future), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({answer, left}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    except asyncio.CancelledError:  # a second signal ends all at once
        raise ClientDisconnect from None
    finally:
        left.cancel()
        answer.cancel()
