"""Run the tests that depend on the processor's arithmetic in several variations: a table.

``python tools/any_processor.py [folders of tests]``, from the repository's root; the exit code is 1
if a test fails. A search amplifies the last bit of a sum into another path, so no test may depend
on one path. These can be varied on one machine:

* OPENBLAS_CORETYPE, whose kernels the products of NumPy run on (Haswell: AVX2; SkylakeX: AVX-512;
  Zen: AVX2 in other blocks). "runs on" is the kernel that OpenBLAS reports: a build without kernels
  for Zen takes Haswell's, and a processor without AVX-512 has no SkylakeX.
* NPY_DISABLE_CPU_FEATURES, NumPy's own loops without AVX-512, and without AVX2 either.
* Cores that the process may use, and threads of OpenBLAS: 1 and 2.

Every pair of a kernel and a number of threads, and of a set of loops and a number of threads, is
run. The kernels of ONNX Runtime are not varied: it chooses them by the processor, and no variable
changes them (nor those of torch, but torch is only the reference). For these, run the suite on
another machine.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = [f"tests/{name}" for name in ("optim", "methods", "towers", "conformance")]
_WIDE = ("AVX512", "X86_V4")
LOOPS = {"all": (), "no AVX-512": _WIDE, "no AVX2": (*_WIDE, "AVX2", "FMA3", "X86_V3")}
# Kernel, loops of NumPy, threads.
VARIATIONS = (
    ("Haswell", "no AVX2", 1),
    ("SkylakeX", "all", 2),
    ("Zen", "no AVX-512", 1),
    ("Haswell", "no AVX-512", 2),
    ("SkylakeX", "all", 1),
    ("Zen", "no AVX2", 2),
)
# What a process runs on: OpenBLAS's kernel, and the loops that NumPy can choose among.
PROBE = """
import ctypes, glob, os, numpy
from numpy._core._multiarray_umath import __cpu_dispatch__ as loops, __cpu_features__ as has
found = glob.glob(os.path.join(os.path.dirname(numpy.__file__), "..", "numpy.libs", "*openblas*"))
name = "unknown"
for library in map(ctypes.CDLL, found):
    for ask in ("scipy_openblas_get_corename64_", "scipy_openblas_get_corename"):
        if hasattr(library, ask):
            getattr(library, ask).restype = ctypes.c_char_p
            name = getattr(library, ask)().decode()
print(name, *(loop for loop in loops if has[loop]))
"""


def environment(core: str, disabled: list[str], threads: int) -> dict[str, str]:
    """This one with the variables of a variation, and none that was set before."""
    known = ("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES")
    kept = {name: value for name, value in os.environ.items() if name not in known}
    count = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    without = {"NPY_DISABLE_CPU_FEATURES": " ".join(disabled)} if disabled else {}
    return {**kept, **count, **without, "OPENBLAS_CORETYPE": core}


def call(arguments: list[str], variables: dict[str, str], threads: int) -> tuple[int, str]:
    """Exit code and output of Python with these arguments, on so many cores."""
    command = [sys.executable, *arguments]
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))[:threads]
        pin = (
            f"import os, sys; os.sched_setaffinity(0, {cores}); os.execv(sys.argv[1], sys.argv[1:])"
        )
        command = [sys.executable, "-c", pin, *command]
    done = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def count(word: str, output: str) -> int:
    """The number before a word in pytest's last line."""
    found = re.findall(rf"(\d+) {word}", output)
    return int(found[-1]) if found else 0


def run(core: str, loops: str, threads: int, folders: list[str]) -> bool:
    """Print the row of a variation; whether all its tests passed."""
    _, plain = call(["-c", PROBE], environment(core, [], threads), threads)
    present = plain.split()
    disabled = [loop for loop in present[1:] if loop.startswith(LOOPS[loops])]
    began, variables = time.monotonic(), environment(core, disabled, threads)
    code, output = call(
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", *folders], variables, threads
    )
    passed, failed = count("passed", output), count("failed", output) + count("error", output)
    row = f"{core:9} {present[0]:9} {loops:11} {threads:7} {passed:7} {failed:7}"
    print(f"{row} {time.monotonic() - began:8.0f}", flush=True)
    if code:
        print(
            *re.findall(r"^(?:FAILED|ERROR) .*", output, re.MULTILINE) or [output[-2000:]], sep="\n"
        )
    return code == 0


def main() -> None:
    """Print the table; the exit code is 1 if a test has failed."""
    folders = sys.argv[1:] or FOLDERS
    print("kernel    runs on   loops       threads  passed  failed  seconds")
    sound = [run(*variation, folders) for variation in VARIATIONS]
    sys.exit(0 if all(sound) else 1)


if __name__ == "__main__":
    main()
