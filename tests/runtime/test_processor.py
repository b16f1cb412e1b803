"""What /proc/cpuinfo says, and what follows from it."""

from __future__ import annotations

import os
import platform

import pytest

from p2.runtime import processor

CPUINFO = """\
processor\t: 0
model name\t: Some Processor 9000
flags\t\t: fpu avx2 {flags}

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""


@pytest.fixture
def cpuinfo(monkeypatch, tmp_path):
    def write(flags: str) -> None:
        path = tmp_path / "cpuinfo"
        path.write_text(CPUINFO.format(flags=flags))
        monkeypatch.setattr(processor, "_CPUINFO", path)
        processor._cpuinfo.cache_clear()

    yield write
    processor._cpuinfo.cache_clear()


@pytest.mark.parametrize(
    ("machine", "flags", "answer"),
    [
        ("x86_64", "", True),
        ("x86_64", "avx512_vnni", False),
        ("AMD64", "avx_vnni", False),
        ("aarch64", "", False),
    ],
)
def test_eight_bit_products_saturate_on_x86_without_vnni(machine, flags, answer, cpuinfo, monkeypatch):
    cpuinfo(flags)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert processor.saturates() is answer


def test_the_name_is_the_first_processors(cpuinfo):
    cpuinfo("")
    assert processor.cpu_name() == "Some Processor 9000"


def test_an_arm_processor_is_told_from_others(monkeypatch, tmp_path):
    """Settings that were measured on one are not another's."""
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0c\n")
    monkeypatch.setattr(processor, "_CPUINFO", path)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    processor._cpuinfo.cache_clear()
    assert processor.cpu_name() == "aarch64 0x41:0xd0c"
    processor._cpuinfo.cache_clear()


def test_without_the_file_there_is_still_a_name(monkeypatch, tmp_path):
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "missing")
    processor._cpuinfo.cache_clear()
    assert processor.cpu_name() in (platform.processor(), platform.machine())
    processor._cpuinfo.cache_clear()


def test_processors_are_those_of_this_process():
    assert 1 <= processor.processors() <= (os.cpu_count() or 1)
