"""Run a command that dies of its first network socket: ``python offline.py COMMAND...`` (Linux).

A filter of system calls ends the process, with the signal SIGSYS, where it makes a socket that is
not a local one (AF_UNIX). Threads, child processes and native code are bound by it as well, and no
privilege is needed.
"""

import ctypes
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

SOCKET = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}  # architecture, system call
AF_UNIX = 1
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2  # of prctl
ALLOW, KILL = 0x7FFF0000, 0x80000000
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # of a word, with a constant


class Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("then", ctypes.c_uint8),
        ("otherwise", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(Instruction)))


def forbid_sockets() -> None:
    """Bind this process and all that it starts."""
    architecture, call = SOCKET[platform.machine()]
    listing = [
        (LOAD, 0, 0, 4), (EQUAL, 0, 5, architecture),  # another one: allowed
        (LOAD, 0, 0, 0), (EQUAL, 0, 3, call),
        (LOAD, 0, 0, 16), (EQUAL, 1, 0, AF_UNIX),  # the first argument
        (RETURN, 0, 0, KILL),
        (RETURN, 0, 0, ALLOW),
    ]  # fmt: skip
    instructions = (Instruction * len(listing))(*listing)
    program = Program(len(listing), instructions)
    library = ctypes.CDLL(None, use_errno=True)
    for arguments in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SECCOMP, FILTER, ctypes.byref(program))):
        if library.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "this kernel filters no system calls")


def run(command: list[str], **options) -> subprocess.CompletedProcess:
    """Run a command under the filter; a network socket ends it with return code -SIGSYS."""
    guarded = [sys.executable, str(Path(__file__)), *command]
    return subprocess.run(guarded, capture_output=True, text=True, check=False, **options)


OPENED = -getattr(signal, "SIGSYS", 31)


def can_filter() -> bool:
    """Whether this machine has such filters."""
    return (
        sys.platform == "linux"
        and platform.machine() in SOCKET
        and run([sys.executable, "-c", ""]).returncode == 0
    )


if __name__ == "__main__":
    forbid_sockets()
    os.execvp(sys.argv[1], sys.argv[1:])
