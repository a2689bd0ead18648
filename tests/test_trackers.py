"""Trackers write what a search does: read back from an event file, and from MLflow's database."""

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

from command import answer, demo_folder, refused
from sharpzo.errors import EngineError
from sharpzo.trackers import NoTracker, open_tracker
from sharpzo.types import Step

STEPS = [
    Step(1, "cma", 40, 0.5, 1.5, validation_accuracy=0.25, notes={"sigma": 0.1}),
    Step(2, "cma", 80, 1.0, 1.25, validation_accuracy=0.5),
]
RECORD = {
    "method": "sharpzo", "preset": None, "seed": 3, "sharpzo_version": "0.1.0",
    "class_names": ["bag", "dress"], "settings": {"dim": 16}, "forwards": 80, "seconds": 1.0,
    "peak_memory_mb": None, "validation": {"accuracy": 0.5}, "test": {"accuracy": None},
}  # fmt: skip


def events(folder):
    """Scalars by name: (forwards, value), and names of texts, as the file's records have them."""
    import struct

    proto = pytest.importorskip("tensorboardX.proto.event_pb2")
    (file,) = folder.glob("events.*")
    data, scalars, texts = file.read_bytes(), {}, set()
    while data:
        size = struct.unpack("<Q", data[:8])[0]
        event, data = proto.Event.FromString(data[12 : 12 + size]), data[16 + size :]
        for value in event.summary.value:
            if value.HasField("simple_value"):
                scalars.setdefault(value.tag, []).append((event.step, value.simple_value))
            else:
                texts.add(value.tag)
    return scalars, texts


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    with open_tracker(f"tensorboard:{tmp_path}", "run") as tracker:
        for step in STEPS:
            tracker(step)
        tracker.finish(RECORD)
    scalars, texts = events(tmp_path / "run")
    assert scalars["loss"] == [(40, 1.5), (80, 1.25)]
    assert scalars["validation/accuracy"] == [(40, 0.25), (80, 0.5)]
    assert len(scalars["notes/sigma"]) == 1
    assert scalars["final/validation/accuracy"] == [(80, 0.5)]
    assert "final/test/accuracy" not in scalars
    assert texts == {"fit/text_summary"}


def test_mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    uri = f"sqlite:///{tmp_path / 'ml.db'}"
    with open_tracker(f"mlflow:{uri}", "one") as tracker:
        for step in STEPS:
            tracker(step)
        tracker.finish(RECORD)
    client = mlflow.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("sharpzo").experiment_id])
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")] == [
        (40, 1.5),
        (80, 1.25),
    ]
    assert run.data.params["settings.dim"] == "16"
    assert run.info.status == "FINISHED"


def test_mlflow_is_called_as_its_client_is_made(monkeypatch):
    """Without the package: what is asked of the client, and a run that failed."""
    asked = []

    class Client:
        def __init__(self, tracking_uri):
            asked.append(tracking_uri)

        def get_experiment_by_name(self, name):
            return SimpleNamespace(experiment_id="7")

        def create_run(self, experiment, run_name):
            return SimpleNamespace(info=SimpleNamespace(run_id=f"{experiment}/{run_name}"))

        def __getattr__(self, name):
            return lambda *a, **k: asked.append((name, *a, *k.values()))

    fake = ModuleType("mlflow")
    fake.MlflowClient = Client
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "99")
    tracker = open_tracker("mlflow:http://host", "one")
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"  # it would try for minutes
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "99"  # the user's own
    tracker(STEPS[1])
    tracker.__exit__(RuntimeError)
    assert asked[0] == "http://host"
    assert ("log_metric", "7/one", "loss", 1.25, 80) in asked
    assert asked[-1] == ("set_terminated", "7/one", "FAILED")


@pytest.mark.parametrize(("file", "why"), [("no/ml.db", "unable to open"), ("jpg", "not a data")])
def test_mlflow_is_not_asked_for_a_database_that_cannot_be_opened(monkeypatch, tmp_path, file, why):
    """It would try for minutes."""
    (tmp_path / "jpg").write_bytes(b"no database" * 100)
    monkeypatch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))
    with pytest.raises(EngineError, match=f"MLflow cannot be used at sqlite:.*: .*{why}"):
        open_tracker(f"mlflow:sqlite:///{tmp_path / file}", "one")
    assert (tmp_path / "jpg").read_bytes() == b"no database" * 100


def test_a_tracker_that_fails_stops_no_search(caplog):
    class Broken(NoTracker):
        def log(self, values, forwards):
            raise ConnectionError("the server is gone")

    with Broken() as tracker:
        for step in STEPS:
            tracker(step)
        tracker.finish(RECORD)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == "the tracker failed and is left out from here on: the server is gone"


def test_a_folder_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    pytest.importorskip("tensorboardX")
    (tmp_path / "file").write_text("")
    demo_folder(tmp_path / "photos", ("sandal", "bag"), train=1)
    said = refused(
        capsys, "fit", tmp_path / "photos", "--out", tmp_path / "run",
        "--track", f"tensorboard:{tmp_path / 'file'}",
    )  # fmt: skip
    assert "cannot be used" in said
    assert not (tmp_path / "run").exists()


def test_a_fit_is_tracked(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboardX")
    monkeypatch.chdir(tmp_path)
    demo_folder(tmp_path / "photos", ("sandal", "bag"), train=2, val=1)
    answer(
        capsys, 0, "fit", "photos", "--out", "my-run", "--method", "sharpzo",
        "--budget-forwards", "60", "--track", "tensorboard",
    )  # fmt: skip
    scalars, texts = events(tmp_path / "runs" / "my-run")
    forwards = [at for at, _ in scalars["loss"]]
    assert forwards == sorted(forwards)
    assert 0 < forwards[-1] <= 60
    assert scalars["final/forwards"][0][1] == scalars["final/forwards"][0][0]
    assert texts


def test_what_is_no_tracker_is_refused(capsys, tmp_path, monkeypatch):
    demo_folder(tmp_path / "photos", ("sandal", "bag"), train=1)
    fit = ("fit", tmp_path / "photos", "--out", tmp_path / "run", "--track")
    assert "there is no tracker 'wandb'; give tensorboard or mlflow" in refused(
        capsys, *fit, "wandb"
    )
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert "pip install 'sharpzo[mlflow]'" in refused(capsys, *fit, "mlflow")
    assert not (tmp_path / "run").exists()
