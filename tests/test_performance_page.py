"""The tables of docs/performance.md are those of the committed results."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_no_figure_of_a_table_was_typed():
    command = [sys.executable, str(ROOT / "benchmarks" / "page.py")]
    printed = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    _, *parts = re.split(r"^## (.+)\n\n", printed, flags=re.MULTILINE)
    assert len(parts) == 12
    for name, part in zip(parts[::2], parts[1::2], strict=True):
        assert f"<!-- {name} -->\n\n{part.strip()}" in page, name
