"""What /proc and control groups say, from files as several systems write them."""

import pytest

from sharpzo import machine

MB = 10**6
PI5 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc asimddp
CPU implementer\t: 0x41
"""
LAPTOP = "vendor_id\t: GenuineIntel\nflags\t\t: fpu sse2 ssse3 sse4_1 avx f16c\nbugs\t\t: mds\n"
SERVER = "flags\t\t: avx2 avx512f avx512_bf16 amx_bf16 amx_tile avx_vnni\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PI5, ("NEON", "dot product")),
        (LAPTOP, ()),
        (SERVER, ("AVX2", "AVX-512", "VNNI", "bfloat16", "AMX")),
        ("processor\t: 0\n", None),
    ],
)
def test_instructions(monkeypatch, tmp_path, text, expected):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    assert machine.instructions() == expected


def test_a_system_that_says_nothing(monkeypatch, tmp_path):
    for name in ("_CPUINFO", "_MEMINFO", "_OWN_GROUP"):
        monkeypatch.setattr(machine, name, tmp_path / "none")
    monkeypatch.setattr(machine.sys, "platform", "win32")
    monkeypatch.setattr(machine.os, "sysconf_names", {}, raising=False)
    assert machine.instructions() is None
    assert machine.memory() == machine.Memory(None, None, None)
    assert machine.memory().room is None


@pytest.mark.parametrize("version", [1, 2])
def test_the_least_limit_of_a_group_and_those_above_it(monkeypatch, tmp_path, version):
    """A systemd unit below a slice with a tighter limit, in both versions of control groups."""
    name = {1: "memory.limit_in_bytes", 2: "memory.max"}[version]
    none = {1: "9223372036854771712", 2: "max"}[version]
    line = {1: "4:cpu,memory:/a.slice/b.service\n0::/x\n", 2: "0::/a.slice/b.service\n"}[version]
    root = tmp_path / "groups" / ("memory" if version == 1 else "")
    (root / "a.slice" / "b.service").mkdir(parents=True)
    (root / "a.slice" / "b.service" / name).write_text("400000000\n")
    (root / "a.slice" / name).write_text("300000000\n")
    (root / name).write_text(none)
    (tmp_path / "own").write_text(line)
    (tmp_path / "meminfo").write_text("MemTotal:  1000000 kB\nMemAvailable:  500000 kB\n")
    monkeypatch.setattr(machine, "_OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "meminfo")
    found = machine.memory()
    assert found == machine.Memory(1_024_000_000, 512_000_000, 300 * MB)
    assert found.room == 300 * MB
    (root / "a.slice" / name).write_text(none)
    assert machine.memory().limit == 400 * MB
