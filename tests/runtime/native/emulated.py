"""The compiled decoder on a processor that is emulated: a library as `binding` wants it, behind qemu.

The C files are compiled for that processor with `emulated.c` as their main program. Every call hands it all
the memory that the call's structures point to, whose sizes are those that types.h states, and takes back what
the call may change. So engines run on it as on the real one.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from p2.runtime import native
from p2.runtime.native import binding
from p2.runtime.native.binding import Job, Layer, Model, Product

FOLDER = Path(native.__file__).parent
SOURCES = sorted(FOLDER.rglob("*.c"))
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
FLAGS = ["-O3", "-pthread", "-Wall", "-Wextra", "-Werror"]
NEEDED = "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"  # Debian's names

LAYOUT, LEVEL, THERE, USE, DECODE, FEED, NOISE = range(7)
LINE = 64


def missing() -> str | None:
    """What this machine lacks for it; None if nothing."""
    if not SOURCES:
        return "p2 was installed without its C files"
    if shutil.which(COMPILER) and shutil.which(EMULATOR):
        return None
    return f"there is no compiler for Arm here, or no emulator: apt-get install {NEEDED}"


def compiled(cache: Path) -> Path:
    """The program, as the compiler made it of these files once; a warning is an error.

    Args:
        cache: folder where it is kept; several processes may use it at once, and one of them compiles.
    """
    own = Path(__file__).with_suffix(".c")
    digest = hashlib.sha256(repr(FLAGS).encode())
    for path in sorted([*FOLDER.rglob("*.[ch]"), own]):
        digest.update(str(path.relative_to(FOLDER.anchor)).encode() + path.read_bytes())
    program = cache / f"decoder-{digest.hexdigest()[:32]}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            for old in cache.glob("decoder-*"):
                old.unlink()
            _compile([*SOURCES, own], program)
    return program


def _compile(sources: list[Path], program: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = [str(Path(folder) / f"{number}.o") for number in range(len(sources))]
        commands = [
            [COMPILER, *FLAGS, f"-I{FOLDER}", "-c", str(source), "-o", made]
            for source, made in zip(sources, objects, strict=True)
        ]
        for done in pool.map(
            lambda command: subprocess.run(command, capture_output=True, text=True), commands
        ):
            assert done.returncode == 0, done.stderr
        made = Path(folder) / program.name
        subprocess.run([COMPILER, "-static", "-pthread", *objects, "-o", str(made), "-lm"], check=True)
        shutil.move(made, program)


class Memory:
    """What a call is handed: bytes, and where among them addresses lie."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self.addresses: list[int] = []

    def put(self, data: bytes) -> int:
        """Where they begin from now on."""
        self.bytes += bytes(-len(self.bytes) % LINE)
        start = len(self.bytes)
        self.bytes += data
        return start

    def point(self, at: int, to: int) -> None:
        struct.pack_into("<Q", self.bytes, at, to)
        self.addresses.append(at)

    def copy(self, address: int | None, at: int, size: int) -> None:
        """What lies at an address of this process, for the pointer at `at`."""
        if address and size:
            self.point(at, self.put(ctypes.string_at(address, size)))


class Emulated:
    """A library as `binding.library` returns it.

    Args:
        program: of `compiled`.
        processor: as qemu calls it.
    """

    def __init__(self, program: Path, processor: str) -> None:
        command = [EMULATOR, "-cpu", processor, str(program)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(10) == 0

    def p2_layout(self) -> int:
        return self._call(LAYOUT, Memory())[0]

    def p2_level(self, number: int) -> bytes | None:
        memory = Memory()
        memory.put(struct.pack("<q24x", number))
        found, name = self._call(LEVEL, memory, 8)
        return name.rstrip(b"\0") if found else None

    def p2_there(self, number: int) -> int:
        return self._level(THERE, number)

    def p2_use(self, number: int) -> None:
        self._level(USE, number)

    def p2_decode(self, model: Any, job: Any) -> int:
        return self._work(DECODE, model._obj, job._obj)

    def p2_feed(self, model: Any, job: Any) -> int:
        return self._work(FEED, model._obj, job._obj)

    def p2_approximate_noise(self, words: Any, count: int, noise: Any) -> None:
        memory = Memory()
        memory.put(struct.pack("<3q", 0, 0, count))
        memory.point(0, memory.put(words.tobytes()))
        changed = memory.put(bytes(noise.nbytes))
        memory.point(8, changed)
        noise[:] = np.frombuffer(self._call(NOISE, memory, changed)[1], np.float32)

    def _level(self, what: int, number: int) -> int:
        memory = Memory()
        memory.put(struct.pack("<q", number))
        return self._call(what, memory)[0]

    def _work(self, what: int, model: Model, job: Job) -> int:
        memory = Memory()
        memory.put(bytes(16))
        memory.point(0, put_model(memory, model))
        start = memory.put(bytes(job))
        memory.point(8, start)
        reads, changes = sizes(what, model, job)
        for name, size in reads.items():
            memory.copy(getattr(job, name), start + getattr(Job, name).offset, size)
        changed = memory.put(b"")
        places = {}
        for name, size in changes.items():
            places[name] = memory.put(b"") - changed
            memory.copy(getattr(job, name), start + getattr(Job, name).offset, size)
        said, data = self._call(what, memory, changed)
        for name, size in changes.items():
            if getattr(job, name):
                ctypes.memmove(getattr(job, name), data[places[name] : places[name] + size], size)
        return said

    def _call(self, what: int, memory: Memory, changed: int | None = None) -> tuple[int, bytes]:
        pipe, answers = self._process.stdin, self._process.stdout
        assert pipe is not None
        assert answers is not None
        size = len(memory.bytes)
        changed = size if changed is None else changed
        pipe.write(struct.pack("<4Q", what, size, len(memory.addresses), changed))
        pipe.write(memory.bytes)
        pipe.write(struct.pack(f"<{len(memory.addresses)}Q", *memory.addresses))
        pipe.flush()
        said, data = answers.read(8), answers.read(size - changed)
        assert len(said) == 8, f"the program ended with {self._process.wait(10)}"
        assert len(data) == size - changed
        return struct.unpack("<q", said)[0], data


def sizes(what: int, model: Model, job: Job) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of what a job points to: what is read only, and what may change (types.h)."""
    texts, characters = job.batch, job.batch * job.count
    state = 4 * model.layers * texts * model.width
    if what == FEED:
        return {"tokens": 8 * characters}, {
            "states": state,
            "cells": state,
            "logits": 4 * characters * model.vocab,
        }
    return {"noise": 4 * characters * model.vocab, "choosing": texts * binding.CHOOSING.itemsize}, {
        "states": state,
        "cells": state,
        "tokens": 8 * texts,
        "written": 8 * characters,
    }


def put_model(memory: Memory, model: Model) -> int:
    """Where a model lies in a call's memory, with all that it points to."""
    form = {number: name for name, number in binding.CELLS.items()}[model.cell]
    panels = model.width // {"rnn": 64, "gru-before": 32}.get(form, 16)
    candidates = model.width // 64
    start = memory.put(bytes(model))
    layers = memory.put(b"".join(bytes(model.layer[number]) for number in range(model.layers)))
    memory.point(start + Model.layer.offset, layers)
    for number in range(model.layers):
        layer, at = model.layer[number], layers + number * ctypes.sizeof(Layer)
        for name, count in (("x", panels), ("h", panels)):
            put_product(memory, getattr(layer, name), at + getattr(Layer, name).offset, count)
            other = f"candidate_{name}"
            put_product(memory, getattr(layer, other), at + getattr(Layer, other).offset, candidates)
        rows = 1 if number else model.vocab
        memory.copy(layer.bias, at + Layer.bias.offset, 4 * rows * panels * 64)
        memory.copy(layer.candidate_bias, at + Layer.candidate_bias.offset, 4 * rows * candidates * 64)
    put_product(memory, model.out, start + Model.out.offset, model.vocab_width // 64)
    memory.copy(model.out_bias, start + Model.out_bias.offset, 4 * model.vocab_width)
    return start


def put_product(memory: Memory, product: Product, at: int, panels: int) -> None:
    """The arrays of a matrix whose structure lies at `at`."""
    outputs, kind = panels * product.vectors * 16, product.kind
    numbers = outputs * product.rows
    width = {binding.FLOATS: 8, binding.INT8: 2, binding.INT4: 1}.get(kind, 4)  # nibbles
    blocks = product.rows // product.block if kind == binding.INT4 else 1
    for name, size in {
        "weights": numbers * width // 2,
        "scales": 4 * blocks * outputs,
        "start": 4 * outputs,
    }.items():
        memory.copy(getattr(product, name), at + getattr(Product, name).offset, size)
