"""The command line: one command per file, parsing and printing only."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

# The towers' threads do the work. NumPy's would wait for theirs by spinning and take their cores;
# this has to be said before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors a person can mend end with one sentence and exit code 2."""
    from sharpzo.errors import SharpzoError

    _settle_streams()
    if "" in (sys.argv[1:] if arguments is None else arguments):
        # A folder of that name would be the current one: wrong photos, and nothing said.
        _end("an argument is empty, as a variable of the shell that is not set; leave it out", 2)
    try:
        from sharpzo.cli.app import app  # takes long enough for an interrupt

        app(arguments)
    except SharpzoError as error:
        _end(str(error), 2)
    except MemoryError:
        _end("the memory is used up; free some, or see --memory-limit", 2)
    except OSError as error:  # a full disk, a folder without rights, a device that went away
        _give_up_stdout()
        _end(_of_the_system(error), 2)
    except KeyboardInterrupt:
        _end("stopped", 130)


def run() -> None:
    """Run the command line as a process of its own, and end it."""
    code: int | str | None = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    leave(code)


def leave(code: int | str | None) -> None:
    """End the process with an exit code, after its threads and handlers, and with all output.

    Python would then free every module and object, one by one: 30 ms.
    """
    import atexit
    import threading

    code = code or 0
    if isinstance(code, int) and threading.active_count() == 1:
        atexit._run_exitfuncs()
        with suppress(OSError, ValueError):  # Python tries again, and says what is wrong
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    sys.exit(code)


def _end(sentence: str, code: int) -> None:
    from sharpzo.wording import printable

    with suppress(OSError):  # the exit code has to say it alone
        for line in f"sharpzo: {sentence}".split("\n"):  # a list of photos has a line for each
            print(printable(line), file=sys.stderr)
    sys.exit(code)


def _settle_streams() -> None:
    """Discard what goes to a closed stream; write as ASCII what a code page lacks."""
    from sharpzo.wording import LEGIBLE

    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  (until the process ends)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=LEGIBLE)


def _give_up_stdout() -> None:
    """Discard what cannot be printed: the interpreter would try again, and end with a traceback."""
    with suppress(OSError, ValueError):  # a stream without a file, as in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _of_the_system(error: OSError) -> str:
    try:
        os.getcwd()  # "." is still there where the folder was removed
    except FileNotFoundError:
        return "the current folder does not exist any more; change to another"
    if error.filename is None:  # as of a stream
        return f"the output cannot be written: {error.strerror or error}"
    return f"cannot read or write {os.fsdecode(error.filename)}: {error.strerror or error}"
