"""Features that are kept: by photo, within a limit, beside other processes, and on any disk."""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from command import answer
from sharpzo.data.dataset import LabelledPhotos
from sharpzo.data.photo import as_photo
from sharpzo.errors import InputError, PhotosError
from sharpzo.towers import feature_store as module
from sharpzo.towers.checkpoint import Checkpoint, resolve
from sharpzo.towers.feature_store import FILE, FeatureStore
from sharpzo.towers.features import encode
from sharpzo.towers.lowmem.image_process import ImageProcess
from sharpzo.towers.tower import OnnxImageTower

WAY, OTHER = "ab" * 32, "cd" * 32
WIDTH = 8


def rows(*numbers: int) -> dict[str, np.ndarray]:
    """States of photos by their digests."""
    return {f"{n:064x}": np.full(WIDTH, n, np.float32) for n in numbers}


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "features")


@pytest.fixture(autouse=True)
def afresh(monkeypatch):
    monkeypatch.setattr(module, "_warned", set())


def test_what_is_written_is_read(store):
    store.write(WAY, rows(1, 2, 3))
    found = store.read(WAY, rows(2, 3, 4), WIDTH)
    assert set(found) == set(rows(2, 3))
    for photo, state in found.items():
        np.testing.assert_array_equal(state, rows(2, 3)[photo])
    assert store.read(OTHER, rows(2), WIDTH) == {}  # another tower, or another way through it
    assert store.read(WAY, rows(2), WIDTH + 1) == {}
    assert store.known(rows(2, 4)) == set(rows(2))
    assert store.usage().photos == 3
    store.write(OTHER, rows(1))
    assert store.usage().photos == 3


def test_an_empty_store_is_no_error(store):
    assert store.read(WAY, rows(1), WIDTH) == {}
    assert store.known(rows(1)) == set()
    store.write(WAY, {})
    assert not store.folder.exists()
    store.clear()
    assert (store.usage().photos, store.usage().bytes) == (0, 0)


def test_what_was_not_used_for_longest_goes(tmp_path, monkeypatch):
    now = 10**9
    monkeypatch.setattr(module.time, "time", lambda: now)
    limited = FeatureStore(tmp_path, limit=400_000)
    wide = {photo: np.zeros(1000, np.float32) for photo in rows(*range(40))}
    limited.write(WAY, wide)
    now += 2 * 3600
    first, second, *_ = wide
    assert set(limited.read(WAY, [first], 1000)) == {first}
    now += 3600
    for start in range(100, 400, 50):
        limited.write(WAY, {p: np.zeros(1000, np.float32) for p in rows(*range(start, start + 50))})
        assert limited.file.stat().st_size < 1.7 * limited.limit  # a write, until it is evicted
        now += 1
    assert limited.known([second]) == set()
    recent = rows(*range(350, 400))
    assert limited.known(recent) == set(recent)
    assert 50 <= limited.usage().photos < 100
    assert limited.known([first]) == set()  # used, but long ago by now


def test_a_photo_that_is_used_outlives_older_ones(tmp_path, monkeypatch):
    now = 10**9
    monkeypatch.setattr(module.time, "time", lambda: now)
    limited = FeatureStore(tmp_path, limit=400_000)
    wide = {photo: np.zeros(1000, np.float32) for photo in rows(*range(80))}
    limited.write(WAY, wide)
    now += 2 * 3600
    first, second, *_ = wide
    limited.read(WAY, [first], 1000)
    now += 1
    limited.write(WAY, {photo: np.zeros(1000, np.float32) for photo in rows(*range(100, 120))})
    assert limited.known([first, second]) == {first}


def test_the_limit_is_the_environments(store, monkeypatch):
    assert store.limit == 10**9
    monkeypatch.setenv(module.VARIABLE, "20MB")
    assert FeatureStore(store.folder).limit == 20 * 10**6
    monkeypatch.setenv(module.VARIABLE, "plenty")
    with pytest.raises(InputError, match="'plenty' is not a size"):
        FeatureStore(store.folder)


@pytest.mark.parametrize("damage", ["cut", "other", "empty", "flipped"])
def test_a_damaged_file_is_made_anew(store, damage, caplog):
    store.write(WAY, rows(*range(2000)))
    content = bytearray(store.file.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 3]
    elif damage == "empty":
        content = bytearray()
    elif damage == "other":
        content = bytearray(b"something else " * 1000)
    else:
        place = content.index(np.full(WIDTH, 7, np.float32).tobytes())
        content[place] ^= 1
    store.file.write_bytes(content)
    found = store.read(WAY, rows(*range(2000)), WIDTH)
    assert rows(7).keys().isdisjoint(found)
    for photo, state in found.items():
        np.testing.assert_array_equal(state, np.full(WIDTH, int(photo, 16)))
    store.write(WAY, rows(7))
    assert set(store.read(WAY, rows(7), WIDTH)) == set(rows(7))
    assert len(caplog.records) <= 1


def test_a_folder_that_cannot_be_made_is_told_once(tmp_path, caplog):
    (tmp_path / "file").touch()
    blocked = FeatureStore(tmp_path / "file" / "features")
    for _ in range(3):
        blocked.write(WAY, rows(1))
        assert blocked.read(WAY, rows(1), WIDTH) == {}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "cannot be used" in record.message
    assert "no features are kept" in record.message


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("database or disk is full"),
        sqlite3.OperationalError("attempt to write a readonly database"),
        OSError(28, "No space left on device"),
    ],
)
def test_a_full_disk_costs_no_work(store, monkeypatch, caplog, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(module, "_evict", fail)
    store.write(WAY, rows(1))
    store.write(WAY, rows(2))
    (record,) = caplog.records
    assert str(error.args[-1]) in record.message
    assert store.read(WAY, rows(1), WIDTH) == {}


def test_what_others_lock_for_long_is_left_alone(store, monkeypatch, caplog):
    store.write(WAY, rows(1))
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    other = sqlite3.connect(store.file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    store.write(WAY, rows(2))
    assert store.read(WAY, rows(1), WIDTH) == {}
    other.execute("ROLLBACK")
    other.close()
    assert "locked" in caplog.records[0].message
    assert set(store.read(WAY, rows(1), WIDTH)) == set(rows(1))


def test_processes_write_at_the_same_time(store):
    code = (
        "import sys, numpy as np; from sharpzo.towers.feature_store import FeatureStore\n"
        "store, who = FeatureStore(sys.argv[1]), int(sys.argv[2])\n"
        "for i in range(20):\n"
        f"    one = {{f'{{100 * who + i:064x}}': np.full({WIDTH}, 100 * who + i, np.float32)}}\n"
        f"    store.write({WAY!r}, one); store.read({WAY!r}, one, {WIDTH})"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(store.folder), str(who)],
                         stderr=subprocess.PIPE)
        for who in range(3)
    ]  # fmt: skip
    for process in processes:
        assert process.communicate()[1] == b""
    wanted = rows(*(100 * who + i for who in range(3) for i in range(20)))
    found = store.read(WAY, wanted, WIDTH)
    assert set(found) == set(wanted)
    assert all((state == int(photo, 16)).all() for photo, state in found.items())


# --- encoding with it ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint():
    return Checkpoint.open(resolve(None))


@pytest.fixture
def passes(monkeypatch):
    """How many photos pass the image tower."""
    counts = []
    honest = OnnxImageTower.summarise

    def forward(tower, pixels):
        counts.append(len(pixels))
        return honest(tower, pixels)

    monkeypatch.setattr(OnnxImageTower, "summarise", forward)
    return counts


def split(*seeds: int) -> LabelledPhotos:
    pixels = [np.random.default_rng(s).integers(0, 256, (40, 40, 3), np.uint8) for s in seeds]
    photos = tuple(as_photo(one, f"photo {s}") for one, s in zip(pixels, seeds, strict=True))
    return LabelledPhotos(photos, np.zeros(len(photos), np.int64), ("cat",))


def encoded(checkpoint, folder, photos, **options):
    return encode(checkpoint, {"some": photos}, threads=1, cache=folder, **options)["some"]


def test_one_photo_more_encodes_one_photo(checkpoint, tmp_path, passes):
    first = encoded(checkpoint, tmp_path, split(1, 2, 3))
    again = encoded(checkpoint, tmp_path, split(1, 2, 3))
    assert sum(passes) == 3
    np.testing.assert_array_equal(again.states, first.states)
    assert again.fingerprint == first.fingerprint
    more = encoded(checkpoint, tmp_path, split(3, 4, 1))
    assert sum(passes) == 4
    np.testing.assert_array_equal(more.states[[0, 2]], first.states[[2, 0]])
    alone = encoded(checkpoint, None, split(3, 4, 1))
    np.testing.assert_allclose(more.vectors, alone.vectors, atol=1e-5)
    assert more.fingerprint == alone.fingerprint != first.fingerprint


def test_states_under_a_memory_limit_are_kept_apart(checkpoint, tmp_path, passes):
    """They are computed otherwise, so their last digits differ: results must not depend on which
    run came first."""

    def elsewhere():
        return ImageProcess(checkpoint, threads=1)

    encoded(checkpoint, tmp_path, split(1))
    limited = encoded(checkpoint, tmp_path, split(1), open_tower=elsewhere)
    assert sum(passes) == 1
    np.testing.assert_array_equal(
        limited.states, encoded(checkpoint, None, split(1), open_tower=elsewhere).states
    )


def test_all_bad_photos_are_named_after_the_good_ones_are_kept(checkpoint, tmp_path, passes):
    for name, content in (("text.jpg", b"text"), ("empty.jpg", b"")):
        (tmp_path / name).write_bytes(content)
    bad = [as_photo(tmp_path / name) for name in ("text.jpg", "empty.jpg", "missing.jpg")]
    good = split(1, 2)
    photos = LabelledPhotos((good.photos[0], *bad, good.photos[1]), np.zeros(5, int), ("cat",))
    with pytest.raises(PhotosError) as caught:
        encode(checkpoint, {"a": photos, "b": photos}, threads=1, cache=tmp_path / "features")
    assert {Path(error.photo).name for error in caught.value.errors} == {
        "text.jpg", "empty.jpg", "missing.jpg"
    }  # fmt: skip
    assert len(caught.value.errors) == 3
    assert all(str(error) in str(caught.value) for error in caught.value.errors)
    assert sum(passes) == 2
    encoded(checkpoint, tmp_path / "features", good)
    assert sum(passes) == 2


def test_long_work_is_kept_as_it_goes(checkpoint, tmp_path, monkeypatch, passes):
    monkeypatch.setattr("sharpzo.towers.features._KEPT", 2)

    def stop(what, done, total):
        if done == 4:  # passed, but not kept yet
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoded(checkpoint, tmp_path, split(1, 2, 3, 4), progress=stop)
    received = []
    encoded(checkpoint, tmp_path, split(1, 2, 3, 4), progress=lambda *a: received.append(a[1:]))
    assert received == [(4, 4)]  # two were there
    assert FILE in {path.name for path in tmp_path.iterdir()}


# --- the command ---------------------------------------------------------------------------------


def test_the_command_shows_and_clears(store, capsys, monkeypatch):
    def call(*arguments):
        return answer(capsys, 0, "cache", "--cache", store.folder, *arguments).out

    store.write(WAY, rows(1, 2))
    found = json.loads(call("--json"))
    assert (found["photos"], found["limit"]) == (2, 10**9)
    assert found["bytes"] == store.file.stat().st_size
    assert "features of 2 photos" in call()
    assert "Removed the features of 2 photos" in call("--clear")
    assert json.loads(call("--json"))["photos"] == 0
    assert not list(store.folder.iterdir())


def test_every_view_is_encoded_once(checkpoint, tmp_path, passes):
    views = ["mirror", "middle"]
    plain = encoded(checkpoint, tmp_path, split(1, 2))
    found = encoded(checkpoint, tmp_path, split(1, 2), fixed_views=views)
    again = encoded(checkpoint, tmp_path, split(2, 1), fixed_views=views)
    assert sum(passes) == 2 * 3
    np.testing.assert_array_equal(found.vectors, plain.vectors)
    assert list(found.by_view) == views
    mirrored = LabelledPhotos(
        tuple(as_photo(photo.decode()[:, ::-1]) for photo in split(1, 2).photos),
        np.zeros(2, np.int64), ("cat",),
    )  # fmt: skip
    wanted = encoded(checkpoint, None, mirrored)
    for name in ("vectors", "tokens"):
        seen = getattr(found.by_view["mirror"], name)
        np.testing.assert_allclose(seen, getattr(wanted, name), atol=1e-5)
        np.testing.assert_array_equal(
            getattr(again.take(np.array([1, 0])).by_view["mirror"], name), seen
        )
