"""The command line as a person types it, on the embedded model and a few demo photos."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sharpzo
from command import CLASSES, call, demo_folder, document, refused
from sharpzo.cli.options import DEFAULT
from sharpzo.data.demo import load_demo
from sharpzo.fitting import fitter

KEYS = {
    "run", "method", "seed", "forwards", "seconds", "peak_memory_mb",
    "zero_shot_accuracy", "validation_accuracy", "test_accuracy",
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with train/ (6 per class) and test/ (4 per class)."""
    return demo_folder(tmp_path_factory.mktemp("photos"), train=6, test=4)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    call("fit", photos, "--out", out, "--method", "projection")
    return out


def process(code, *arguments):
    """The command ``predict`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, "predict", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("before", ["", "threading.Thread(target=time.sleep, args=[0.1]).start()"])
def test_a_process_ends_with_the_code_of_its_command(tmp_path, before):
    code = f"import threading, time; from sharpzo.cli import run; {before}\nrun()"
    done = process(code, tmp_path / "none", "photo.jpg")
    assert done.returncode == 2
    assert done.stderr.startswith("sharpzo: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_output_that_cannot_be_written_is_no_success(run, photos):
    photo = next((photos / "test").rglob("*.png"))
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "sharpzo", "predict", run, photo], stdout=full,
                              stderr=subprocess.PIPE, text=True, check=False)  # fmt: skip
    assert done.returncode == 2
    assert "output cannot be written" in done.stderr


def test_an_answer_loads_what_it_needs(photos, tmp_path):
    """A person waits for all that is imported; what fits, draws or reads other models is not."""
    call("fit", photos, "--out", tmp_path / "run")
    photo = next((photos / "test").rglob("*.png"))
    code = "import atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); run()"
    done = process("import sys; from sharpzo.cli import run; " + code, tmp_path / "run", photo)
    assert done.returncode == 0
    assert photo.name in done.stdout
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "sharpzo.methods.token_ladder" in loaded
    heavy = {"onnx", "torch", "rich", "tokenizers", "pydantic", "sklearn", "scipy"}
    ours = {f"sharpzo.{name}" for name in (
        "optim", "tuning", "bench", "report", "export", "web", "classifier", "audit", "hub",
        "diagnosis", "trackers", "cli.fit", "cli.progress", "fitting.fitter", "towers.text",
        "towers.prompts", "towers.tokenizer", "towers.resnet", "towers.siglip_image",
        "towers.whole_text", "towers.open_clip", "towers.torch_archive", "towers.graph",
    )}  # fmt: skip
    assert not (heavy | ours) & loaded


@pytest.mark.parametrize(
    "options",
    [
        ("--method", "projection"),
        ("--method", "zero-shot"),
        ("--method", "linear-probe"),
        ("--method", "cma-es", "--budget-forwards", "150"),
        ("--method", "sharpzo", "--budget-forwards", "150", "--shots", "2"),
        ("--method", "sharpzo", "--budget-steps", "2"),
        ("--method", "fgn", "--budget-forwards", "150", "--precision", "int8"),
        ("--method", "sharpzo", "--budget-seconds", "0.5"),
        ("--method", "cma-es", "--preset", "bbt", "--budget-forwards", "150"),
    ],
    ids=lambda options: "-".join(options[1::2]),
)
def test_fit_writes_a_run_of_kilobytes_and_one_document(photos, tmp_path, capsys, options):
    out = tmp_path / "run"
    report = document(capsys, "fit", photos, "--out", out, *options)
    assert report.keys() >= KEYS
    assert report["run"] == str(out)
    for name in ("zero_shot_accuracy", "validation_accuracy", "test_accuracy"):
        assert 0 <= report[name] <= 1
    if "--budget-forwards" in options:
        assert report["forwards"] <= int(options[options.index("--budget-forwards") + 1])
    files = {p.name: p.stat().st_size for p in out.iterdir()}
    assert set(files) == {"arrays.safetensors", "run.json", "history.jsonl"}
    assert sum(files.values()) < 100_000
    record = json.loads((out / "run.json").read_text())
    assert record["class_names"] == sorted(CLASSES)
    assert record["test"]["accuracy"] == report["test_accuracy"]
    assert record["validation"]["accuracy"] == report["validation_accuracy"]
    assert len(record["model"]["sha256"]) == 64


@pytest.mark.parametrize("preset", [(), ("--preset", "ensemble")])
def test_zero_shot_reports_its_own_accuracy(photos, tmp_path, capsys, preset):
    """Not that of the method that stands beside it."""
    out = tmp_path / "run"
    report = document(capsys, "fit", photos, "--out", out, "--method", "zero-shot", *preset)
    assert report["test_accuracy"] == document(capsys, "evaluate", out, photos)["accuracy"]
    rows = [row["method"] for row in report["methods"]]
    assert rows == ["zero-shot"] * len(preset[:1]) + [DEFAULT, "zero-shot"]
    assert report["test_accuracy"] == report["methods"][-1]["test"] < report["methods"][-2]["test"]
    assert report["zero_shot_accuracy"] == report["methods"][rows.index("zero-shot")]["test"]
    record = json.loads((out / "run.json").read_text())
    assert record["test"]["accuracy"] == report["test_accuracy"]


def test_without_a_test_split_there_is_no_test_accuracy(photos, tmp_path, capsys):
    report = document(
        capsys, "fit", photos / "train", "--out", tmp_path / "run", "--method", "projection"
    )
    assert report["test_accuracy"] is None
    assert report["zero_shot_accuracy"] is not None


def test_predict_and_evaluate_agree(photos, run, capsys):
    result = document(capsys, "evaluate", run, photos)
    assert result["n"] == 12
    assert np.trace(result["confusion"]) / 12 == pytest.approx(result["accuracy"])
    assert result["per_class"].keys() == set(CLASSES)
    images = sorted((photos / "test").rglob("*.png"))
    rows = document(capsys, "predict", run, *images, "--top", "2")
    assert [row["path"] for row in rows] == [str(path) for path in images]
    assert all(len(row["top"]) == 2 for row in rows)
    assert all(row["label"] == row["top"][0]["label"] for row in rows)
    right = [row["label"] == path.parent.name for row, path in zip(rows, images, strict=True)]
    assert np.mean(right) == pytest.approx(result["accuracy"])
    assert result["seen"] is None  # the method keeps nothing of its photos


def test_photos_of_the_fit_are_told_from_new_ones(photos, tmp_path, capsys):
    call("fit", photos / "train", "--out", tmp_path / "run")
    assert document(capsys, "evaluate", tmp_path / "run", photos / "test")["seen"] == 0
    call("evaluate", tmp_path / "run", photos / "train")
    shown = " ".join(capsys.readouterr().out.split())
    assert "18 of these 18 photos were given to the fit" in shown


def test_a_shared_prompt_is_warned_of_where_the_model_knows_no_name(photos, tmp_path, capsys):
    """Names that belong to other photos are names that the model does not know."""
    wrong = tmp_path / "photos"
    for name, other in zip(CLASSES, CLASSES[1:] + CLASSES[:1], strict=True):
        shutil.copytree(photos / "train" / name, wrong / other)
    search = ("--method", "cma-es", "--budget-forwards", "45")
    report = document(capsys, "fit", wrong, "--out", tmp_path / "a", *search)
    (sentence,) = report["warnings"]
    assert "take ladder+tokens or fgn-csc" in sentence
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert record["warnings"] == report["warnings"]
    assert call("fit", wrong, "--out", tmp_path / "b", *search) == 0
    said = capsys.readouterr().err
    assert said.index(f"warning: {sentence}") < said.index("cma-es: ")  # before the search
    for data, method in ((photos, search), (wrong, ("--method", "projection"))):
        out = tmp_path / f"{data.name}-{method[1]}"
        assert document(capsys, "fit", data, "--out", out, *method)["warnings"] == []


def test_people_read_a_table_and_the_next_command(photos, run, tmp_path, capsys):
    call("fit", photos, "--out", tmp_path / "run", "--method", "projection")
    shown = capsys.readouterr().out
    assert "zero-shot" in shown
    assert "projection" in shown
    assert f"sharpzo predict {tmp_path / 'run'}" in shown
    call("evaluate", run, photos)
    assert "accuracy" in capsys.readouterr().out
    call("predict", run, next((photos / "test").rglob("*.png")))
    assert " %" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_run(photos, tmp_path, capsys):
    arguments = ("--method", "cma-es", "--budget-forwards", "130", "--threads", "1")
    for name in ("a", "b"):
        document(capsys, "fit", photos, "--out", tmp_path / name, *arguments)
    assert (tmp_path / "a/arrays.safetensors").read_bytes() == (
        tmp_path / "b/arrays.safetensors"
    ).read_bytes()


def test_python_and_command_line_are_one(photos, run):
    classifier = sharpzo.PromptClassifier.load(run)
    images = sorted((photos / "test").rglob("*.png"))[::3]
    pixels = [np.asarray(Image.open(path).convert("RGB")) for path in images]
    by_path = classifier.predict_proba(images)
    assert np.allclose(by_path, classifier.predict_proba(pixels), atol=1e-6)
    assert by_path.sum(axis=1) == pytest.approx(1)
    names = [path.parent.name for path in images]
    assert classifier.score(images, names) == np.mean(classifier.predict(images) == names)


def test_python_fits_photos_with_labels(photos, tmp_path, cache):
    images = sorted((photos / "train").rglob("*.png"))
    labels = [path.parent.name for path in images]
    classifier = sharpzo.PromptClassifier("projection", cache=cache).fit(images, labels)
    assert list(classifier.classes_) == sorted(CLASSES)
    again = sharpzo.PromptClassifier.load(classifier.save(tmp_path / "run"), cache=cache)
    assert np.array_equal(again.predict_proba(images), classifier.predict_proba(images))
    with pytest.raises(sharpzo.SharpzoError, match="18 photos and 17 labels"):
        sharpzo.PromptClassifier("projection").fit(images, labels[1:])


# --- bad input: one sentence, exit code 2, nothing overwritten -----------------------------------


def test_bad_folders(tmp_path, capsys, photos):
    fit = ("--out", tmp_path / "run", "--method", "projection")
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refused(capsys, "fit", tmp_path / "empty", *fit)
    one = tmp_path / "one"
    shutil.copytree(photos / "train" / "bag", one / "bag")
    assert "class" in refused(capsys, "fit", one, *fit)
    assert "missing" in refused(capsys, "fit", tmp_path / "missing", *fit)
    assert not (tmp_path / "run").exists()


def test_bad_images_name_the_file_and_leave_no_run(tmp_path, capsys, photos):
    bad = tmp_path / "photos"
    shutil.copytree(photos / "train", bad)
    victim = bad / "bag" / "zz.jpg"
    for content in (b"not an image", _half_a_jpeg()):
        victim.write_bytes(content)
        said = refused(capsys, "fit", bad, "--out", tmp_path / "run", "--method", "projection")
        assert str(victim) in said
        assert not (tmp_path / "run").exists()


def _half_a_jpeg() -> bytes:
    import io

    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()[: len(buffer.getvalue()) // 2]


def test_a_class_name_longer_than_the_context(tmp_path, capsys, photos):
    long = tmp_path / "photos"
    shutil.copytree(photos / "train", long)
    name = "_".join(["sandal"] * 35)
    (long / "sandal").rename(long / name)
    said = refused(capsys, "fit", long, "--out", tmp_path / "run", "--method", "projection")
    assert "sandal sandal" in said
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_not_touched(run, photos, capsys):
    before = {path: path.read_bytes() for path in run.iterdir()}
    said = refused(capsys, "fit", photos, "--out", run, "--method", "projection")
    assert "exists already" in said
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_a_run_made_with_another_model(run, photos, tmp_path, capsys):
    from sharpzo.towers.checkpoint import EMBEDDED

    other = tmp_path / "model"
    shutil.copytree(EMBEDDED, other)
    shard = other / "model-00002-of-00002.safetensors"
    blob = bytearray(shard.read_bytes())
    blob[-1] ^= 1
    shard.write_bytes(blob)
    image = next((photos / "test").rglob("*.png"))
    assert "another model" in refused(capsys, "predict", run, image, "--model", other)
    assert call("predict", run, image) == 0


def test_a_model_with_a_missing_tensor_or_a_wrong_shape(photos, tmp_path, capsys):
    from safetensors.numpy import load_file, save_file

    from sharpzo.towers.checkpoint import EMBEDDED

    broken = tmp_path / "model"
    shutil.copytree(EMBEDDED, broken)
    shard = broken / "model-00002-of-00002.safetensors"
    whole = load_file(shard)
    name = "text_model.final_layer_norm.weight"
    fit = ("fit", photos, "--out", tmp_path / "run", "--method", "projection", "--model", broken)
    save_file({k: v for k, v in whole.items() if k != name}, shard)
    assert name in refused(capsys, *fit)
    save_file({**whole, name: whole[name][:-1]}, shard)
    said = refused(capsys, *fit)
    assert name in said
    assert "255" in said
    assert not (tmp_path / "run").exists()


def test_a_hub_id_without_network(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    fit = ("fit", photos, "--out", tmp_path / "run", "--model", "nobody/no-such-model")
    assert "nobody/no-such-model" in refused(capsys, *fit)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--method", "magic"), "sharpzo"),
        (("--method", "sharpzo", "--preset", "paper/mars"), "paper/eurosat"),
        (("--method", "sharpzo", "--set", "search.zo.kep=1"), "keep"),
        (("--method", "sharpzo", "--set", "search.zo.keep=2"), "keep"),
        (("--budget-forwards", "0"), "0"),
        (("--shots", "0"), "shots"),
        (("--template", "a photo"), "{}"),
        (("--dataset", "mars"), "eurosat"),
        (("--engine", "torch"), "openvino"),
        (("--precision", "bfloat16"), "needs engine openvino"),
        (("--threads", "0"), "threads is 0"),
        (("--template", "caf\udce9 {}"), "no UTF-8"),
        (("--budget-seconds", "inf"), "finite number"),
    ],
)
def test_bad_options(photos, tmp_path, capsys, arguments, word):
    said = refused(capsys, "fit", photos, "--out", tmp_path / "run", *arguments)
    assert word in said
    assert not (tmp_path / "run").exists()


def test_evaluating_classes_that_the_run_does_not_know(run, photos, tmp_path, capsys):
    other = tmp_path / "photos"
    shutil.copytree(photos / "test", other)
    (other / "bag").rename(other / "umbrella")
    assert "'umbrella'" in refused(capsys, "evaluate", run, other)


def test_python_and_the_command_line_have_one_default():
    assert sharpzo.PromptClassifier().method == DEFAULT == fitter.DEFAULT


@pytest.mark.filterwarnings("ignore:the untuned model is right")  # on so few photos
@pytest.mark.parametrize("method", ["sharpzo", DEFAULT, "linear-probe"])
def test_fitting_never_reads_the_test_split(method, cache):
    """A test split whose photos cannot be read does not disturb a fit, nor change it."""
    from dataclasses import replace

    from sharpzo.data.dataset import LabelledPhotos
    from sharpzo.data.few_shot import draw
    from sharpzo.data.photo import as_photo

    few = draw(load_demo(1), shots=1, seed=1)
    broken = LabelledPhotos(
        tuple(as_photo(f"missing/{i}.png") for i in range(10)), np.arange(10), few.class_names
    )
    fitted = [
        sharpzo.PromptClassifier(
            method, budget=sharpzo.Budget(forwards=60), threads=1, cache=cache
        ).fit(replace(few, test=test))
        for test in (broken, None)
    ]
    one, other = (each.fit_.head.arrays() for each in fitted)
    assert all(np.array_equal(one[name], other[name]) for name in one)
    with pytest.raises(sharpzo.SharpzoError, match="does not exist"):
        fitted[0].evaluate(broken)


def test_names_that_training_never_saw(photos, run, tmp_path, capsys):
    image = next((photos / "test" / "bag").glob("*.png"))
    (row,) = document(capsys, "predict", run, image, "--classes", "bag, aeroplane, river")
    assert {guess["label"] for guess in row["top"]} == {"bag", "aeroplane", "river"}
    known = document(capsys, "predict", run, image)[0]["top"]
    again = document(capsys, "predict", run, image, "--classes", ",".join(CLASSES))[0]["top"]
    for one, other in zip(known, again, strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-3)
    other = tmp_path / "other" / "shoe"
    shutil.copytree(photos / "test" / "sandal", other)
    shutil.copytree(photos / "test" / "dress", other.parent / "robe")
    assert "does not know" in refused(capsys, "evaluate", run, other.parent)
    result = document(capsys, "evaluate", run, other.parent, "--own-classes")
    assert result["classes"] == ["robe", "shoe"]
    assert 0 <= result["calibration_error"] <= 1
    each = [result["per_class"][name] for name in result["classes"]]
    assert result["balanced_accuracy"] == pytest.approx(sum(each) / len(each))
    probe = tmp_path / "probe"
    call("fit", photos, "--out", probe, "--method", "linear-probe")
    assert "methods that can name others: " in refused(
        capsys, "predict", probe, image, "--classes", "a,b"
    )


def test_a_second_test_set_of_some_classes(photos, tmp_path, capsys):
    shifted = tmp_path / "shifted"
    for name in ("sandal", "bag"):
        shutil.copytree(photos / "test" / name, shifted / name)
    options = ("--method", "linear-probe", "--test-on", shifted)
    report = document(capsys, "fit", photos, "--out", tmp_path / "run", *options)
    # Choosing between two classes can only be easier than among three.
    confusion = document(capsys, "evaluate", tmp_path / "run", shifted)["accuracy"]
    assert confusion <= report["shifted_accuracy"] <= 1
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["shifted"]["accuracy"] == report["shifted_accuracy"]
    (shifted / "bag").rename(shifted / "boat")
    sentence = refused(capsys, "fit", photos, "--out", tmp_path / "other", *options)
    assert "'boat' that this run does not know" in sentence
    assert not (tmp_path / "other").exists()


def test_base_to_new(photos, tmp_path, capsys):
    run = tmp_path / "run"
    document(capsys, "fit", photos, "--out", run, "--method", "projection", "--half", "base")
    base = document(capsys, "evaluate", run, photos, "--half", "base")
    assert (base["classes"], base["n"]) == (["bag", "dress"], 8)
    new = ("--half", "new", "--own-classes")
    # The new half of three classes is one, and among one class every answer is right.
    assert "only class is 'sandal'" in refused(capsys, "evaluate", run, photos, *new)
    four = tmp_path / "four"
    shutil.copytree(photos, four)
    shutil.copytree(four / "train" / "sandal", four / "train" / "shoe")
    shutil.copytree(four / "test" / "sandal", four / "test" / "shoe")
    found = document(capsys, "evaluate", run, four, *new)
    assert (found["classes"], found["n"]) == (["sandal", "shoe"], 8)


PLUGIN = """
from sharpzo.methods import Fit, Method, register
from sharpzo.methods.zero_shot import ZeroShotSettings, zero_shot_head
from sharpzo.types import Reason


def fit(settings, task):
    return Fit(zero_shot_head(task.tower), Reason.CLOSED_FORM, forwards=1)


register(Method("my-own", "a test", ZeroShotSettings(), fit))
"""


def test_a_plugin_adds_a_method_from_one_file(photos, tmp_path, capsys):
    from sharpzo.methods import METHODS

    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    try:
        listed = document(capsys, "methods", "--plugin", file)
        assert "my-own" in {method["name"] for method in listed}
        report = document(
            capsys, "fit", photos, "--out", tmp_path / "run", "--method", "my-own", "--plugin", file
        )
        assert report["test_accuracy"] == report["zero_shot_accuracy"]
        assert document(capsys, "evaluate", tmp_path / "run", photos, "--plugin", file)["n"] == 12
    finally:
        METHODS.pop("my-own", None)
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0")
    assert "ZeroDivisionError" in refused(capsys, "methods", "--plugin", broken)
    broken.write_text("exit()")  # else the command would end well, with nothing done
    assert "SystemExit" in refused(capsys, "methods", "--plugin", broken)
    broken.write_text("print('hello')")
    assert call("methods", "--plugin", broken, "--json") == 0
    captured = capsys.readouterr()
    assert captured.err == "hello\n"
    assert json.loads(captured.out)
    assert "no plugin file" in refused(capsys, "methods", "--plugin", tmp_path / "none.py")
    assert "there is no method 'my-own'" in refused(capsys, "evaluate", tmp_path / "run", photos)


def test_a_second_fit_does_not_open_the_image_tower(photos, tmp_path, capsys, monkeypatch):
    method = ("--method", "projection", "--cache", tmp_path / "features")
    first = document(capsys, "fit", photos, "--out", tmp_path / "a", *method)

    def refuse(*arguments, **options):
        raise AssertionError("the image tower was opened")

    monkeypatch.setattr("sharpzo.towers.tower.OnnxImageTower.summaries", refuse)
    again = document(capsys, "fit", photos, "--out", tmp_path / "b", *method)
    assert again["test_accuracy"] == first["test_accuracy"]
    found = document(capsys, "evaluate", tmp_path / "b", photos, *method[2:])
    assert found["accuracy"] == first["test_accuracy"]
    with pytest.raises(AssertionError):
        call("fit", photos, "--out", tmp_path / "c", *method[:2], "--no-cache")


def test_a_memory_limit_is_kept_or_refused(tmp_path, capsys):
    photos = demo_folder(tmp_path / "photos", train=3, test=1)
    found = document(
        capsys, "fit", photos, "--out", tmp_path / "a", "--method", "projection", "--threads", 1,
        "--memory-limit", "3GB",
    )  # fmt: skip
    assert found["memory_limit_mb"] == 3000
    assert 0 < found["peak_memory_mb"] < 3000
    assert call("predict", tmp_path / "a", next(photos.rglob("*.png")), "--memory-limit", "3GB",
                "--no-cache") == 0  # fmt: skip
    capsys.readouterr()
    document(
        capsys, "fit", photos, "--out", tmp_path / "c", "--method", "projection", "--threads", 1,
        "--memory-limit", "3GB", "--precision", "int8",
    )  # fmt: skip
    error = refused(
        capsys, "fit", photos, "--out", tmp_path / "b", "--memory-limit", "3GB",
        "--precision", "int4",
    )  # fmt: skip
    assert "not by onnxruntime in int4" in error
    for size, words in (("some", "write it like 600MB"), ("9MB", "need at least")):
        error = refused(capsys, "fit", photos, "--out", tmp_path / "b", "--memory-limit", size)
        assert words in error
        assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        (["--method", "ladder+token"], "ladder+tokens"),
        (["--method", "sharpzo", "--preset", "eurosat"], "paper/eurosat"),
        (["--method", "sharpzo", "--set", "keep=0.5"], "search.zo.keep"),
        (["--engine", "openvin"], "openvino"),
        (["--precision", "int9"], "int8"),
        (["--dataset", "eurosta"], "eurosat"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_one_that_was_meant(capsys, tmp_path, options, meant):
    said = refused(capsys, "fit", tmp_path, "--out", tmp_path / "run", *options)
    assert f"(did you mean '{meant}'?)" in said
