"""What docs/your-photos.md says is what the readers do."""

import re
from pathlib import Path

from sharpzo.data import decoding, jpeg
from sharpzo.data.archive import MOST_BYTES, MOST_GROWTH
from sharpzo.data.dataset import REMARKS
from sharpzo.data.entries import passed_over, split_name
from sharpzo.data.label_file import LABELS, PATHS
from sharpzo.memory import MB

PAGE = " ".join((Path(__file__).parents[2] / "docs" / "your-photos.md").read_text().split())


def between(begin: str, end: str) -> list[str]:
    """The words in backquotes between two phrases."""
    text = PAGE[PAGE.index(begin) : PAGE.index(end)]
    return re.findall(r"`([^`]+)`", text)


def test_names_of_splits():
    words = between("Folders of splits may be called", "; each also followed")
    assert len(words) > 10
    found = [split_name(word) for word in words]
    assert found == sorted(found, key=["train", "val", "test"].index)
    examples = between("or a year (", "A folder with a name of this list")
    assert [split_name(word) for word in examples] == ["train", "val", "eval", "eval"]


def test_folders_that_are_passed_over(tmp_path):
    words = between(
        "Folders that operating systems and programs create", "* Folders that `sharpzo` wrote"
    )
    assert len(words) > 8
    for word in words:
        (tmp_path / word).mkdir()
        assert passed_over(tmp_path / word) is not None, word


def test_columns_and_limits():
    words = between("`file_name`, `filename`", "are accepted")
    assert set(words) <= set(PATHS)
    assert {"class", "category", "label"} <= set(LABELS)
    assert f"more than {MOST_BYTES >> 30} GiB" in PAGE
    assert MOST_GROWTH == 100
    assert "a hundred times its size" in PAGE


def test_the_bounds_of_files_are_the_readers():
    assert f"files above {decoding.MAX_BYTES // MB} MB" in PAGE
    assert f"more than {decoding.MAX_PIXELS:,} pixels (a JPEG may have four times" in PAGE
    assert decoding.MAX_JPEG_PIXELS == 4 * decoding.MAX_PIXELS
    assert f"more than {jpeg.MAX_SCANS} scans" in PAGE
    assert all(name in PAGE for name in re.findall("[A-Za-z]{3,}", decoding.READ))
    assert f"the first {REMARKS:,}" in PAGE
