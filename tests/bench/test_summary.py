"""Rows made by hand into sections, Markdown, Parquet and plots."""

import csv
import importlib.util
from dataclasses import replace

import pytest

from sharpzo.bench.plots import plot
from sharpzo.bench.published import find_published, published
from sharpzo.bench.summary import as_markdown, summarise
from sharpzo.bench.table import COLUMNS, Row, write_parquet, write_table
from sharpzo.errors import EngineError

BASE = Row("eurosat", "eurosat", 16, 1, "embedded", "zero-shot", "zero-shot", None, None, True,
           0.3, 8100, 0.1, 0.3, 0.4, 1, 0, 0.1, 100.0, "no search", "fixed settings", "{}",
           "k")  # fmt: skip


def row(method, seed, accuracy, budget=None, **more):
    named = {"method": method, "registered": method, "seed": seed, "test_accuracy": accuracy}
    return replace(BASE, budget=budget, **{**named, **more})


ROWS = [
    *(row("zero-shot", seed, 0.3) for seed in (1, 2, 3)),
    *(row("sharpzo", seed, 0.4 + seed / 100, 5000, seconds=10.0 * seed) for seed in (1, 2, 3)),
    *(row("sharpzo", seed, 0.5 + seed / 100, 40_000, wanted=True) for seed in (1, 2)),
    row("sharpzo", 1, 0.2, 100, wanted=False),
    row("gda", 1, 0.8, image_passes=None, peak_memory_mb=None),
]


def test_sections_have_means_paired_differences_and_costs():
    (section,) = summarise(ROWS, "sharpzo")
    assert section.seeds == (1, 2, 3)
    by = {(line.method, line.budget): line for line in section.lines}
    assert list(by) == [("zero-shot", None), ("sharpzo", 5000), ("sharpzo", 40_000), ("gda", None)]
    assert by["sharpzo", 5000].test.mean == pytest.approx(0.42)
    assert by["sharpzo", 5000].seconds == 20
    assert by["sharpzo", 5000].difference is None  # the baseline itself
    # zero-shot has no budget: against the baseline's largest, on the two seeds that both have
    assert by["zero-shot", None].difference.mean == pytest.approx(0.3 - 0.515)
    assert by["zero-shot", None].difference.n == 2
    assert by["gda", None].difference.half is None
    assert by["gda", None].image_passes is None
    against_zero = summarise(ROWS, "zero-shot")[0].lines[1]
    assert against_zero.difference.mean == pytest.approx(0.12)
    assert summarise(ROWS)[0].lines[0].difference is None


def test_what_was_tested_elsewhere_is_a_section_of_its_own():
    shifted = [replace(r, tested_on="sketch") for r in ROWS]
    first, second = summarise([*ROWS, *shifted])
    assert "tested on sketch" in second.title
    assert first.lines[0].published
    assert not second.lines[0].published


def test_published_figures_stand_in_columns_of_their_own():
    document = as_markdown("T", summarise(ROWS, "zero-shot"), "zero-shot")
    header = next(line for line in document.splitlines() if line.startswith("| method"))
    assert "published, ViT-B/16, not this model" in header
    line = next(line for line in document.splitlines() if line.startswith("| sharpzo | 5,000"))
    assert line.split(" | ")[-2:] == ["79.42 (sharpzo_t1)", "80.77 (sharpzo_t1) |"]
    assert "+12.0 ± 2.5" in line
    assert "* sharpzo_t1: SharpZO" in document
    # Every row has as many columns as its header.
    assert {line.count("|") for line in document.splitlines() if line.startswith("| ")} == {14}


def test_every_published_figure_names_a_known_source():
    figures = published().rows
    assert len(figures) > 1000
    assert {figure.source for figure in figures} == set(published().sources)
    assert all(0 < figure.accuracy < 100 for figure in figures)
    assert find_published("gda", "eurosat", 16, "ViT-B/16").accuracy == 89.19
    assert find_published("zero-shot", "caltech101", 4, "RN50").accuracy == 86.29
    assert find_published("sharpzo", "eurosat", 4, "RN50") is None
    assert find_published("mine", "eurosat", 16, "RN50") is None


def test_the_csv_has_every_row_and_column(tmp_path):
    write_table(ROWS, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open() as file:
        found = list(csv.DictReader(file))
    assert tuple(found[0]) == COLUMNS
    assert [float(r["test_accuracy"]) for r in found] == [r.test_accuracy for r in ROWS]
    assert found[0]["budget"] == ""


def missing(name):
    return importlib.util.find_spec(name) is None


def test_parquet_is_the_same_table(tmp_path):
    if missing("pyarrow"):
        with pytest.raises(EngineError, match=r"pip install 'sharpzo\[bench\]'"):
            write_parquet(ROWS, tmp_path / "t.parquet")
        assert not list(tmp_path.iterdir())
        return
    import pyarrow.parquet as parquet

    write_parquet(ROWS, tmp_path / "t.parquet")
    table = parquet.read_table(tmp_path / "t.parquet")
    assert tuple(table.column_names) == COLUMNS
    assert [Row(**record) for record in table.to_pylist()] == ROWS
    assert str(table.schema.field("budget").type) == "int64"
    write_parquet([], tmp_path / "t.parquet")  # types do not depend on the rows
    assert parquet.read_table(tmp_path / "t.parquet").schema == table.schema


def test_plots_are_written_for_each_section(tmp_path):
    if missing("matplotlib"):
        with pytest.raises(EngineError, match=r"pip install 'sharpzo\[plots\]'"):
            plot(ROWS, tmp_path)
        return
    plot(ROWS, tmp_path)
    svg = tmp_path / "curves-eurosat-16-embedded.svg"
    assert {file.name for file in tmp_path.iterdir()} == {svg.name, f"{svg.stem}.png"}
    drawn = svg.read_text()
    assert all(word in drawn for word in ("sharpzo", "gda", "zero-shot", "forwards", "seconds"))
    assert "$" not in drawn  # ticks of a logarithmic axis are numbers, not formulas
    plot(ROWS, tmp_path)
    assert svg.read_text() == drawn  # the same table is the same picture
