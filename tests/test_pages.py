"""The pages of the documentation: every command parses, and the tours run as they stand."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image

from command import call, demo_folder
from sharpzo.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES["README"] = (ROOT / "README.md").read_text("utf-8")
# Done by other tests (the demo, the doctor, the wheel), by the system, or with data of others.
ELSEWHERE = ("pip ", "sudo ", *(f"sharpzo {rest}" for rest in (
    "demo", "doctor", "data check", "bench", "fit DATA", "fit --resume",
)))  # fmt: skip
FASTER = {
    "--budget-seconds 60": "--budget-forwards 60",
    "--preset paper/eurosat": "--preset paper/eurosat --set dim=16",
    "sharpzo report": "sharpzo report --no-landscape",
}


def commands(text: str) -> list[str]:
    """Command lines of sharpzo, in blocks of any kind, and of units of systemd."""
    pattern = r"^(?:    |ExecStart=\S*/|\.venv/bin/|  )?(sharpzo [a-z].*)$"
    return [line.partition("  #")[0] for line in re.findall(pattern, text, re.MULTILINE)]


def inline(text: str) -> list[str]:
    """Whole command lines in backquotes."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found = [" ".join(line.split()) for line in re.findall(r"`(sharpzo [a-z][^`]*)`", prose)]
    return [line for line in found if "…" not in line and "--" in line]


ALL = [(name, line) for name, text in PAGES.items() for line in commands(text) + inline(text)]


def test_there_are_commands_to_parse():
    assert len(ALL) > 40
    assert {"README", "five-minutes", "small-machines", "paper"} <= {name for name, _ in ALL}


@pytest.mark.parametrize("name", sorted({name for name, _ in ALL}))
def test_every_command_of_a_page_parses(name):
    group = typer.main.get_command(app)
    root = group.make_context("sharpzo", ["methods"])
    for line in [line for page, line in ALL if page == name]:
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
            pytest.fail(f"docs/{name}.md has `{line}`: {error}")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a reader is: a few photos, a new one, and what the page before made."""
    monkeypatch.chdir(tmp_path)
    demo_folder(tmp_path / "photos", train=3, val=1, test=1)
    new = next((tmp_path / "photos" / "test").rglob("*.png"))
    Image.open(new).save(tmp_path / "new-photo.jpg")
    shutil.copytree(tmp_path / "photos" / "test", tmp_path / "labelled-photos")
    return tmp_path


def run_page(name: str, capsys) -> None:
    """Run its blocks in order: shell commands of ours, and Python."""
    for kind, block in re.findall(
        r"^```(sh|python)\n(.*?)^```", PAGES[name], re.DOTALL | re.MULTILINE
    ):
        if kind == "python":
            exec(compile(block, f"docs/{name}.md", "exec"), {})
            continue
        for line in block.splitlines():
            if line.startswith(ELSEWHERE):
                continue
            for slow, fast in FASTER.items():
                line = line.replace(slow, fast)
            program, *arguments = shlex.split(line, comments=True)
            assert program == "sharpzo", line
            if "--memory-limit" in line:  # of a process, which pytest's is more than
                done = subprocess.run([sys.executable, "-m", "sharpzo", *arguments], check=False)
                assert done.returncode == 0, line
                continue
            capsys.readouterr()
            assert call(*arguments) == 0, f"{line}\n{capsys.readouterr().err}"


def test_five_minutes(folder, capsys):
    run_page("five-minutes", capsys)
    assert {"check.html", "report.html", "my-run", "my-second-run"} <= {
        path.name for path in folder.iterdir()
    }


@pytest.mark.slow
def test_small_machines(folder, capsys):
    run_page("small-machines", capsys)
    assert (folder / "by-search" / "run.json").is_file()


def test_sharing(folder, capsys):
    assert call("fit", "photos", "--out", "my-run") == 0
    run_page("sharing", capsys)
    assert (folder / "shared" / "README.md").is_file()


def test_the_paper(folder, capsys):
    run_page("paper", capsys)
    assert (folder / "rehearsal" / "run.json").is_file()


def test_every_page_is_in_the_navigation():
    """MkDocs says it, too, where it is installed."""
    listed = re.findall(r"([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(f"{name}.md" for name in PAGES if name != "README")
