"""The command line: a command a file, parsing and printing only."""

from __future__ import annotations

import os
import sys

# The towers' threads do the work. NumPy's would wait for theirs by spinning and take their cores;
# this has to be said before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors a person can mend end with one sentence and exit code 2."""
    from sharpzo.cli.app import app
    from sharpzo.errors import SharpzoError

    try:
        app(arguments)
    except SharpzoError as error:
        print(f"sharpzo: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("sharpzo: stopped before the run was written", file=sys.stderr)
        sys.exit(130)
