"""Bodies of requests: as many bytes as are allowed, in the time that is allowed."""

import asyncio

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi import ask, asked
from sharpzo.web.refusals import HANDLERS
from sharpzo.web.uploads import Uploads


def app(uploads, wait=None):
    async def take(request):
        async with uploads.read(request) as body:
            if wait is not None:
                await wait.wait()
            return PlainTextResponse(str(len(body)))

    return Starlette(routes=[Route("/", take, methods=["POST"])], exception_handlers=HANDLERS)


def test_a_body_of_the_limit_is_read_and_one_byte_more_is_not():
    uploads = Uploads(10, 100)
    assert ask(app(uploads), "POST", "/", parts=[b"12345", b"67890"]).body == b"10"
    for headers, parts in (({}, [b"12345", b"678901"]), ({"content-length": "11"}, [b""])):
        found = ask(app(uploads), "POST", "/", headers, parts)
        assert found.status == 413
        assert "too large" in found.json["error"]
    assert uploads._held == 0


def test_a_body_that_never_ends_is_given_up():
    uploads = Uploads(10**9, 10**9, seconds=0.05)
    found = ask(app(uploads), "POST", "/", parts=[b"x"] * 1000, pause=0.01)
    assert found.status == 408
    assert uploads._held == 0


def test_all_bodies_together_have_a_limit():
    async def both():
        uploads, wait = Uploads(10, 15), asyncio.Event()
        one = asyncio.ensure_future(asked(app(uploads, wait), "POST", "/", parts=[b"x" * 10]))
        await asyncio.sleep(0.01)
        two = await asked(app(uploads), "POST", "/", parts=[b"x" * 10])
        wait.set()
        again = await asked(app(uploads), "POST", "/", parts=[b"x" * 5])
        return await one, two, again, uploads._held

    one, two, again, held = asyncio.run(both())
    assert (one.status, two.status, again.status, held) == (200, 503, 200, 0)
    assert two.headers["retry-after"] == "1"


def test_a_client_that_goes_away_leaves_nothing():
    uploads = Uploads(10, 10)
    assert ask(app(uploads), "POST", "/", parts=[b"x", None]).status == 400
    assert uploads._held == 0


def test_what_starlette_refuses_is_a_sentence():
    found = ask(app(Uploads(1, 1)), "GET", "/")
    assert (found.status, found.headers["allow"]) == (405, "POST")
    assert found.json == {"error": "/ takes POST, not GET"}
    assert ask(app(Uploads(1, 1)), "GET", "/ä/../x").json == {
        "error": "there is nothing at /ä/../x"
    }
