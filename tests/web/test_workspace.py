"""Photos that a page sends: names that lead elsewhere, files that are none, and how many."""

import io
import os
from unittest.mock import Mock

import pytest
from PIL import Image

from sharpzo.errors import InputError
from sharpzo.web import workspace as module
from sharpzo.web.tab import numbered
from sharpzo.web.workspace import Workspace


def photo(colour="red", kind="PNG", side=8) -> bytes:
    Image.new("RGB", (side, side), colour).save(file := io.BytesIO(), kind)
    return file.getvalue()


def put(workspace, label, name, content):
    with workspace.incoming() as file:
        file.write_bytes(content)
        return workspace.add(label, name, file)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "1")


def test_photos_come_and_go(workspace):
    assert put(workspace, "ripe_tomato", "a.png", photo()) == "a.png"
    assert put(workspace, "Ripe tomato", "a.png", photo()) == "a.png"  # the same, once
    assert put(workspace, "ripe tomato", "a.png", photo("blue")) == "a-2.png"
    assert put(workspace, "leaf", "IMG 1", photo(kind="JPEG")) == "IMG 1.jpg"
    held = {name: [p.name for p in photos] for name, photos in workspace.classes().items()}
    assert held == {"leaf": ["IMG 1.jpg"], "ripe tomato": ["a-2.png", "a.png"]}
    before = workspace.digest()
    workspace.remove("ripe tomato", "a-2.png")
    assert workspace.digest() != before
    workspace.remove_class("leaf")
    assert {n: len(p) for n, p in workspace.classes().items()} == {"ripe tomato": 1}
    assert Image.open(io.BytesIO(workspace.picture("ripe tomato", "a.png", 4))).size == (4, 4)
    again = Workspace(workspace.folder)
    assert again.classes() == workspace.classes()
    assert (again._many, again._bytes) == (workspace._many, workspace._bytes) == (1, len(photo()))


@pytest.mark.parametrize(
    "name", ["../x.png", "..\\..\\x.png", "/etc/passwd", "a/../../x.png", ".hidden.png", "...", "",
             "a\0b.png", "x" * 3000 + ".png", "😀" * 99,
             "run.json", "c:1.png", "\ud800.png", "\u202egnp.exe"]
)  # fmt: skip
def test_a_name_never_leads_out(workspace, name):
    before = {path for path in workspace.folder.parent.rglob("*") if path.is_file()}
    for label in ("cat", name):
        try:
            given = put(workspace, label, name, photo())
        except InputError:
            continue  # what is left of it is no name
        (new,) = [p for photos in workspace.classes().values() for p in photos]
        assert (new.name, new.parent.parent) == (given, workspace.photos)
        assert new.suffix == ".png"
        workspace.remove(new.parent.name, given)
    assert {path for path in workspace.folder.parent.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["..", "../photos", "/", "", "cat/../..", "a.png/..", "cat\0"])
def test_what_is_looked_for_is_among_what_is_there(workspace, name):
    put(workspace, "cat", "a.png", photo())
    (workspace.folder / "photos" / "loose.png").write_bytes(photo())
    for call in (
        lambda: workspace.find(name, "a.png"),
        lambda: workspace.find("cat", name),
        lambda: workspace.remove("cat", name),
        lambda: workspace.remove_class(name),
        lambda: workspace.picture(name, "loose.png", 8),
    ):
        with pytest.raises(InputError, match="there is no"):
            call()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_is_not_handed_out(workspace, tmp_path):
    put(workspace, "cat", "a.png", photo())
    (tmp_path / "secret.png").write_bytes(photo())
    (workspace.photos / "cat" / "b.png").symlink_to(tmp_path / "secret.png")
    workspace.version += 1
    with pytest.raises(InputError, match="no photo"):
        workspace.picture("cat", "b.png", 8)


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html><script>", b"%PDF-1.4",
     b"\x89PNG\r\n\x1a\n", photo()[:30], b"GIF89a"],
)  # fmt: skip
def test_what_is_no_photo_is_refused_and_leaves_nothing(workspace, content):
    with pytest.raises(InputError, match=r"^photo a\.png "):
        put(workspace, "cat", "a.png", content)
    assert workspace.classes() == {}
    assert not any(path.is_file() for path in workspace.folder.rglob("*"))


def test_a_class_name_that_would_be_passed_over_is_refused(workspace):
    for name in ("train", "Validation set", "lost+found", "", " . ", "\u200e", "x" * 200):
        with pytest.raises(InputError):
            workspace.add_class(name)
    assert workspace.add_class("black/white *shirt*") == "black white shirt"
    assert list(workspace.classes()) == ["black white shirt"]


def test_there_are_limits(workspace, monkeypatch):
    monkeypatch.setattr(module, "MOST_CLASSES", 2)
    monkeypatch.setattr(module, "MOST_PHOTOS", 3)
    for label in ("cat", "dog"):
        put(workspace, label, "a.png", photo())
    with pytest.raises(InputError, match="2 classes, which is the most"):
        put(workspace, "cow", "a.png", photo())
    put(workspace, "dog", "b.png", photo())
    with pytest.raises(InputError, match="3 photos, which is the most"):
        put(workspace, "dog", "c.png", photo())
    workspace.remove("dog", "b.png")
    monkeypatch.setattr(module, "MOST_TOGETHER", len(photo()))
    with pytest.raises(InputError, match="MB together"):
        workspace.check_room()


def test_photos_of_a_folder_are_copied(workspace, tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "own" / label).mkdir(parents=True)
        (tmp_path / "own" / label / "a.png").write_bytes(photo())
        (tmp_path / "own" / label / "b.png").write_text("no photo")
    told = []
    workspace.add_folder(tmp_path / "own", told.append)
    assert told == [1, 1, 2, 2]
    assert {n: len(p) for n, p in workspace.classes().items()} == {"cat": 1, "dog": 1}
    workspace.remove_class("cat")
    assert (tmp_path / "own" / "cat" / "a.png").exists()


def test_a_class_without_photos_is_gone_once_it_is_removed(workspace):
    workspace.add_class("cat")
    assert list(workspace.classes()) == ["cat"]
    before = workspace.version
    workspace.remove_class("cat")
    assert workspace.classes() == {}
    assert workspace.version > before


def test_a_photo_that_cannot_be_moved_does_not_count(workspace, monkeypatch):
    put(workspace, "cat", "a.png", photo())
    monkeypatch.setattr(module, "MOST_PHOTOS", 2)
    with monkeypatch.context() as full:
        full.setattr(module.os, "replace", Mock(side_effect=OSError("full")))
        with pytest.raises(OSError, match="full"):
            put(workspace, "cat", "b.png", photo())
    workspace.check_room()


def test_what_is_not_called_by_a_number_is_not_ours(tmp_path):
    for name in ("2", "10", "x", "²", ".hidden", "-1"):
        (tmp_path / name).mkdir()
    assert [place.name for place in numbered(tmp_path)] == ["2", "10"]
