"""What people see: names as they are, whole columns, every code page, and full disks."""

import io
import os
import subprocess
import sys

import pytest

from command import call
from sharpzo.bench.summary import Interval, Line, Section
from sharpzo.cli.bench import show_section
from sharpzo.cli.options import names
from sharpzo.cli.screen import Column, Screen
from sharpzo.errors import InputError
from sharpzo.methods import METHODS
from sharpzo.wording import LEGIBLE, printable, quoted, some

WIDTHS = (None, "0", "x", "120", "80", "60", "40")  # None: no terminal, and no COLUMNS


@pytest.fixture(params=WIDTHS)
def width(request, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    if request.param:
        monkeypatch.setenv("COLUMNS", request.param)
    return request.param


def test_names_are_shown_and_not_obeyed(capsys):
    screen = Screen()
    screen.say("[red]cat[/red] :smile: \x1b[31m\u202e caf\udce9\nend")
    screen.show("[b]title", [Column("[i]class"), Column("[/]")], [["[cat]", "[/cat]"]])
    shown = capsys.readouterr().out
    assert shown.startswith("[red]cat[/red] :smile: \\x1b[31m\\u202e caf\\xe9\\x0aend\n[b]title\n")
    for name in ("[i]class", "[/]", "[cat]", "[/cat]"):
        assert name in shown
    assert "\x1b" not in shown


def test_letters_of_the_world_are_printable():
    for name in ("Äpfel", "котёнок", "猫", "👩‍🌾", "a b", "naïve — “x”"):
        assert printable(name) == name


def test_quoted_arguments_arrive_in_a_shell():
    words = ["a b", "it's", "$HOME", "-rf", "a\nb", "caf\udce9", "*", "", "\\", "ü"]
    arguments = " ".join(quoted(word) for word in words)
    code = "import os, sys; os.write(1, b'\\0'.join(map(os.fsencode, sys.argv[1:])))"
    done = subprocess.run(
        ["bash", "-c", f"{quoted(sys.executable)} -c {quoted(code)} {arguments}"],
        capture_output=True,
        check=True,
    )
    arrived = [os.fsdecode(word) for word in done.stdout.split(b"\0")]
    assert arrived == [f"./{word}" if word.startswith("-") else word for word in words]


def test_some():
    assert some(["a"]) == "a"
    assert some(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_no_method_name_is_cut(capsys, width):
    assert call("methods") == 0
    shown = capsys.readouterr().out
    words = shown.split()
    for name in METHODS:
        assert name in words
    assert "…" not in shown.replace("/…", "").replace("with …", "")
    if width and width.isdigit() and int(width):
        table = [line for line in shown.splitlines()[1:] if line.startswith(("│", "┃"))]
        assert all(len(line) <= int(width) for line in table)


def test_no_interval_of_a_bench_is_broken(capsys, width):
    screen = Screen()
    half = Interval(0.612, 0.034, 3)
    line = Line(
        "sharpzo-with-a-long-label", 8000, half, half, half, half, 8000.0, None, 12.5, 412.0, "x",
        ("y",), {},
    )  # fmt: skip
    show_section(screen, Section("eurosat", "eurosat", 16, "m", (1, 2), 8100, (line,)), "ladder")
    shown = capsys.readouterr().out
    for cell in ("61.2 ± 3.4", "+61.2 ± 3.4", "sharpzo-with-a-long-label", "8,000"):
        assert cell in shown
    assert "…" not in shown


@pytest.mark.parametrize("page", ["ascii", "cp1252", "latin-1", "cp437", "utf-8"])
def test_every_code_page_prints(page, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=page, errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    assert call("methods") == 0
    Screen().say("猫 81.2 ± 3.4 … caf\udce9")
    stream.flush()
    shown = stream.buffer.getvalue().decode(page)
    assert "linear-probe" in shown
    assert "caf\\xe9" in shown
    if page == "ascii":
        assert "\\u732b 81.2 +- 3.4 ..." in shown
    assert stream.errors == LEGIBLE


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a Unix device")
@pytest.mark.parametrize("command", ["methods", "--help"])
def test_a_full_disk_under_the_output_is_one_sentence(command):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from sharpzo.cli import main; main()", *command.split()],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("sharpzo: the output cannot be written: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_output_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert call("methods") == 0
    sys.stdout.close()


def test_an_interrupt_is_told(monkeypatch, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("sharpzo.cli.listings._short", stop)
    assert call("methods") == 130
    assert capsys.readouterr().err == "sharpzo: stopped\n"


def test_class_names_are_quoted_as_in_csv():
    assert names('"salt, sea",sugar') == ["salt, sea", "sugar"]
    assert names('a, "the ""best"" one", b,') == ["a", 'the "best" one', "b"]
    for wrong, word in (
        ("a,a", "'a' twice"),
        (" , ", "no class"),
        ("a;b", "only 'a;b'"),
        ('"a', "double quotes"),
    ):
        with pytest.raises(InputError, match=word):
            names(wrong)


def test_an_empty_argument_is_not_the_current_folder(capsys):
    for arguments in (["predict", "run", ""], ["fit", "", "--out", "run"]):
        assert call(*arguments) == 2
        assert "an argument is empty" in capsys.readouterr().err


def test_a_list_of_photos_has_a_line_for_each(monkeypatch, capsys):
    from sharpzo.errors import PhotoError, PhotosError

    def refuse(*arguments):
        raise PhotosError([PhotoError("a\x1b.png", "is bad"), PhotoError("b.png", "is bad")], 3)

    monkeypatch.setattr("sharpzo.cli.listings._short", refuse)
    assert call("methods") == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == ["  photo a\\x1b.png is bad", "  photo b.png is bad"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a Unix device")
def test_progress_that_cannot_be_written_stops_nothing(monkeypatch, capsys):
    def shown():
        screen = Screen(stderr=True)
        screen.say("1 of 2")
        screen.say("2 of 2")

    for work in (shown, lambda: call("predict", "") == 2):  # the exit code says it alone
        with open("/dev/full", "w", buffering=1) as full:
            monkeypatch.setattr(sys, "stderr", full)
            assert work() is not False
            monkeypatch.undo()
            os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


def test_a_folder_that_is_gone_is_told(monkeypatch, capsys, tmp_path):
    def gone(*arguments):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("sharpzo.cli.listings._short", gone)
    folder = tmp_path / "folder"
    folder.mkdir()
    with monkeypatch.context() as moved:
        moved.chdir(folder)
        folder.rmdir()  # "." exists all the same
        assert call("methods") == 2
    assert "the current folder does not exist any more" in capsys.readouterr().err
