"""The page of a bench, from recipe to HTML."""

import json
from pathlib import Path

import pytest

from sharpzo.cli import main
from sharpzo.errors import ArtifactError
from sharpzo.report.bench_report import report_bench


def test_a_bench_becomes_a_page(recipe, tmp_path, capsys):
    out = tmp_path / "out"
    path = recipe(title='"Two heads <b>"', seeds="[1]", budgets="[60]")
    main_ends(["bench", str(path), "--out", str(out), "--json"])
    capsys.readouterr()
    main_ends(["report", str(out), "--json"])
    file = Path(json.loads(capsys.readouterr().out)["report"])
    page = file.read_text("utf-8")
    assert "Two heads &lt;b&gt;" in page
    assert "<b>" not in page.split("<h1>")[1].split("</h1>")[0]
    assert "search at 60" in page
    assert "Against forwards" in page
    assert not any(f'{word}="http' in page for word in ("src", "href"))
    (out / "bench.json").unlink()
    with pytest.raises(ArtifactError, match=r"no usable bench\.json"):
        report_bench(out)


def main_ends(arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert not end.value.code
