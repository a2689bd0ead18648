"""Every code block of README.md and docs/ runs, in the order of its page, as a reader types it.

Blocks of ``sh`` and ``python`` run in a folder with a few photos of the demo; a block with a title
is written as that file; a block ``output`` is what the block before it prints. A comment before a
block says what is not run here, and why:

    <!-- slow: REASON -->           by the slow test of the page alone
    <!-- run by tests/FILE.py -->   by that test, which reads the page
    <!-- not run: REASON -->        nowhere
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from markdown_it import MarkdownIt
from PIL import Image

from command import call, demo_folder
from sharpzo.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES["README"] = (ROOT / "README.md").read_text("utf-8")
RUN = {"sh", "python"}
SHOWN = {"math", "text", "output", "toml", "ini"}
MARK = re.compile(r"<!-- (slow|run by|not run)(?:: | )(.*?) -->\s*")
# What a full search or bench of a page is in the default suite.
FASTER = {"--preset paper/eurosat": "--preset paper/eurosat --set dim=16"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its ``mark`` says where it runs ("" for here), and the ``reason``."""

    page: str
    line: int
    language: str
    title: str | None
    text: str
    mark: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page}.md:{self.line}"


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page in order, those of lists included."""
    mark = reason = ""
    for token in MarkdownIt().parse(PAGES[page]):
        if token.type == "fence":
            language, _, rest = token.info.partition(" ")
            title = re.search(r'title="(.*?)"', rest)
            yield Block(
                page, token.map[0] + 1, language, title and title[1], token.content, mark, reason
            )
        assert token.type != "code_block", f"{page}.md:{token.map[0] + 1} is indented: fence it"
        found = MARK.fullmatch(token.content) if token.type == "html_block" else None
        mark, reason = found.groups() if found else ("", "")


ALL = [block for page in PAGES for block in blocks(page)]


def pages(mark: str) -> list[str]:
    return sorted({block.page for block in ALL if block.language in RUN and block.mark == mark})


def test_each_block_runs_or_says_why_not():
    assert {block.language for block in ALL} <= RUN | SHOWN
    for block in ALL:
        if block.mark == "run by":
            assert f"{block.page}.md" in (ROOT / block.reason).read_text("utf-8"), block
    marks = [block.mark for block in ALL if block.language in RUN]
    assert marks.count("") >= 20
    assert marks.count("slow") > 15
    assert marks.count("not run") <= 22  # data sets, weights, clusters and systems of others


def commands(text: str) -> list[str]:
    """Command lines of sharpzo, in blocks of any kind, and of units of systemd."""
    pattern = r"^(?:ExecStart=\S*/|\.venv/bin/|  )?(sharpzo [a-z].*)$"
    return [line.partition("  #")[0] for line in re.findall(pattern, text, re.MULTILINE)]


def inline(text: str) -> list[str]:
    """Whole command lines in backquotes."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found = [" ".join(line.split()) for line in re.findall(r"`(sharpzo [a-z][^`]*)`", prose)]
    return [line for line in found if "…" not in line and "--" in line]


def test_every_command_parses():
    """Also those in prose, and of blocks that are not run."""
    group = typer.main.get_command(app)
    root = group.make_context("sharpzo", ["methods"])
    lines = [(name, line) for name in PAGES for line in commands(PAGES[name]) + inline(PAGES[name])]
    assert len(lines) > 40
    for name, line in lines:
        words = [word for word in shlex.split(line, comments=True)[1:] if word != "…"]
        if "--plugin" in words:  # which would be run
            del words[(at := words.index("--plugin")) : at + 2]
        command = group.get_command(root, words[0])
        assert command is not None, line
        try:
            if hasattr(command, "commands"):
                words = words[1:]
                command = command.commands[words[0]]
            command.make_context(words[0], words[1:])
        except Exception as error:  # Click's, which name the option
            pytest.fail(f"{name}.md has `{line}`: {error}")


# What a reader has on a page, beside a few photos.


def splits(folder: Path) -> None:
    shutil.rmtree(folder / "photos")
    demo_folder(folder / "photos", train=3, val=1, test=2)
    rows = [(path.relative_to(folder / "photos"), path.parent.name)
            for path in sorted((folder / "photos" / "train").rglob("*.png"))]  # fmt: skip
    lines = [f"{path},{name}" for path, name in rows]
    (folder / "labels.csv").write_text("path,label\n" + "\n".join(lines) + "\n")


def stopped(run: Path) -> None:
    """A fit that was stopped once its first steps are in its journal."""
    line = ["fit", "photos", "--out", str(run), "--method", "sharpzo", "--budget-forwards", "900"]
    fit = subprocess.Popen([sys.executable, "-m", "sharpzo", *line], stderr=subprocess.DEVNULL)
    journal = run / "history.jsonl"
    while fit.poll() is None and not (journal.is_file() and journal.stat().st_size):
        time.sleep(0.02)
    fit.send_signal(signal.SIGINT)
    assert fit.wait() == 130


def fitted(folder: Path) -> None:
    assert call("fit", "photos", "--out", "my-run") == 0


def two_runs(folder: Path) -> None:
    fitted(folder)
    shutil.copytree(folder / "my-run", folder / "other-run")


def stranger(folder: Path) -> None:
    fitted(folder)
    for name, known in {"elsewhere": "coat", "labelled-photos/none": "trouser"}.items():
        demo_folder(folder / "more", (known,), test=3)
        shutil.copytree(folder / "more" / "test" / known, folder / name)
    shutil.copy(next((folder / "elsewhere").iterdir()), folder / "stranger.jpg")


def searched(folder: Path) -> None:
    fitted(folder)
    line = ("fit", "photos", "--out", "by-search", "--method", "zo-sgd")
    assert call(*line, "--budget-forwards", "20") == 0


def pair(folder: Path) -> None:
    pytest.importorskip("transformers")
    sys.path.insert(0, str(ROOT / "tests" / "towers"))
    from test_pair_example import save_source

    save_source(folder / "my-model")
    for name, word in {"bag": "cat", "dress": "dog"}.items():  # of its few words
        (folder / "photos" / name).rename(folder / "photos" / word)
    shutil.rmtree(folder / "photos" / "sandal")


HAVE = {
    "your-photos": splits, "trust": stranger, "sharing": fitted, "export": searched,
    "models": pair, "service": two_runs, "paper": lambda folder: (folder / "DATA").mkdir(),
}  # fmt: skip
FILES = ("Makefile", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
CODES = {"sharpzo data check eurosat DATA": 2}  # of an empty folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a reader is: class folders, new photos, and a shell that finds sharpzo."""
    monkeypatch.chdir(tmp_path)
    demo_folder(tmp_path / "demo", train=6, test=2)
    (tmp_path / "demo" / "train").rename("photos")
    (tmp_path / "demo" / "test").rename("labelled-photos")
    demo_folder(tmp_path / "demo", ("bag", "ankle boot"), val=2)
    (tmp_path / "demo" / "val").rename("more-photos")
    shutil.copytree("more-photos/ankle boot", "new")
    for name in ("new", "photos/bag"):
        for k, path in enumerate(sorted(Path(name).iterdir())):
            Image.open(path).convert("RGB").save(path.with_name(f"{k}.jpg"))
            path.unlink()
    shutil.copy("new/0.jpg", "photo.jpg")
    shutil.copy("new/1.jpg", "new-photo.jpg")
    Path("new-photos").mkdir()
    shutil.copy("new-photo.jpg", "new-photos")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, line in {"sharpzo": "-m sharpzo ", "python": ""}.items():
        (bin_ / name).write_text(f'#!/bin/sh\nexec {sys.executable} {line}"$@"\n')
        (bin_ / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def checkout(folder: Path) -> Path:
    """A copy of what the scripts of the repository read and write."""
    place = folder / "checkout"
    if not place.exists():
        place.mkdir()
        for name in ("docs", "experiments", "tools", "benchmarks", "requirements", "src", *FILES):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, place / name)
    return place


def shell(line: str, folder: Path) -> str:
    """Run a command; return what it prints. Plain ones of ours run in this process."""
    line = line.removeprefix(".venv/bin/")
    if line.startswith("sharpzo ") and not re.search(r"[|*$>]|--memory-limit", line):
        _, *arguments = shlex.split(line, comments=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert call(*arguments) == CODES.get(line, 0), line
        return printed.getvalue()
    of_ours = re.match(r"make |python (experiments|tools)/", line)
    place = checkout(folder) if of_ours else folder
    done = subprocess.run(["bash", "-c", line], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def run_page(page: str, folder: Path, slow: bool) -> None:
    """Run its blocks in order. Python shares its names, as in one session."""
    HAVE.get(page, lambda folder: None)(folder)
    if slow and page == "your-photos":
        stopped(folder / "long-run")
    names: dict[str, object] = {}
    printed = None
    for block in blocks(page):
        if block.title:
            (folder / block.title).write_text(block.text)
        elif block.language == "output" and printed is not None:
            expect(block, printed)
        elif block.language in RUN:
            printed = None
            if block.mark not in ("", "slow") or (block.mark and not slow):
                continue
            if block.language == "python":
                exec(compile(block.text, str(block), "exec"), names)
                continue
            text = block.text.replace("\\\n", " ")
            if not slow:
                for whole, faster in FASTER.items():
                    text = text.replace(whole, faster)
            printed = "".join(shell(line, folder) for line in text.splitlines())
    written = folder / "checkout" / "docs" / f"{page}.md"
    if written.exists():  # its tables are those of the results
        assert written.read_text("utf-8") == PAGES[page]


NUMBER = r"\d[\d,]*(?:\.\d+)?"


def expect(block: Block, printed: str) -> None:
    """Compare line by line: words are equal, "…" stands for anything, and accuracies are within
    three points, as another processor rounds otherwise. Times and sizes are those of a machine, and
    a search that was cut by its seconds (other forwards) has another accuracy."""
    for line in filter(None, map(str.strip, block.text.splitlines())):
        pattern = re.sub(NUMBER, "#", line)
        pattern = re.sub(r"\s+", r"\\s+", re.escape(pattern).replace(r"\ ", " "))
        pattern = pattern.replace("…", ".*").replace(r"\#", f"({NUMBER})")
        found = re.search(pattern, printed)
        assert found, f"{block} shows\n{line}\nbut this is printed:\n{printed}"
        shown = [number.replace(",", "") for number in re.findall(NUMBER, line)]
        seen = [number.replace(",", "") for number in found.groups()]
        if [n for n in shown if len(n) > 3 and n.isdigit()] != [
            n for n in seen if len(n) > 3 and n.isdigit()
        ]:
            continue
        for ours, theirs, unit in zip(shown, seen, re.findall(f"{NUMBER}( %)?", line), strict=True):
            if unit:
                assert float(theirs) == pytest.approx(float(ours), abs=3), f"{block}: {line}"


@pytest.mark.parametrize("page", pages(""))
def test_the_blocks_of_a_page_run(page, folder):
    run_page(page, folder, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages("slow"))
@pytest.mark.filterwarnings("ignore")  # of the exporter of torch
def test_all_blocks_of_a_page_run(page, folder):
    run_page(page, folder, slow=True)


def test_equations_become_mathml(monkeypatch):
    """A command that the converter does not know would stay as text."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    site_markdown = pytest.importorskip("site_markdown")
    inline = site_markdown.Markdown(extensions=["fenced_code", site_markdown.Site()])
    many = 0
    for page, text in PAGES.items():
        found = [site_markdown.block(block.text) for block in ALL
                 if (block.page, block.language) == (page, "math")]  # fmt: skip
        prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
        found += [
            inline.reset().convert(f"${one}$") for one in re.findall(site_markdown.INLINE, prose)
        ]
        assert not [one for one in found if "\\" in one or "<math" not in one], page
        assert prose.count("$") == 2 * len(re.findall(site_markdown.INLINE, prose)), page
        many += len(found)
    assert many > 50
    example = inline.reset().convert("So:\n\n>>> 1 + 1\n2\n")
    assert "blockquote" not in example


def test_every_page_is_in_the_navigation():
    """MkDocs says it, too, where it is installed."""
    listed = re.findall(r"([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(f"{name}.md" for name in PAGES if name != "README")
