"""``sharpzo export`` as a person types it, and its files without sharpzo."""

import ast
import json
import re
import site
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from command import answer, call, document, sentence_of
from sharpzo.cli.export import _photos
from sharpzo.errors import EngineError, InputError
from sharpzo.export.agreement import Agreement
from sharpzo.export.bundle import new_folder
from sharpzo.export.classifier_graph import build_classifier
from sharpzo.fitting.answers import Answers
from sharpzo.fitting.trained import Trained, load
from sharpzo.towers.runtime import Session


@pytest.fixture(scope="module")
def exported(run, photos, tmp_path_factory):
    """The run as an ONNX file of small weights, which is the quickest to write."""
    out = tmp_path_factory.mktemp("out") / "onnx"
    assert call("export", run, out, "--precision", "float16", "--photos", photos, "--no-cache") == 0
    return out


def alone(tmp_path, script, *arguments):
    """Run a script with the packages that it names and what these need, and no other."""
    shown = tmp_path / "packages"
    shown.mkdir()
    wanted = ("numpy*", "PIL", "pillow*", "onnxruntime*", "flatbuffers*", "google", "protobuf*",
              "packaging*")  # fmt: skip
    for folder in map(Path, site.getsitepackages()):
        for name in wanted:
            for path in folder.glob(name):
                (shown / path.name).symlink_to(path)
    code = f"import runpy, sys; sys.path.append({str(shown)!r}); sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    line = [sys.executable, "-I", "-S", "-c", code, script, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_script_gives_the_answers_of_predict_without_sharpzo(
    run, exported, tmp_path, capsys, demo
):
    script = exported / "classify.py"
    text = script.read_text()
    imports = {
        a.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import) for a in n.names
    }
    assert imports == {"json", "os", "sys", "numpy", "onnxruntime"}
    assert len(text.splitlines()) <= 55
    large = np.asarray(Image.fromarray(demo["test"]["bag"][0]).resize((1000, 900)))
    names = "large.jpg", "turned.jpg", "clear.png", "large.png", "deep.png", "deep.tif"
    files = [tmp_path / name for name in names]
    Image.fromarray(large).save(files[0], quality=95)
    upright = Image.Exif()
    upright[0x0112] = 6
    Image.fromarray(large).save(files[1], exif=upright)
    clear = Image.fromarray(demo["test"]["dress"][0]).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(files[2])
    Image.fromarray(large).save(files[3])
    for file in files[4:]:  # 16 bits
        Image.fromarray(large[..., 0].astype(np.uint16) * 257).save(file)
    ran = alone(tmp_path, script, *files)
    assert ran.returncode == 0, ran.stderr
    wanted = answer(capsys, 0, "predict", run, *files, "--no-cache").out
    pattern = r"([\w ;]+?) (\d+\.\d) %"
    for ours, theirs in zip(ran.stdout.splitlines(), wanted.splitlines(), strict=True):
        assert ours.split(": ")[0] == theirs.split(": ")[0]
        (here, there) = (re.findall(pattern, line.split(": ")[1]) for line in (ours, theirs))
        assert [name for name, _ in here] == [name for name, _ in there]
        away = [float(a) - float(b) for (_, a), (_, b) in zip(here, there, strict=True)]
        assert max(map(abs, away)) < 1.0


def test_the_script_says_which_photos_it_cannot_use_and_goes_on(exported, tmp_path):
    wide, text, good = (tmp_path / name for name in ("wide.tif", "text.jpg", "good.png"))
    Image.fromarray(np.ones((9, 9), np.float32)).save(wide)
    text.write_text("no photo")
    Image.new("RGB", (1, 1)).save(good)
    ran = alone(tmp_path, exported / "classify.py", wide, text, tmp_path / "nothing.png", good)
    assert ran.returncode == 1
    assert ran.stdout.startswith(f"{good}: ")
    assert ran.stderr.count("cannot be used") == len(ran.stderr.splitlines()) == 3


def test_what_is_in_the_file_and_beside_it(run, exported, capsys):
    import onnx

    model = onnx.load(exported / "model.onnx")
    onnx.checker.check_model(model)
    about = {one.key: one.value for one in model.metadata_props}
    record = json.loads((run / "run.json").read_text())
    assert json.loads(about["classes"]) == record["class_names"]
    assert float(about["threshold"]) == record["none"]["threshold"]
    assert "Apache-2.0" in about["licence"]
    assert [one.name for one in model.graph.input] == ["photo"]
    assert [one.name for one in model.graph.output] == ["probabilities", "familiarity"]
    assert not any("text" in one.name for one in model.graph.initializer)
    found = json.loads((exported / "agreement.json").read_text())
    assert (found["photos"], found["top1"], found["none"]) == (6, 1.0, 1.0)
    assert found["largest_difference"] < 0.02
    assert str(exported.parent) not in json.dumps(found)  # no path of this machine
    assert "exists already" in sentence_of(capsys, 2, "export", run, exported)


def test_photos_that_no_option_names_are_those_that_can_be_used(tmp_path):
    trained = SimpleNamespace(record={"data": {"source": f"folder {tmp_path}"}})
    assert _photos(trained, None)[1] == "the demo's photos"
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff no photo")
    assert _photos(trained, None)[1] == "the demo's photos"
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    (photo,), source = _photos(trained, None)
    assert (Path(photo.name).name, source) == ("good.png", tmp_path.name)


def test_pixels_come_in_batches_and_need_no_preprocessing(run, photos, tmp_path, capsys):
    out = tmp_path / "out"
    found = document(
        capsys, "export", run, out, "--input", "pixels", "--precision", "int8",
        "--photos", photos, "--lost", "0", "--no-cache",
    )  # fmt: skip
    assert found["agreement"]["top1"] == 1.0
    assert {path.name for path in out.iterdir()} == {"model.onnx", "agreement.json"}
    assert found["bytes"] < 27e6
    pixels = np.zeros((3, 3, 112, 112), np.float32)
    probabilities, familiarity = Session(out / "model.onnx", 1).run(
        ["probabilities", "familiarity"], {"pixels": pixels}
    )
    assert (probabilities.shape, familiarity.shape) == ((3, 3), (3,))


def test_a_file_that_disagrees_is_not_written(run, photos, tmp_path, capsys, monkeypatch):
    def wrong(self, outputs, inputs):
        return [np.float32([[0, 0, 1]]), np.float32([9])]

    monkeypatch.setattr(Session, "run", wrong)
    monkeypatch.setattr("sharpzo.export.classifier_graph.image_family", tiny_tower)

    def told(trained, split):
        return Answers(split.photos, list(range(6)), 9 * np.eye(3)[[0] * 6], np.ones(6), ())

    monkeypatch.setattr(Trained, "answer", told)
    said = sentence_of(capsys, 2, "export", run, tmp_path / "out", "--photos", photos)
    assert "disagrees with predict on 6 of 6 photos" in said
    assert not any(tmp_path.iterdir())


def tiny_tower(checkpoint):
    """A tower that has no layers: nothing is computed of what it returns."""
    from sharpzo.towers.graph import Builder

    def build(checkpoint, height, width):
        made = Builder()
        one = made.op("ReduceMean", "pixels", made.constant([1, 2, 3]), keepdims=0)
        row = made.op("Unsqueeze", one, made.constant([1]))
        made.op("Expand", row, made.constant([1, 384]), name="states")
        made.op("Expand", row, made.constant([1, 4, 384]), name="summary")
        outputs = {"tokens": (1, 65, 384), "summary": (1, 4, 384), "states": (1, 384)}
        return made.finish({"pixels": (1, 3, height, width)}, outputs, "tiny")

    return SimpleNamespace(build=build)


@pytest.mark.parametrize(
    ("precision", "photos", "others", "passes"),
    [("float32", 64, 0, True), ("float32", 1000, 1, False), ("float16", 1000, 2, True),
     ("float16", 1000, 3, False), ("int8", 64, 1, True), ("int8", 64, 2, False)],
)  # fmt: skip
def test_how_many_photos_may_differ(precision, photos, others, passes):
    for top1, none in ((1 - others / photos, 1.0), (1.0, 1 - others / photos)):
        found = Agreement("test", photos, top1, 0.5, none)
        if passes:
            found.require(precision)
            continue
        with pytest.raises(EngineError, match=f"on {others} of {photos} photos"):
            found.require(precision)


def test_after_a_failure_there_is_no_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "a" / "b") as folder:  # noqa: PT012
        (folder / "file").write_text("")
        raise ZeroDivisionError
    assert not any((tmp_path / "a").iterdir())
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="exists already"), new_folder(tmp_path / "link"):
        pass


def test_views_need_the_photo_itself(run):
    trained = load(run)
    reading = trained.head.reading
    object.__setattr__(reading, "views", ("mirror",))
    with pytest.raises(InputError, match="2 views"):
        build_classifier(trained, lost=0.05, signature="pixels")


@pytest.mark.slow
def test_openvino_gives_the_answers_of_predict(run, photos, tmp_path, capsys):
    openvino = pytest.importorskip("openvino")
    out = tmp_path / "out"
    found = document(
        capsys, "export", run, out, "--format", "openvino", "--photos", photos, "--no-cache"
    )["agreement"]
    assert (found["top1"], found["none"]) == (1.0, 1.0)
    assert found["largest_difference"] < 0.01
    assert {path.name for path in out.iterdir()} == {"model.xml", "model.bin", "agreement.json"}
    model = openvino.Core().read_model(out / "model.xml")
    assert json.loads(model.get_rt_info(["sharpzo", "classes"]).astype(str))
