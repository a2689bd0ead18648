import platform
import subprocess
import sys

import pytest

from sharpzo import memory
from sharpzo.errors import InputError


@pytest.mark.parametrize(
    ("size", "bytes_"),
    [
        ("600MB", 600_000_000),
        ("600mb", 600_000_000),
        (" 1.5 GB ", 1_500_000_000),
        ("512MiB", 512 * 2**20),
        ("1GiB", 2**30),
        ("64kB", 64_000),
        ("123456", 123456),
        (123456, 123456),
    ],
)
def test_sizes(size, bytes_):
    assert memory.parse_size(size) == bytes_


@pytest.mark.parametrize("size", ["", "much", "MB", "-5MB", "0", "0.1", "5 MB MB", "1e9", "5TB"])
def test_nonsense_is_one_sentence_with_the_value(size):
    with pytest.raises(InputError, match="write it like 600MB") as found:
        memory.parse_size(size)
    assert repr(size) in str(found.value)


@pytest.mark.skipif(memory.resident() is None, reason="the system hides it")
def test_a_child_is_added_to_what_this_process_had_while_it_ran():
    code = """
from sharpzo import memory
big = bytearray(200_000_000)
del big
memory.watch_anew()
memory.add_child(50_000_000)
print(memory.peak_memory_mb(), memory.peak() / 1e6)
memory.add_child(500_000_000)
print(memory.peak_memory_mb(), memory.peak() / 1e6)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    first, _, second, own = map(float, done)
    assert first > 200  # its own past, when no child ran, is a peak of its own
    assert second == pytest.approx(500 + own, abs=5)


@pytest.mark.skipif(memory.resident() is None, reason="the system hides it")
def test_interpreters_that_are_measured_for_a_plan_count():
    code = """
from sharpzo import memory
from sharpzo.towers.lowmem.plan import _measure
now, most = _measure("json")
print(memory.peak_memory_mb() * memory.MB - memory.resident() - most, memory.MB)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert -float(done[1]) <= float(done[0])


@pytest.mark.skipif(memory.resident() is None, reason="the system hides it")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_blocks_of_a_thread_go_back():
    code = """
from threading import Thread
from sharpzo.memory import map_large_blocks, resident, trim
map_large_blocks()
trim()
before = resident()
def work():
    for _ in range(3):
        bytearray(b"1") * (16 << 20)
thread = Thread(target=work)
thread.start()
thread.join()
trim()
print(resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8 << 20
