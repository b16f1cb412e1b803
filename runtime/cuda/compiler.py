"""The kernels of this folder, compiled by NVRTC for one GPU and one shape of model, and kept.

NVRTC is a library from the package index: no GPU takes part, no CUDA toolkit and no other compiler.
What it made lies in the user's cache folder under a name that says all it was made from.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import hashlib
import importlib
import importlib.metadata
import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from ...contract.documents import check, parse
from ...contract.errors import BackendMissing, ContractError, P2Error
from .. import cache, cuda_core

SOURCES = Path(__file__).parent / "kernels"
DECODER, NOISE = "decoder.cu", "noise.cu"

OLDEST = (7, 5)  # compute capability

# Where NVRTC is found besides its package: in a CUDA toolkit.
_TOOLKITS = ("CUDA_PATH", "CUDA_HOME")


@dataclass(frozen=True)
class Usage:
    """What a kernel takes, as the assembler says.

    Attributes:
        registers: of each thread.
        shared: bytes of shared memory of each block, besides what a launch asks for.
        spilled: bytes of each thread's registers that had to go to memory.
    """

    registers: int
    shared: int
    spilled: int


class _Usage(TypedDict):
    registers: int
    shared: int
    spilled: int


class _Head(TypedDict):
    sha256: str
    usage: dict[str, _Usage]


@dataclass(frozen=True)
class Cubin:
    """Compiled kernels.

    Attributes:
        code: what `gpu_device.Device.load` takes.
        usage: by the kernel's name.
    """

    code: bytes
    usage: dict[str, Usage]


def in_a_toolkit() -> bool:
    """Whether there is a CUDA toolkit, which has NVRTC. Loads no library."""
    return any(map(os.environ.get, _TOOLKITS)) or ctypes.util.find_library("nvrtc") is not None


def missing() -> str:
    """Why nothing can be compiled here, as a sentence with its remedy; empty if it can. Loads no library."""
    reason = cuda_core.missing()
    if reason or _distribution() or in_a_toolkit():
        return reason
    return f"compiling the decoder needs NVRTC, which is not installed here: pip install {_package()}"


def compiled(source: str, defines: Mapping[str, int], capability: tuple[int, int]) -> Cubin:
    """A source file of `SOURCES` for a GPU, from the cache where it is there.

    Args:
        source: `DECODER` or `NOISE`.
        defines: macros.
        capability: of the GPU.

    Raises:
        BackendMissing: NVRTC is not here, or does not know the GPU.
        P2Error: it does not take the source.
    """
    macros = sorted(defines.items())
    parts = [_version(), source, repr(macros), repr(capability)]
    for path in sorted(SOURCES.iterdir()):
        if path.suffix in (".cu", ".cuh"):
            parts += [path.name, path.read_text(encoding="utf-8")]
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    path = cache.folder() / "cuda" / f"{name}.cubin"
    kept = _unpack(cache.read_cache(path))
    if kept is None:
        kept = _compile(source, macros, capability)
        cache.write_cache(path, _pack(kept))
    return kept


def _pack(cubin: Cubin) -> bytes:
    """A line of JSON, and the code."""
    digest = hashlib.sha256(cubin.code).hexdigest()
    usage = {name: asdict(one) for name, one in cubin.usage.items()}
    return json.dumps({"sha256": digest, "usage": usage}).encode() + b"\n" + cubin.code


def _unpack(data: bytes) -> Cubin | None:
    """What `_pack` wrote; None if it is something else, or damaged."""
    head, _, code = data.partition(b"\n")
    with contextlib.suppress(ContractError):
        document: _Head = check(parse(head, "the cache"), _Head, "the cache")
        if document["sha256"] == hashlib.sha256(code).hexdigest():
            return Cubin(code, {name: Usage(**one) for name, one in document["usage"].items()})
    return None


def _compile(source: str, macros: list[tuple[str, int]], capability: tuple[int, int]) -> Cubin:
    architecture = _architecture(capability)
    core = importlib.import_module("cuda.core")
    options = core.ProgramOptions(
        name=source,
        arch=architecture,
        std="c++17",
        define_macro=[(name, str(value)) for name, value in macros] or None,
        include_path=[str(SOURCES)],
        fma=False,  # of its own accord: another compilation might choose otherwise, and a text would differ
        no_source_include=True,  # what lies in the working folder is none of ours
        ptxas_options=["-v"],
    )
    log = io.StringIO()
    try:
        program = core.Program((SOURCES / source).read_text(encoding="utf-8"), "c++", options)
        code = bytes(program.compile("cubin", logs=log).code)
    except Exception as error:  # its class is in no public module
        raise P2Error(
            f"NVRTC {_version()} does not compile {source} for {architecture} ({_first_error(str(error))}):"
            " please report it, with this line"
        ) from error
    return Cubin(code, _usage(log.getvalue()))


def _usage(log: str) -> dict[str, Usage]:
    """What ptxas -v says of each kernel."""
    found = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        name = part.partition("'")[0]
        number = {
            key: int(match[1]) if (match := re.search(pattern, part)) else 0
            for key, pattern in (
                ("registers", r"Used (\d+) registers"),
                ("shared", r"(\d+) bytes smem"),
                ("spilled", r"(\d+) bytes spill stores"),
            )
        }
        found[name] = Usage(**number)
    return found


def _first_error(log: str) -> str:
    """The first line of NVRTC's log that tells of an error."""
    lines = [" ".join(line.split()) for line in log.splitlines()]
    line = next((line for line in lines if "error:" in line), " ".join(lines))
    return line[:300].removesuffix(".")


def _architecture(capability: tuple[int, int]) -> str:
    """What to compile for: the GPU's own, or the newest of its family that NVRTC knows."""
    known = _ask("nvrtcGetSupportedArchs")[0]
    wanted = 10 * capability[0] + capability[1]
    able = [one for one in known if one // 10 == capability[0] and one <= wanted]
    if not able:
        raise BackendMissing(
            f"NVRTC {_version()} compiles for compute capability {_shown(min(known))} to"
            f" {_shown(max(known))}, not for {_shown(wanted)}: pip install --upgrade {_package()}"
        )
    return f"sm_{max(able)}"


def _shown(capability: int) -> str:
    return f"{capability // 10}.{capability % 10}"


def _package() -> str:
    """The package of NVRTC that fits cuda-bindings, which loads the library of its own CUDA version."""
    old = importlib.metadata.version("cuda-bindings").startswith("12.")
    return "nvidia-cuda-nvrtc-cu12" if old else "nvidia-cuda-nvrtc"


def _distribution() -> str | None:
    """The version of that package; None where it is not installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(_package())
    return None


def _version() -> str:
    return _distribution() or ".".join(map(str, _ask("nvrtcVersion")))


def _ask(call: str) -> Any:
    """What NVRTC answers to a call without arguments.

    Raises:
        BackendMissing: it does not load.
    """
    try:
        status, *answer = getattr(importlib.import_module("cuda.bindings.nvrtc"), call)()
        if int(status):
            raise RuntimeError(status.name)
    except Exception as error:  # those of the library that looks for it are in no public module
        reason = cuda_core.explain(error)
        raise BackendMissing(f"NVRTC does not load ({reason}): pip install {_package()}") from error
    return answer
