"""Graphs of image towers on disk: kept, checked, written anew, and evicted."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_models import TEXT, VISION, save_clip

from sharpzo.data.demo import load_demo
from sharpzo.errors import EngineError
from sharpzo.towers import families, graph_store, runtime
from sharpzo.towers import open as opened
from sharpzo.towers import tower as tower_module
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.graph_store import STAMP, GraphStore
from sharpzo.towers.image import build_image
from sharpzo.towers.tower import OnnxImageTower


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    vision = {**VISION, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    save_clip(folder, TEXT, vision)
    return Checkpoint.open(folder)


def photo() -> list[np.ndarray]:
    return [np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)]


def states(checkpoint, store) -> np.ndarray:
    tower = OnnxImageTower(checkpoint, threads=1, graphs=store)
    found = tower.states(photo())
    tower.close()
    return found


@pytest.fixture
def builds(monkeypatch):
    made = []

    def build(*arguments):
        made.append(arguments)
        return build_image(*arguments)

    family = replace(families.IMAGES["dinov2"](), build=build)
    monkeypatch.setattr(families, "IMAGES", {"dinov2": lambda: family, "clip": lambda: family})
    return made


def test_memory_is_released_once_where_many_photos_follow(checkpoint, tmp_path, monkeypatch):
    released = []
    monkeypatch.setattr(tower_module, "trim", lambda: released.append(1))
    tower = OnnxImageTower(checkpoint, batch=2, threads=1, graphs=GraphStore(tmp_path))
    tower.states(photo())
    assert not released  # a person waits for one answer
    tower.close()
    many = tower.states(photo() * 5)
    assert len(released) == 1
    np.testing.assert_array_equal(tower.states(photo() * 5), many)
    assert len(released) == 1
    tower.close()


def test_a_graph_is_built_once(checkpoint, tmp_path, builds):
    store = GraphStore(tmp_path)
    wanted = states(checkpoint, GraphStore(None))
    np.testing.assert_array_equal(states(checkpoint, store), wanted)
    np.testing.assert_array_equal(states(checkpoint, store), wanted)
    assert len(builds) == 2  # one was not kept
    assert store.bytes() > 10_000
    store.clear()
    assert store.bytes() == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "stamp.json"])
@pytest.mark.parametrize("how", ["cut", "changed", "missing"])
def test_a_damaged_graph_is_written_anew(checkpoint, tmp_path, builds, name, how):
    store = GraphStore(tmp_path)
    wanted = states(checkpoint, store)
    file = next(tmp_path.glob(f"graph-*/{name}"))
    content = file.read_bytes()
    if how == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif how == "changed":
        file.write_bytes(content[:-20] + bytes(20))
    else:
        file.unlink()
    np.testing.assert_array_equal(states(checkpoint, store), wanted)
    np.testing.assert_array_equal(states(checkpoint, store), wanted)
    assert len(builds) == 2
    assert len(list(tmp_path.iterdir())) == 1


def _flip(words: np.ndarray) -> None:
    words[700] ^= 1 << 40


def _swap_pages(words: np.ndarray) -> None:
    pages = words.reshape(-1, 512)
    pages[[3, 90]] = pages[[90, 3]]


def _swap_words(words: np.ndarray) -> None:
    words[[40, 41]] = words[[41, 40]]


def _move_between_words(words: np.ndarray) -> None:
    words[600] += 5
    words[650] -= 5


def _move_between_pages(words: np.ndarray) -> None:
    words[512] += 5
    words[1024] -= 5


@pytest.mark.parametrize(
    "damage",
    [_flip, _swap_pages, _swap_words, _move_between_words, _move_between_pages],
)
def test_what_is_damaged_has_another_stamp(tmp_path, damage):
    words = np.random.default_rng(0).integers(0, 1 << 60, 512 * 100 + 7, np.uint64)
    words[-1] = 0
    file = tmp_path / "model.onnx"
    words.tofile(file)
    before = graph_store._stamp(tmp_path)
    damage(words[: 512 * 100] if damage is _swap_pages else words)
    words.tofile(file)
    assert graph_store._stamp(tmp_path) != before


def test_zeros_at_the_end_count(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"weights" + bytes(9))
    before = graph_store._stamp(tmp_path)
    file.write_bytes(b"weights" + bytes(8))
    assert graph_store._stamp(tmp_path) != before


def test_a_graph_that_the_runtime_refuses_is_written_anew(checkpoint, tmp_path, builds):
    store = GraphStore(tmp_path)
    wanted = states(checkpoint, store)
    folder = next(tmp_path.glob("graph-*"))
    (folder / "model.onnx").write_bytes(b"no graph")
    (folder / "stamp.json").write_bytes(graph_store._stamp(folder))
    np.testing.assert_array_equal(states(checkpoint, store), wanted)
    assert len(builds) == 2


def _nest(place: Path) -> None:
    (place / "stamp.json").write_text("[" * 100_000)


def _link(place: Path) -> None:
    shutil.rmtree(place)
    place.symlink_to(place.parent.parent / "precious")


def _leave_a_file(place: Path) -> None:
    shutil.rmtree(place)
    place.touch()


@pytest.mark.parametrize("spoil", [_nest, _link, _leave_a_file])
def test_what_stands_in_the_place_of_a_graph_makes_room(checkpoint, tmp_path, builds, spoil):
    precious = tmp_path / "precious" / "file"
    precious.parent.mkdir()
    precious.touch()
    store = GraphStore(tmp_path / "cache")
    wanted = states(checkpoint, store)
    place = next((tmp_path / "cache").iterdir())
    spoil(place)
    np.testing.assert_array_equal(states(checkpoint, store), wanted)
    np.testing.assert_array_equal(states(checkpoint, store), wanted)
    assert len(builds) == 2
    spoil(place)
    store.clear()
    assert not list((tmp_path / "cache").iterdir())
    assert precious.exists()


def test_what_a_killed_process_left_is_counted_and_goes(checkpoint, tmp_path):
    def build():
        return build_image(checkpoint, 32, 32)

    GraphStore(tmp_path).open("one", build, lambda path: None)
    size = GraphStore(tmp_path).bytes()
    left = tmp_path / ".graph-left"
    left.mkdir()
    (left / "model.onnx.data").write_bytes(bytes(1000))
    os.utime(left, (0, 0))
    store = GraphStore(tmp_path, limit=2 * size + 500)
    assert store.bytes() == size + 1000
    store.open("other", build, lambda path: None)
    assert not left.exists()
    assert store.bytes() == 2 * size


def test_other_code_has_another_graph(checkpoint, tmp_path, builds, monkeypatch):
    states(checkpoint, GraphStore(tmp_path))
    monkeypatch.setattr("sharpzo.towers.graph_store._code", lambda: "other")
    states(checkpoint, GraphStore(tmp_path))
    assert len(builds) == 2


def test_other_weights_have_another_graph(checkpoint, tmp_path, builds):
    store, made = GraphStore(tmp_path), []
    for made_of in ("one", "other", "one"):
        store.open(made_of, lambda: build_image(checkpoint, 32, 32), made.append)
    assert made[0] == made[2] != made[1]


def test_the_graph_that_was_not_used_for_longest_goes(checkpoint, tmp_path):
    def build():
        return build_image(checkpoint, 32, 32)

    made = []
    GraphStore(tmp_path).open("first", build, made.append)
    size = GraphStore(tmp_path).bytes()
    store = GraphStore(tmp_path, limit=round(2.5 * size))
    store.open("second", build, made.append)
    for long_ago, path in enumerate(made, 1):  # a clock may not tell what follows at once
        os.utime(path.parent / STAMP, (long_ago, long_ago))
    store.open("first", build, made.append)  # used again
    store.open("third", build, made.append)
    assert [path.is_file() for path in made] == [True, False, True, True]
    small = GraphStore(tmp_path / "small", limit=size // 2)
    small.open("first", build, made.append)
    assert small.bytes() == 0


def test_a_cache_that_cannot_be_written_to_stops_nothing(checkpoint, tmp_path, builds):
    (tmp_path / "file").touch()
    wanted = states(checkpoint, GraphStore(None))
    np.testing.assert_array_equal(states(checkpoint, GraphStore(tmp_path / "file")), wanted)


def test_what_starting_raises_is_raised(checkpoint, tmp_path):
    def refuse(path):
        raise EngineError("no")

    with pytest.raises(EngineError):
        GraphStore(tmp_path).open("one", lambda: build_image(checkpoint, 32, 32), refuse)


def test_the_image_towers_weights_are_given_back_before_others_are_read(monkeypatch, checkpoint):
    """Encoding ends with no session, and only then is free memory handed to the system."""
    sessions, order = [], []
    close = runtime.Session.close
    monkeypatch.setattr(
        runtime.Session, "close", lambda self: (sessions.append(self), close(self))[1]
    )
    monkeypatch.setattr(opened, "trim", lambda: order.append(len(sessions)))
    photos = load_demo(1).test.take(range(3))
    found = opened.Towers(checkpoint.folder, runtime.Runtime(threads=1)).encode(
        {"test": photos}, lambda *_: None, None, []
    )
    assert len(found["test"]) == 3
    assert order == [1]


def test_a_graph_is_written_anew_by_another_code_of_any_module_that_writes_some_of_it():
    """Of those that take part, the modules that name the builder."""
    folder, found, left = (
        Path(graph_store.__file__).parent,
        set(),
        {"image", "siglip_image", "resnet"},
    )
    while left:
        text = (folder / f"{(name := left.pop())}.py").read_text("utf-8")
        if "Builder" not in text:
            continue
        found.add(name)
        left |= set(re.findall(r"from sharpzo\.towers\.(\w+) import", text)) - found
    assert found >= {"patches", "pooling", "blocks", "integers"}
    assert {f"{name}.py" for name in found} <= set(graph_store._WRITERS)
