"""A process of its own for one piece of work: ``python -m sharpzo.bench.worker``.

The first line of standard input is the request; the pipe stays open as long as the driver lives.
Standard output: lines ``{"done": forwards}`` while it works, the result in the last line.
"""

from __future__ import annotations

import json
import os
import sys
import threading

# As in the command line: NumPy's threads must not wait for the towers' by spinning.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

SAY_EVERY = 500  # forwards or photos


def main() -> None:
    """Read a request, work, print the result."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_the_driver, daemon=True).start()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a plugin prints must not meet the result
    said = 0

    def heard(done: int) -> None:
        nonlocal said
        if done - said >= SAY_EVERY or done < said:
            said = done
            print(json.dumps({"done": done}), file=out, flush=True)

    from sharpzo.bench.compute import attempt, warm

    if "warm" in request:
        result = warm(request["warm"], request["cache"], heard)
    else:
        result = attempt(request["job"], request["cache"], heard)
    print(json.dumps(result), file=out, flush=True)


def _die_with_the_driver() -> None:
    """End of standard input: nobody waits for the result any more, however the driver ended."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
