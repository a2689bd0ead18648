"""The page of a bench, from recipe to HTML."""

from pathlib import Path

import pytest
from bench_engines import Here

from command import document
from sharpzo.errors import ArtifactError
from sharpzo.report.bench_report import report_bench


def test_a_bench_becomes_a_page(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sharpzo.bench.engines.LocalEngine", lambda workers: Here())
    monkeypatch.setattr("sharpzo.bench.driver.plot", lambda rows, folder: None)
    out = tmp_path / "out"
    path = recipe(title='"Two heads <b>"', seeds="[1]", budgets="[60]")
    document(capsys, "bench", path, "--out", out)
    file = Path(document(capsys, "report", out)["report"])
    page = file.read_text("utf-8")
    assert "Two heads &lt;b&gt;" in page
    assert "<b>" not in page.split("<h1>")[1].split("</h1>")[0]
    assert "search at 60" in page
    assert "Against forwards" in page
    assert not any(f'{word}="http' in page for word in ("src", "href"))
    (out / "bench.json").unlink()
    with pytest.raises(ArtifactError, match=r"no usable bench\.json"):
        report_bench(out)
