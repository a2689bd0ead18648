from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from sharpzo.data import archive
from sharpzo.data.loading import gather, load, read
from sharpzo.errors import InputError

from .trees import photo, tree


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 30, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(path: Path, names: dict[str, bytes] | list[str]) -> Path:
    content = names if isinstance(names, dict) else dict.fromkeys(names, png())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in content.items():
            out.writestr(name, data)
    return path


@pytest.fixture(autouse=True)
def unpacked_here(tmp_path: Path, monkeypatch):
    """What is unpacked lies below tmp_path, and each test begins with nothing unpacked."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(archive, "_unpacked", {})


@pytest.mark.parametrize("around", ["", "photos/", "a/b/photos/"])
def test_a_zip_is_read_like_its_folder(tmp_path: Path, around: str):
    names = ["cat/1.png", "cat/2.png", "dog/1.png", "__MACOSX/cat/._1.png", "dog/notes.txt"]
    file = zipped(tmp_path / "photos.zip", [around + name for name in names])
    out = read(file)
    assert (out.class_names, len(out.train)) == (("cat", "dog"), 3)
    assert out.source == f"zip file {file}"
    assert next(out.train.decoded()).shape == (6, 8, 3)
    assert "dog/notes.txt (not a photo by its name)" in out.notes[0]
    assert load(file).train.counts().tolist() == [1, 1]


def test_splits_and_labels_in_a_zip(tmp_path: Path):
    names = ["x/train/a/1.png", "x/train/b/1.png", "x/test/a/1.png"]
    out = read(zipped(tmp_path / "splits.zip", names))
    assert (len(out.train), len(out.test)) == (2, 1)
    flat = {
        "x/1.png": png(),
        "x/2.png": png(),
        "x/metadata.csv": b"file_name,label\n1.png,a\n2.png,b\n",
    }
    assert len(read(zipped(tmp_path / "labels.zip", flat)).train) == 2
    file = tmp_path / "labels.csv"
    file.write_text("path,label\n1.png,c\n2.png,d\n")
    assert read(tmp_path / "labels.zip", labels=file).class_names == ("c", "d")


def test_a_zip_is_unpacked_once_and_gone_with_the_process(tmp_path: Path):
    file = zipped(tmp_path / "photos.zip", ["cat/1.png", "dog/1.png"])
    assert archive.unpack(file) == archive.unpack(str(file))
    code = "import sys; from sharpzo.data.archive import unpack; print(unpack(sys.argv[1]))\n{}"
    for end in ("", "raise KeyboardInterrupt", "sys.exit(3)"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(end), file],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
        )  # fmt: skip
        folder = Path(done.stdout.strip())
        assert folder.is_relative_to(tmp_path)
        assert not folder.exists()
    assert not list(tmp_path.glob("sharpzo-*"))


def test_nothing_is_written_outside(tmp_path: Path):
    bad = [
        "../out.png",
        "/abs.png",
        "cat/../../out.png",
        "..\\out.png",
        "C:\\out.png",
        "a/b/../c.png",
    ]
    file = zipped(tmp_path / "photos.zip", [*bad, "cat/1.png", "dog/1.png"])
    before = set(tmp_path.rglob("*"))
    root = archive.unpack(file)
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(root.parent) for path in new)
    assert sorted(p.name for p in root.rglob("*.png")) == ["1.png", "1.png"]


def test_links_are_not_made(tmp_path: Path):
    link = zipfile.ZipInfo("cat/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as out:
        out.writestr(link, "/etc/passwd")
        out.writestr("cat/1.png", png())
        out.writestr("dog/1.png", png())
    root = archive.unpack(tmp_path / "photos.zip")
    assert not any(path.is_symlink() for path in root.rglob("*"))
    assert len(read(tmp_path / "photos.zip").train) == 2


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(archive, "SMALL", 1 << 20)
    file = zipped(tmp_path / "bomb.zip", {"cat/1.png": bytes(4 << 20)})
    with pytest.raises(InputError, match="would unpack to 4,194,304 bytes, more than photos do"):
        read(file)
    monkeypatch.setattr(archive, "MOST_BYTES", 100)
    with pytest.raises(InputError, match="more than photos do"):
        read(zipped(tmp_path / "large.zip", ["cat/1.png", "dog/1.png"]))
    assert not list((tmp_path / "tmp").iterdir())


def test_a_size_that_lies_writes_no_more_than_it_says(tmp_path: Path):
    file = zipped(tmp_path / "lie.zip", {"cat/1.png": bytes(4 << 20), "dog/1.png": png()})
    content = bytearray(file.read_bytes())
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<L", 100)
    file.write_bytes(content)
    root = archive.unpack(file)
    assert (root / "cat" / "1.png").stat().st_size == 0  # its checksum is wrong
    assert (root / "dog" / "1.png").stat().st_size == len(png())


def test_a_list_of_too_many_files_is_not_read(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_LISTED", 1000)
    file = zipped(tmp_path / "many.zip", [f"cat/{i}.png" for i in range(40)])
    with pytest.raises(InputError, match="lists too many files"):
        read(file)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch):
    file = zipped(tmp_path / "photos.zip", ["cat/1.png", "dog/1.png"])

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(archive.shutil, "copyfileobj", full)
        with pytest.raises(InputError, match="No space left on device"):
            read(file)
    assert not list((tmp_path / "tmp").iterdir())
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda at: type("Usage", (), {"free": 10}))
    with pytest.raises(InputError, match="has 10 left; free some, or set TMPDIR"):
        read(file)


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "encrypted", "method", "twice", "long"])
def test_broken_zips_are_one_sentence(tmp_path: Path, kind: str):
    file = zipped(tmp_path / "photos.zip", ["cat/1.png", "dog/1.png"])
    content = bytearray(file.read_bytes())
    if kind in ("encrypted", "method"):
        place, value = (8, 1) if kind == "encrypted" else (10, 99)
        at = content.index(b"PK\x01\x02") + place
        content[at] = value
    file.write_bytes({"empty": b"", "text": b"hello", "cut": content[:-30]}.get(kind, content))
    if kind == "twice":
        with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(file, "a") as out:
            out.writestr("cat/1.png", png())
    if kind == "long":
        zipped(file, ["cat/" + "x" * 300 + ".png", "dog/1.png"])
    with pytest.raises(InputError, match=r"photos\.zip") as error:
        read(file)
    assert len(str(error.value).splitlines()) == 1
    assert not list((tmp_path / "tmp").iterdir())


def test_a_damaged_photo_is_found_when_it_is_decoded(tmp_path: Path):
    file = zipped(tmp_path / "photos.zip", ["cat/1.png", "dog/1.png"])
    content = bytearray(file.read_bytes())
    content[content.index(b"1.png") + 20] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"cat/1\.png"):
        list(read(file).train.decoded())


def test_names_of_a_mac_are_utf8(tmp_path: Path):
    file = zipped(tmp_path / "photos.zip", ["kätzchen/1.png", "hünd/1.png"])
    content = file.read_bytes().replace(b"\x00\x08", b"\x00\x00")  # the flag that says UTF-8
    file.write_bytes(content)
    assert read(file).class_names == ("hünd", "kätzchen")


def test_advice_names_the_zip_and_not_where_it_was_unpacked(tmp_path: Path):
    with pytest.raises(InputError, match=rf"folder {tmp_path}/photos.zip has no photos"):
        read(zipped(tmp_path / "photos.zip", {"notes.txt": b""}))


# --- photos to predict ----------------------------------------------------------------------------


def test_gather_files_folders_zips_and_lists(tmp_path: Path, monkeypatch):
    tree(tmp_path / "mine", cat=2, **{"@eaDir": 1})
    photo(tmp_path / "mine" / "z.png")
    (tmp_path / "mine" / "notes.txt").touch()
    file = zipped(tmp_path / "b.zip", ["x/1.png"])
    listed = b"mine/z.png\r\n\n caf\xe9 .png \nmine\n-\n"
    monkeypatch.chdir(tmp_path)
    found = [photo.name for photo in gather(["none.jpg", "mine", file, "-"], io.BytesIO(listed))]
    folder = ["mine/cat/0.png", "mine/cat/1.png", "mine/z.png"]
    assert found == [
        "none.jpg", *folder, f"{file}/x/1.png", "mine/z.png", " caf\udce9 .png ", *folder, "-",
    ]  # fmt: skip
    assert [p.name for p in gather(["-"], io.BytesIO(b"a\nb\0c\0"))] == ["a\nb", "c"]
    assert [p.name for p in gather(["-"], io.BytesIO(b"\xef\xbb\xbfa\n"))] == ["a"]
    with pytest.raises(InputError, match="given twice"):
        gather(["-", "none.jpg", "-"], io.BytesIO(listed))
    with pytest.raises(InputError, match="standard input names no photo"):
        gather([Path("-")])


@pytest.mark.parametrize("content", [b"", b"\n\r\n", b"\0"])
def test_nothing_to_gather(tmp_path: Path, content: bytes):
    with pytest.raises(InputError, match="standard input names no photo"):
        gather(["-"], io.BytesIO(content))
    with pytest.raises(InputError, match="has no photos in it or below"):
        gather([tmp_path / "tmp"])


def test_photos_of_a_zip_are_called_by_its_name(tmp_path: Path):
    file = zipped(tmp_path / "photos.zip", ["x/cat/1.png", "x/dog/1.png"])
    out = read(file)
    assert [photo.name for photo in out.train.photos] == [
        f"{file}/x/cat/1.png",
        f"{file}/x/dog/1.png",
    ]
    csv = b"file_name,label\n1.png,a\n1.png,a\n2.png,b\n"
    file = zipped(
        tmp_path / "b.zip",
        {**dict.fromkeys(("1.png", "2.png", "3.png"), png()), "metadata.csv": csv},
    )
    out = read(file)
    assert out.notes[0] == f"in {file}/metadata.csv 1 line names a photo again"
    assert [one.reason for one in out.skipped] == [f"not named in {file}/metadata.csv"]
