"""The web page in a headless Chromium: opened from the disk, it gives predict's answers, and asks
no address for anything."""

import base64
import hashlib
import io
import json
import os
import re
import tarfile

import pytest
from PIL import Image

from browser import CHROMIUM, Browser
from command import call, document, sentence_of
from sharpzo.errors import InputError
from sharpzo.export import browser_runtime, site
from sharpzo.export.agreement import Agreement
from sharpzo.export.browser_runtime import find_runtime
from sharpzo.export.classifier_graph import ClassifierGraph

ANSWERS = "Number(document.getElementById('status').dataset.answers || 0)"
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@pytest.fixture
def files(monkeypatch):
    """Three files of a runtime that is none, and their archive."""
    found = {name: name.encode() for name in browser_runtime._SHA256}
    digests = {name: hashlib.sha256(blob).hexdigest() for name, blob in found.items()}
    monkeypatch.setattr(browser_runtime, "_SHA256", digests)
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, blob in found.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(blob)
            archive.addfile(member, io.BytesIO(blob))
    return found, written.getvalue()


def test_the_runtime_is_kept_once_it_was_given(files, tmp_path):
    found, blob = files
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match="33 MB to download, 14 MB to keep, MIT"):
        find_runtime(None, cache)
    (tmp_path / "archive.tgz").write_bytes(blob)
    assert find_runtime(str(tmp_path / "archive.tgz"), None) == found  # a user without a home
    served = (tmp_path / "archive.tgz").as_uri()
    assert find_runtime("download", cache, served) == found
    assert find_runtime(None, cache) == find_runtime("download", cache, "file:///none") == found
    [kept] = cache.iterdir()
    assert find_runtime(str(kept), None) == found


def test_other_files_are_refused(files, tmp_path):
    found, blob = files
    for name, content in (("cut.tgz", blob[:100]), ("other.tgz", b"text"), ("empty.tgz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"cannot be read|has no ort"):
            find_runtime(str(tmp_path / name), None)
    for name in found:
        (tmp_path / name).write_bytes(b"changed")
    with pytest.raises(InputError, match=r"has no ort\.wasm\.min\.js of onnxruntime-web"):
        find_runtime(str(tmp_path), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    with pytest.raises(InputError, match="there is no folder or archive"):
        find_runtime(str(tmp_path / "nothing"), None)
    with pytest.raises(InputError, match="could not be downloaded"):
        find_runtime("download", None, (tmp_path / "nothing").as_uri())


def test_what_a_page_needs_is_asked_for_before_work_begins(run, tmp_path, capsys):
    out = tmp_path / "site"
    said = sentence_of(capsys, 2, "export", run, out, "--format", "web")
    assert "--runtime download" in said
    said = sentence_of(capsys, 2, "export", run, out, "--runtime", "download")
    assert "--runtime is for --format web" in said
    said = sentence_of(capsys, 2, "export", run, out, "--format", "web", "--input", "pixels")
    assert "a web page takes photos" in said
    assert not out.exists()


def test_a_page_is_a_folder_without_addresses(tmp_path, files, monkeypatch):
    def write(graph, trained, folder, format):
        (folder / "model.onnx").write_bytes(b"\0model")

    metadata = {"licence": "free </script>", "classes": "[]"}
    graph = ClassifierGraph(None, metadata, "photo", "float32")  # pyright: ignore
    monkeypatch.setattr(site, "write_model_file", write)
    monkeypatch.setattr(site, "compare", lambda *given: Agreement("test", 1, 1.0, 0.0, None))
    site.write_site(None, graph, tmp_path / "site", [], "test", 0.05, files[0])
    pages = {path.name: path.read_text() for path in (tmp_path / "site").iterdir()}
    assert not any(re.search(r"https?://", pages[name]) for name in ("index.html", "page.js"))
    assert "connect-src 'none'" in pages["index.html"]
    assert "MIT licence" in pages["LICENCES.txt"]
    assert set(re.findall(r'src="([^"]+)"', pages["index.html"])) <= pages.keys()
    assert "</script>" not in pages["model.js"]
    text = pages["model.js"].removeprefix("window.CLASSIFIER = ").removesuffix(";\n")
    found = json.loads(text)
    assert (found["about"], base64.b64decode(found["model"])) == (metadata, b"\0model")


def runtime_here():
    """Where the real runtime is, if it is: SHARPZO_ONNXRUNTIME_WEB, or the user's cache."""
    return os.environ.get("SHARPZO_ONNXRUNTIME_WEB")


needs_browser = pytest.mark.skipif(
    CHROMIUM is None or runtime_here() is None,
    reason="needs Chromium, and SHARPZO_ONNXRUNTIME_WEB: the folder or .tgz of onnxruntime-web "
    f"{browser_runtime.VERSION}",
)


@pytest.mark.slow
@needs_browser
def test_the_page_gives_the_answers_of_predict(run, photos, demo, tmp_path, capsys):
    out = tmp_path / "site"
    assert call("export", run, out, "--format", "web", "--runtime", runtime_here(),
                "--photos", photos) == 0  # fmt: skip
    photo = Image.fromarray(demo["test"]["bag"][0])
    small, large, clear = (tmp_path / name for name in ("small.png", "large.png", "clear.png"))
    photo.save(small)
    photo.resize((1500, 1300)).save(large)
    photo.putalpha(Image.linear_gradient("L").resize(photo.size))
    photo.save(clear)
    turned = tmp_path / "turned.jpg"
    upright = Image.Exif()
    upright[0x0112] = 6
    dress = Image.fromarray(demo["test"]["dress"][1])
    dress.resize((90, 60)).save(turned, exif=upright)
    given = [small, large, clear, turned, *sorted(photos.iterdir())]
    wanted = document(capsys, "predict", run, *given, "--no-cache")
    with Browser(tmp_path / "profile", *CAMERA) as page:
        page.open((out / "index.html").as_uri())
        page.wait("document.body && document.body.dataset.ready")
        for file, row in zip(given, wanted, strict=True):
            before = page.ask(ANSWERS)
            page.choose("#file", file)
            page.wait(f"{ANSWERS} > {before}")
            said, shown = (
                page.ask(f"document.getElementById('{name}').innerText")
                for name in ("answer", "classes")
            )
            assert said == ("none of these" if row["none"] else row["label"]), file.name
            lines = [line for line in shown.splitlines() if line]
            names, shares = lines[::2], [float(one.split()[0]) for one in lines[1::2]]
            by = {guess["label"]: 100 * guess["probability"] for guess in row["top"]}
            assert len(names) == len(by)
            assert all(abs(by[name] - s) < 1 for name, s in zip(names, shares, strict=True))
        assert re.search(r"\d+ ms per photo", page.ask("document.body.innerText"))
        broken = tmp_path / "text.jpg"
        broken.write_text("no photo")
        page.choose("#file", broken)
        page.wait("document.getElementById('status').innerText.includes('is not a photo')")
        assert page.ask("document.getElementById('classes').innerText") == ""
        assert page.ask("document.querySelectorAll('#view img').length") == 0
        before = page.ask(ANSWERS)
        page.ask("document.getElementById('camera').click()")
        page.wait(f"{ANSWERS} > {before} + 1")
        page.ask("document.getElementById('camera').click()")
        page.wait("document.getElementById('camera').innerText == 'Use the camera'")
        assert page.errors == []
        assert all(one.startswith((out.as_uri(), "blob:")) for one in page.requests)


@pytest.mark.slow
@needs_browser
def test_the_policy_of_the_page_forbids_connections(run, photos, tmp_path):
    out = tmp_path / "site"
    assert call("export", run, out, "--format", "web", "--runtime", runtime_here(),
                "--photos", photos, "--precision", "int8") == 0  # fmt: skip
    with Browser(tmp_path / "profile") as page:
        page.open((out / "index.html").as_uri())
        page.wait("document.body && document.body.dataset.ready")
        tried = "fetch('http://127.0.0.1:9/').then(() => 'sent', (error) => 'refused')"
        assert page.ask(tried) == "refused"
        assert not any(one.startswith("http") for one in page.requests)
