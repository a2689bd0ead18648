"""Damaged files, files that a fuzzer made, and hostile photos: a few of tools/faults.py and
tools/fuzz.py."""

import importlib.util
import json
import logging
import os
import sys
from pathlib import Path

import pytest

from sharpzo.data import archive, decoding
from sharpzo.data.photo import Photo
from sharpzo.errors import PhotoError

TOOLS = Path(__file__).parents[2] / "tools"
CORPUS = Path(__file__).parent / "corpus"
QUICK = ["cell of a bench", "bench.json", "cache of features", "zip", "CSV of labels",
         "split_zhou_EuroSAT.json", "photo as png", "history.jsonl of a stopped fit",
         "answers.csv of a folder that is watched"]  # fmt: skip


def tool(name):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="module", autouse=True)
def tools():
    """The harness's modules, which name each other; what they say is not shown."""
    before = set(sys.modules)
    logging.disable(logging.CRITICAL)
    for name in ("kinds", "damage", "fuzz", "hostile_photos"):
        tool(name)
    yield
    logging.disable(logging.NOTSET)
    for name in {"kinds", "damage", "fuzz", "hostile_photos"} - before:
        del sys.modules[name]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a file of a kind, made once."""
    folders = {}

    def make(kind):
        if kind.make not in folders:
            folders[kind.make] = tmp_path_factory.mktemp("kind") / "made"
            kind.make(folders[kind.make])
        return folders[kind.make]

    return make


def outcomes(kind, folder, flips, cuts=8):
    """What happens to readers of a file with a byte changed, or cut off."""
    damage, file = tool("damage"), kind.path(folder)
    content, straight, found = file.read_bytes(), kind.read(folder), set()
    for version in damage.damages(content, flips, cuts, 5):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(version)
        found.add(damage.outcome(kind, folder, straight, deep=False))
    file.write_bytes(content)
    return found


@pytest.mark.parametrize("name", QUICK)
def test_a_wrong_byte_is_refused_or_changes_nothing(name, made):
    kind = tool("kinds").KINDS[name]
    found = outcomes(kind, made(kind), 40)
    assert found <= {"refused", "same", "refused by the run", "other"}
    assert kind.free or "other" not in found
    assert found & {"refused", "same"}


@pytest.mark.parametrize("name", ["run.json", "arrays.safetensors", "history.jsonl"])
def test_a_run_with_a_wrong_byte_is_refused(name, made):
    kind = tool("kinds").KINDS[name]
    assert outcomes(kind, made(kind), 30) <= {"refused", "same"}


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "preprocessor_config.json", "vocab.json"]
)
def test_a_run_notices_a_model_with_a_wrong_byte(name, made):
    kind = tool("kinds").KINDS[name]
    found = outcomes(kind, made(kind), 30)
    assert found <= {"refused", "same", "refused by the run"}


def test_a_graph_in_the_cache_with_a_wrong_weight_is_written_anew(made):
    kind = tool("kinds").KINDS["weights of a graph"]
    folder = made(kind)
    file = kind.path(folder)
    status, content = file.stat(), bytearray(file.read_bytes())
    straight = kind.read(folder)
    content[len(content) // 2] ^= 0x40
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # size and time are unchanged
    assert kind.read(folder) == straight


def test_the_harness_finds_a_silent_load(made):
    """A reader that looks at nothing but the size is found out."""
    kinds = tool("kinds")
    kind = kinds.Kind("photo.png", kinds.photo("photo.png"),
                      lambda folder: (folder / "photo.png").read_bytes())  # fmt: skip
    assert "silent" in outcomes(kind, made(kind), 10)


def corpus(*beginnings):
    return sorted(one.name for one in CORPUS.iterdir() if one.name.startswith(beginnings))


@pytest.mark.parametrize("slug", corpus(
    "values", "CSV", "JSON", "split", "variants", "images", "classnames", "recipe", "cell", "bench",
    "photo", "zip", "cache", "history", "run-json",
))  # fmt: skip
def test_what_a_fuzzer_made_is_no_traceback(slug, made):
    fuzz, kinds = tool("fuzz"), tool("kinds")
    target = next(one for name, one in fuzz.targets().items() if fuzz.slug(name) == slug)
    kind = kinds.KINDS[target.kind]
    folder = made(kind) if target.parse is None else Path()
    file = kind.path(folder) if target.parse is None else Path()
    content = file.read_bytes() if target.parse is None else b""
    for given in (CORPUS / slug).iterdir():
        for variant in fuzz.variants(target, given.read_bytes()):
            fuzz.read(target, folder, file, variant)
    if content:
        file.write_bytes(content)


def test_every_mutation_of_json_is_json():
    fuzz = tool("fuzz")
    draws = fuzz.random.Random(1)
    whole = json.dumps({"a": [1, 2.5, "x", None], "b": {"c": True, "d": []}}).encode()
    for _ in range(300):
        made_ = fuzz.as_json(whole, draws)
        if not made_.startswith(b"[[[["):
            fuzz.loads(made_)


SMALL = {"an empty file", "a pipe without a writer", "a link to /dev/zero", "one byte",
         "a JPEG of 65,535 x 65,535", "EXIF whose directory is itself", "a PNG of 65,535 x 65,535",
         "a PNG whose chunk is 2 GB long", "an APNG of 4 billion frames",
         "a GIF of 65,535 x 65,535", "a TIFF whose directory leads to itself",
         "a TIFF of 4 billion columns", "a BMP whose header is 4 GB",
         "a zip in a chunk of a PNG"}  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and devices")
def test_hostile_photos_are_named(tmp_path):
    """Some of a hundred: tools/faults.py reads all of them, with their memory and time."""
    photos = tool("hostile_photos")
    said, unnamed = {}, []
    for number, (what, suffix, make) in enumerate(photos.files(SMALL)):
        path = tmp_path / f"{number}.{suffix}"
        make(path)
        one = Photo(path.name, path=path).sized(224)
        try:
            one.decode()
        except PhotoError as error:
            said[what] = str(error)
            named = said[what].startswith(f"photo {path.name} ") and "\n" not in said[what]
            unnamed += [] if named else [what]
    assert not unnamed
    assert SMALL - said.keys() <= {"an APNG of 4 billion frames", "EXIF whose directory is itself",
                            "a zip in a chunk of a PNG"}  # fmt: skip


def test_a_bomb_of_few_bytes_is_refused(tmp_path, monkeypatch):
    """A real photo of the same size is not."""
    monkeypatch.setattr(decoding, "MOST_MEMORY", 1 << 20)
    photos = tool("hostile_photos")
    (tmp_path / "a.png").write_bytes(photos.png(1500, 1500))
    with pytest.raises(
        PhotoError, match=r"unpacks to 1500 x 1500 pixels from [0-9,]+ bytes, as no"
    ):
        Photo("", path=tmp_path / "a.png").decode()
    photos.noise(1500, 1500).save(tmp_path / "b.png", compress_level=1)
    assert Photo("", path=tmp_path / "b.png").decode().shape == (1500, 1500, 3)


def test_a_damaged_list_of_a_zip_is_refused(made):
    """A photo may neither move to another class nor disappear."""
    kind = tool("kinds").KINDS["zip"]
    folder = made(kind)
    file = kind.path(folder)
    content = file.read_bytes()
    place = content.rindex(b"dog/0.png")
    for wrong in (b"dof/0.png", b"dog/0.pnf", b"dogI0.png"):
        file.write_bytes(content[:place] + wrong + content[place + len(wrong) :])
        with pytest.raises(archive.InputError, match="its list of files is damaged"):
            archive.unpack(file)
    file.write_bytes(content)
