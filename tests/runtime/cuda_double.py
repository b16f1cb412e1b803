"""`cuda.core` in host memory: a GPU with one stream, whose classes have the names of the real ones.

It is stricter than the real thing: work waits until somebody synchronises, fresh memory is full of NaN, and
every access must lie inside one live allocation. While the stream is recorded nothing runs and nothing may
wait, allocate, free, or copy from or to the host; a graph keeps the addresses that it was recorded with.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

STREAM = 77

NOT_PERMITTED = (
    "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: This error indicates that the operation is not permitted when the"
    " stream is capturing."
)
ILLEGAL_ADDRESS = (
    "CUDA_ERROR_ILLEGAL_ADDRESS: While executing a kernel, the device encountered a load or store instruction"
    " on an invalid memory address. This leaves the process in an inconsistent state."
)
OUT_OF_MEMORY = (
    "CUDA_ERROR_OUT_OF_MEMORY: The API call failed because it was unable to allocate enough memory or other"
    " resources to perform the requested operation."
)


class CUDAError(Exception):
    """As cuda-core's own, which has this name in no public module."""


class FakeCuda:
    """The module `cuda.core`, and what a test may ask of its GPU.

    Attributes:
        memory: bytes that the GPU has.
        failing: what to raise instead of a call, by ``Class.method``.
        waits: how often somebody waited for the stream.
        launches: how many graphs were launched.
        streams, graphs: how many there are.
        recording: what has been recorded so far, while that goes on.
    """

    def __init__(self, memory: int = 1 << 28) -> None:
        self.memory = memory
        self.blocks: dict[int, tuple[np.ndarray, int]] = {}
        self.closed: set[int] = set()  # freed once the stream has come so far
        self.queue: list[Callable[[], None]] = []
        self.streams = self.graphs = self.waits = self.launches = 0
        self.failing: dict[str, str] = {}
        self.recording: list[Callable[[], None]] | None = None
        self.invalidated = False
        self.Device = functools.partial(Device, self)
        self.Buffer = type("Buffer", (), {"from_handle": functools.partial(Buffer, self)})

    def memory_info(self) -> tuple[int, int]:
        return self.memory - self.used(), self.memory

    def used(self) -> int:
        return sum(size for address, (_, size) in self.blocks.items() if address not in self.closed)

    def view(self, address: int, nbytes: int) -> np.ndarray:
        for start, (block, size) in self.blocks.items():
            if start <= address and address + nbytes <= start + size:
                offset = address - block.ctypes.data
                return block[offset : offset + nbytes]
        raise AssertionError(f"{nbytes} bytes at {address:#x} are not allocated")

    def on_device(self, address: int) -> bool:
        return any(start <= address < start + size for start, (_, size) in self.blocks.items())

    def enqueue(self, work: Callable[[], None]) -> None:
        (self.queue if self.recording is None else self.recording).append(work)

    def run_queue(self) -> None:
        waiting, self.queue = self.queue, []
        for work in waiting:
            work()

    def called(self, name: str, *, recordable: bool) -> None:
        """Every call begins here: fail if a test wants it, or if the stream is recorded."""
        if name in self.failing:
            raise CUDAError(self.failing[name])
        if self.recording is not None and not recordable:
            self.invalidated = True
            raise CUDAError(NOT_PERMITTED)


class Device:
    def __init__(self, cuda: FakeCuda, device_id: int | None = None) -> None:
        assert device_id == 0
        self._cuda = cuda

    def set_current(self) -> None:
        self._cuda.called("Device.set_current", recordable=False)

    def create_stream(self) -> Stream:
        self._cuda.called("Device.create_stream", recordable=False)
        return Stream(self._cuda)

    def allocate(self, size: int, *, stream: Stream) -> Buffer:
        cuda = self._cuda
        cuda.called("Device.allocate", recordable=False)
        if cuda.used() + size > cuda.memory:
            raise CUDAError(OUT_OF_MEMORY)
        block = np.full(size + 256, 0xFF, np.uint8)
        address = -(-block.ctypes.data // 256) * 256
        cuda.blocks[address] = (block, size)
        return Buffer(cuda, address, size)


class Buffer:
    """Memory of the GPU, or of the host, or a piece of either."""

    def __init__(self, cuda: FakeCuda, ptr: int, size: int, mr: None = None, owner: Any = None) -> None:
        self._cuda, self.handle, self.size, self.owner = cuda, ptr, size, owner

    def close(self) -> None:
        cuda, address = self._cuda, self.handle
        cuda.called("Buffer.close", recordable=False)
        assert address in cuda.blocks, "a piece, or memory of the host"
        assert address not in cuda.closed
        cuda.closed.add(address)

        def free() -> None:
            del cuda.blocks[address]
            cuda.closed.remove(address)

        cuda.enqueue(free)

    def copy_from(self, src: Buffer, *, stream: Stream) -> None:
        cuda, target, source, nbytes = self._cuda, self.handle, src.handle, self.size
        assert src.size == nbytes
        to_device, from_device = cuda.on_device(target), cuda.on_device(source)
        cuda.called("Buffer.copy_from", recordable=to_device and from_device)

        def copy() -> None:
            data = cuda.view(source, nbytes).tobytes() if from_device else ctypes.string_at(source, nbytes)
            if to_device:
                cuda.view(target, nbytes)[:] = np.frombuffer(data, np.uint8)
            else:
                ctypes.memmove(target, data, nbytes)

        cuda.enqueue(copy)

    def fill(self, value: int, *, stream: Stream) -> None:
        cuda, address, nbytes = self._cuda, self.handle, self.size
        cuda.called("Buffer.fill", recordable=True)

        def fill() -> None:
            cuda.view(address, nbytes)[:] = value

        cuda.enqueue(fill)


class Handle:
    """What `Stream.handle` is: no number, but one can be made of it."""

    def __int__(self) -> int:
        return STREAM


class Stream:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self.handle = Handle()
        cuda.streams += 1

    def close(self) -> None:
        self._cuda.called("Stream.close", recordable=False)
        self._cuda.streams -= 1

    def sync(self) -> None:
        self._cuda.called("Stream.sync", recordable=False)
        self._cuda.waits += 1
        self._cuda.run_queue()

    def create_graph_builder(self) -> GraphBuilder:
        self._cuda.called("Stream.create_graph_builder", recordable=False)
        return GraphBuilder(self._cuda)


class GraphBuilder:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self._recorded: list[Callable[[], None]] = []

    def begin_building(self, mode: str = "relaxed") -> GraphBuilder:
        assert mode == "thread_local"
        self._cuda.called("GraphBuilder.begin_building", recordable=False)
        self._cuda.recording, self._cuda.invalidated = self._recorded, False
        return self

    def end_building(self) -> GraphBuilder:
        self._cuda.called("GraphBuilder.end_building", recordable=True)
        if self._cuda.invalidated:
            raise RuntimeError("Build process encountered an error and has been invalidated.")
        self._cuda.recording = None
        return self

    def complete(self) -> Graph:
        self._cuda.called("GraphBuilder.complete", recordable=False)
        return Graph(self._cuda, self._recorded)

    def close(self) -> None:
        if self._cuda.recording is self._recorded:
            self._cuda.recording = None
            if self._cuda.invalidated:
                raise CUDAError("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED: It has been invalidated.")


class Graph:
    def __init__(self, cuda: FakeCuda, recorded: list[Callable[[], None]]) -> None:
        self._cuda, self._recorded = cuda, recorded
        cuda.graphs += 1

    def launch(self, stream: Stream) -> None:
        self._cuda.called("Graph.launch", recordable=True)
        self._cuda.launches += 1
        for work in self._recorded:
            self._cuda.enqueue(work)

    def close(self) -> None:
        self._cuda.called("Graph.close", recordable=False)
        self._cuda.graphs -= 1
