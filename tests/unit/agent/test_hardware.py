"""Processor and memory from what Linux says of them. The whole reading is tested in tests/contract/agent."""

from __future__ import annotations

from intertie.agent.hardware import from_cpuinfo, from_meminfo

X86 = """\
processor\t: 0
model name\t: AMD Ryzen 9   7950X 16-Core Processor
physical id\t: 0
core id\t\t: 0

processor\t: 1
model name\t: AMD Ryzen 9   7950X 16-Core Processor
physical id\t: 0
core id\t\t: 1

processor\t: 2
model name\t: AMD Ryzen 9   7950X 16-Core Processor
physical id\t: 0
core id\t\t: 0
"""
ARM = """\
processor\t: 0
BogoMIPS\t: 108.00
CPU part\t: 0xd0b

Revision\t: d04170
Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""


def test_threads_of_one_core_are_one_core() -> None:
    assert from_cpuinfo(X86) == ("AMD Ryzen 9 7950X 16-Core Processor", 2)


def test_a_board_names_itself() -> None:
    assert from_cpuinfo(ARM) == ("Raspberry Pi 5 Model B Rev 1.0", None)
    assert from_cpuinfo("") == ("", None)


def test_memory_is_what_a_container_may_use_of_it() -> None:
    text = "MemTotal:       65536000 kB\nMemFree:          123456 kB\n"

    assert from_meminfo(text, "max\n") == 65536000 * 1024
    assert from_meminfo(text, "8589934592\n") == 8 << 30
    assert from_meminfo(text, "") == 65536000 * 1024
    assert from_meminfo("", "8589934592") is None
