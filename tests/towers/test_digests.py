"""Hashes of a model that are remembered: never one of what the files no longer hold."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sharpzo.towers import digests
from sharpzo.towers.checkpoint import Checkpoint
from sharpzo.towers.digests import image_digest, model_digest
from sharpzo.towers.feature_store import FeatureStore
from sharpzo.towers.image import image_fingerprint


@pytest.fixture
def folder(models, tmp_path):
    return Path(shutil.copytree(models["clip-quick"][0], tmp_path / "model"))


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "cache")


@pytest.fixture
def hashed(monkeypatch):
    """Which of the two hashes were computed, in order."""
    found = []
    files, tensors = Checkpoint.fingerprint.fget, Checkpoint.digest

    def whole(self):
        found.append("files")
        return files(self)

    def part(self, *given):
        found.append("tensors")
        return tensors(self, *given)

    monkeypatch.setattr(Checkpoint, "fingerprint", property(whole))
    monkeypatch.setattr(Checkpoint, "digest", part)
    monkeypatch.setattr(digests, "_SETTLED", -(10**18))  # the files are of this moment
    return found


def both(folder, store):
    checkpoint, cache = Checkpoint.open(folder), store and store.folder
    return model_digest(checkpoint, cache), image_digest(checkpoint, cache)


def anew(folder):
    checkpoint = Checkpoint.open(folder)
    return checkpoint.fingerprint, image_fingerprint(checkpoint)


def change(folder) -> None:
    """Another number in the image tower's weights; the file is as long as before."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = "visual_projection.weight"
    tensors[name] = np.ascontiguousarray(tensors[name][::-1])
    save_file(tensors, file)


@pytest.mark.skipif(os.name != "posix", reason="files have no time of change")
def test_what_is_unchanged_is_hashed_once(folder, store, hashed):
    wanted = anew(folder)
    hashed.clear()
    assert both(folder, store) == wanted
    assert hashed == ["files", "tensors"]
    assert both(folder, store) == wanted
    assert hashed == ["files", "tensors"]
    assert store.usage().photos == 0


def in_place(folder) -> None:
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    with file.open("r+b") as stream:
        stream.write(content)


def by_another_file(folder) -> None:
    """One of the same size and time, as a copy that keeps times."""
    file = folder / "model.safetensors"
    before = file.stat()
    shutil.copy(file, folder / "former")
    in_place(folder)
    os.replace(file, folder / "new")
    os.replace(folder / "former", file)
    os.replace(folder / "new", file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def with_its_old_time(folder) -> None:
    """The time of change moves whatever a program says the file's time is."""
    file = folder / "model.safetensors"
    before = file.stat()
    in_place(folder)
    while file.stat().st_ctime_ns == before.st_ctime_ns:  # a coarse clock
        os.utime(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("how", [change, by_another_file, with_its_old_time])
def test_a_changed_model_is_hashed_anew(folder, store, hashed, how):
    former = both(folder, store)
    how(folder)
    assert both(folder, store) == anew(folder)
    assert both(folder, store) != former


def test_configuration_and_words_count(folder, store, hashed):
    former = both(folder, store)
    file = folder / "vocab.json"
    file.write_text(file.read_text("utf-8") + "\n", "utf-8")
    found = both(folder, store)
    assert found[0] != former[0]
    assert found[1] == former[1]


def test_a_file_of_this_moment_is_not_remembered(folder, store, hashed, monkeypatch):
    monkeypatch.setattr(digests, "_SETTLED", 60 * 10**9)
    former = both(folder, store)
    in_place(folder)
    assert both(folder, store) == anew(folder) != former


def test_without_a_cache_all_is_read(folder, hashed):
    assert both(folder, None) == anew(folder)
    assert hashed == ["files", "tensors"] * 2


def test_a_cache_that_cannot_be_written_is_no_matter(folder, tmp_path, hashed, caplog):
    (tmp_path / "file").write_text("")
    assert both(folder, FeatureStore(tmp_path / "file" / "cache")) == anew(folder)
    assert not caplog.records
