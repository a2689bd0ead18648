"""`sharpzo serve` by its app: what predict says, and what hostile clients get."""

import asyncio
import io
import json
import queue
import zlib
from concurrent.futures import Future

import numpy as np
import pytest
from PIL import Image

from asgi import ask, asked
from command import FAST, call, demo_folder, document
from sharpzo import Models
from sharpzo.memory import MB
from sharpzo.web.service import Service
from sharpzo.web.uploads import Uploads


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return demo_folder(tmp_path_factory.mktemp("photos"), train=4, test=2)


@pytest.fixture(scope="module")
def runs(photos, tmp_path_factory):
    """Two that tell photos of no class or do not, and have other classes."""
    folder = tmp_path_factory.mktemp("runs")
    assert call("fit", photos / "train", "--out", folder / "default") == 0
    assert call("fit", photos / "train", "--out", folder / "große Fotos", *FAST) == 0
    return [folder / "default", folder / "große Fotos"]


def make(runs, **how):
    models = Models(runs)
    how.setdefault("uploads", Uploads(MB, 4 * MB))
    how.setdefault("lost", dict.fromkeys(models.runs, 0.05))
    return Service(models, **how)


@pytest.fixture(scope="module")
def service(runs):
    made = make(runs)
    yield made
    made.close()


@pytest.fixture(scope="module")
def app(service):
    return service.app()


def png(pixels) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "png")
    return written.getvalue()


def test_the_answer_is_that_of_predict(app, runs, photos, capsys):
    for run in runs:
        some = sorted((photos / "test").rglob("*.png"))
        wanted = document(capsys, "predict", run, *some)
        for photo, expected in zip(some, wanted, strict=True):
            found = ask(app, "POST", f"/{run.name}", parts=[photo.read_bytes()])
            assert (found.status, found.headers["content-type"]) == (200, "application/json")
            assert found.json.keys() == expected.keys()
            assert found.json["path"] == "photo"
            for name in ("label", "none"):
                assert found.json[name] == expected[name]
            assert found.json["probability"] == pytest.approx(expected["probability"], abs=1e-5)
            labels = [[guess["label"] for guess in one["top"]] for one in (found.json, expected)]
            assert labels[0] == labels[1]


def test_what_fits_no_class_is_none(runs, photos):
    service = make(runs[:1], lost={"default": 0.5}, top=1)
    noise = png(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    found = ask(service.app(), "POST", "/", parts=[noise])
    assert found.json["none"] is True
    assert len(found.json["top"]) == 1
    service.close()


def test_who_asks_what_there_is(app, runs):
    found = ask(app, "GET", "/").json
    assert found["sharpzo"]
    assert list(found["runs"]) == [run.name for run in runs]
    assert found["runs"]["default"]["classes"] == ["bag", "dress", "sandal"]
    assert [one["none"] for one in found["runs"].values()] == [True, False]
    assert ask(app, "GET", "/health").json == {"status": "ok", "waiting": 0}


JPEG = io.BytesIO()
Image.new("RGB", (400, 300), (90, 60, 30)).save(JPEG, "jpeg")


def chunk(kind: bytes, body: bytes) -> bytes:
    check = zlib.crc32(kind + body).to_bytes(4, "big")
    return len(body).to_bytes(4, "big") + kind + body + check


SIZE = b"\0\0\xff\xff" * 2 + b"\x08\x02\0\0\0"  # 65,535 x 65,535 pixels
HUGE = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", SIZE) + chunk(b"IDAT", zlib.compress(bytes(1000)))


@pytest.mark.parametrize(
    ("path", "parts", "headers", "status", "sentence"),
    [
        ("/default", [b""], {}, 422, "the body is empty"),
        ("/default", [b"text"], {}, 422, "the photo is not a readable JPEG"),
        ("/default", [b"\0" * 999_999], {}, 422, "the photo is not a readable JPEG"),
        ("/default", [JPEG.getvalue()[:-200]], {}, 422, "the photo cannot be read"),
        ("/default", [HUGE], {}, 422, "the photo is too large (more than 178,956,970 pixels"),
        ("/default", [b"x" * 600_000] * 2, {}, 413, "too large (the limit is 1 MB)"),
        ("/default", [b""], {"content-length": "99999999999"}, 413, "too large"),
        ("/default", [b""], {"content-type": "multipart/form-data"}, 415, "--data-binary"),
        ("/", [b""], {}, 404, "no run named; post to one of: 'default', 'große Fotos'"),
        ("/other", [b""], {}, 404, "no run 'other' here"),
        ("/../default", [b""], {}, 404, "there is nothing at /../default"),
        ("/default/", [b""], {}, 404, "there is nothing at"),
        ("/\0\x1b[31m", [b""], {}, 404, "no run"),
        ("/" + "a" * 10_000, [b""], {}, 404, "no run"),
        ("/health", [b""], {}, 404, "no run 'health'"),
    ],
)  # fmt: skip
def test_what_is_refused_is_a_sentence(app, path, parts, headers, status, sentence):
    found = ask(app, "POST", path, headers, parts)
    assert found.status == status
    assert list(found.json) == ["error"]
    assert sentence in found.json["error"]
    assert "\n" not in found.json["error"]


def test_other_methods_are_refused(app):
    for method in ("PUT", "DELETE", "OPTIONS"):
        found = ask(app, method, "/default")
        assert (found.status, found.headers["allow"]) == (405, "POST")
        assert "error" in found.json
    assert ask(app, "GET", "/default").status == 405
    allowed = ask(app, "DELETE", "/").headers["allow"].split(", ")
    assert sorted(allowed) == ["GET", "HEAD", "POST"]


def test_a_photo_that_takes_too_much_memory_keeps_no_other_from_its_answer(runs, photos):
    service = make(runs, memory=2 * MB)
    app = service.app()
    large, small = png(np.zeros((900, 900, 4), np.uint8)), sorted(photos.rglob("*.png"))[0]

    async def both():
        return await asyncio.gather(
            asked(app, "POST", "/default", parts=[large]),
            asked(app, "POST", "/default", parts=[small.read_bytes()]),
        )

    refused, answered = asyncio.run(both())
    assert refused.status == 413
    assert "of memory to decode (the limit is 2 MB)" in refused.json["error"]
    assert answered.status == 200
    service.close()


def test_more_than_may_wait_are_told_to_come_again(runs, monkeypatch):
    service = make(runs, waiting=1)

    def full(run, photo):
        raise queue.Full

    monkeypatch.setattr(service._batches, "submit", full)
    found = ask(service.app(), "POST", "/default", parts=[b"x"])
    assert (found.status, found.headers["retry-after"]) == (503, "1")
    service.close()


def test_a_client_that_goes_away_leaves_its_place(service, app, monkeypatch):
    future = Future()
    monkeypatch.setattr(service._batches, "submit", lambda run, photo: future)

    async def leave():
        return await asked(app, "POST", "/default", parts=[b"x", b"y"], leaves=True)

    assert asyncio.run(leave()).status == 400
    assert future.cancelled()


def test_a_fault_of_ours_is_said_and_the_next_is_answered(runs, photos, monkeypatch):
    service = make(runs)
    app, photo = service.app(), sorted(photos.rglob("*.png"))[0].read_bytes()
    with monkeypatch.context() as once:
        once.setattr(service._models, "answer", None)
        with pytest.raises(TypeError):  # for the server, which prints it
            ask(app, "POST", "/default", parts=[photo])
    assert ask(app, "POST", "/default", parts=[photo]).status == 200
    service.close()


def test_runs_together_on_one_tower(app, runs, photos):
    some = [path.read_bytes() for path in sorted((photos / "test").rglob("*.png"))]
    alone = {(run.name, k): ask(app, "POST", f"/{run.name}", parts=[photo]).json["label"]
             for run in runs for k, photo in enumerate(some)}  # fmt: skip

    async def together():
        return await asyncio.gather(
            *(asked(app, "POST", f"/{run}", parts=[some[k]]) for run, k in alone)
        )

    found = [one.json["label"] for one in asyncio.run(together())]
    assert json.dumps(found) == json.dumps(list(alone.values()))
