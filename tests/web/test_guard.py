"""Who may ask a service: this machine under its own names, no page of another site, a token."""

import pytest
from starlette.responses import PlainTextResponse

from asgi import ask
from sharpzo.web.guard import LOOPBACK, Guard

TOKEN = "a token of many letters"


def app(**options):
    options.setdefault("hosts", LOOPBACK)
    return Guard(PlainTextResponse("in"), **options)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "LocalHost:9000", "[::1]:8000"])
def test_this_machine_may_ask(host):
    found = ask(app(), "POST", "/", {"Host": host})
    assert (found.status, found.body) == (200, b"in")
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8000", "localhost.evil", "", "[evil]:80"]
)
def test_a_name_that_leads_here_is_refused(host):
    found = ask(app(), "GET", "/", {"Host": host})
    assert found.status == 403
    assert list(found.json) == ["error"]
    assert ask(app(hosts=None), "GET", "/", {"Host": host}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[::1"},  # no address
        {"Origin": "http://localhost:8000"},  # of another name
        {"Origin": "http://127.0.0.1:3000"},  # another program of this machine
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"},
    ],
)
def test_pages_of_other_sites_are_refused(headers):
    for method in ("GET", "POST"):
        assert ask(app(), method, "/", headers).status == 403


def test_a_page_of_its_own_may_ask_and_be_opened():
    own = {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}
    assert ask(app(), "POST", "/", own).status == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    assert ask(app(), "GET", "/", link).status == 200
    assert ask(app(), "POST", "/", link).status == 403  # a form of another site
    assert ask(app(), "GET", "/", {"Sec-Fetch-Site": "none"}).status == 200


@pytest.mark.parametrize(
    "given",
    [None, "", TOKEN, "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ü"],
)
def test_without_the_token_nothing_is_answered(given):
    headers = {} if given is None else {"Authorization": given}
    found = ask(app(hosts=None, token=TOKEN), "GET", "/", headers)
    assert found.status == 401
    assert found.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in found.body.decode()


def test_with_the_token_any_name_will_do():
    headers = {"Authorization": f"bearer {TOKEN}", "Host": "board.local:8000"}
    assert ask(app(hosts=None, token=TOKEN), "GET", "/", headers).status == 200
