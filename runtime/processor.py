"""What the processor is, as far as running engines depends on it."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's own name; `platform.processor` is empty on most Linux systems.

    An Arm processor says numbers: who makes it, and which of theirs it is.
    """
    if name := _cpuinfo("model name"):
        return name
    machine, part = platform.machine(), _cpuinfo("CPU part")
    return f"{machine} {_cpuinfo('CPU implementer')}:{part}" if part else platform.processor() or machine


def saturates() -> bool:
    """Whether 8-bit products may overflow: x86 without VNNI adds pairs of them in 16 bits.

    Where the system does not tell, the answer is yes for every x86 processor.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return False
    flags = _cpuinfo("flags").split()
    return not {"avx512_vnni", "avx_vnni"} & set(flags)


@functools.cache
def _cpuinfo(field: str) -> str:
    """The first processor's value of a field, from Linux; empty elsewhere."""
    try:
        lines = _CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == field), "")
