"""`cuda.core` in host memory: a GPU with one stream, whose classes have the names of the real ones.

It is stricter than the real thing: work waits until somebody synchronises, fresh memory is full of NaN, and
every access must lie inside one live allocation. While the stream is recorded nothing runs and nothing may
wait, allocate, free, or copy from or to the host; a graph keeps the addresses that it was recorded with.
Kernels are functions on host memory.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import types
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


INVALID_VALUE = (
    "CUDA_ERROR_INVALID_VALUE: This indicates that one or more of the parameters passed to the API call is"
    " not within an acceptable range of values."
)
TOO_LARGE = (
    "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE: This error indicates that the number of blocks launched per"
    " grid for a kernel that was launched cooperatively exceeds the maximum number of blocks."
)
SHARED_BYTES = 48 << 10  # that a kernel has without asking

# What runs as a kernel: blocks, threads, bytes of shared memory, the kernel's arguments.
Function = Callable[[int, int, int, tuple[Any, ...]], None]


NO_CONTEXT = (
    "CUDA_ERROR_INVALID_CONTEXT: This most frequently indicates that there is no context bound to the current"
    " thread."
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
        ran: the configuration of every kernel that was launched.
        load: what a cubin holds, by its bytes: functions by name.
        driver: as the module `cuda.bindings.driver`.
        streams, graphs: how many there are.
        recording: what has been recorded so far, while that goes on.
    """

    def __init__(
        self, memory: int = 1 << 28, load: Callable[[bytes], dict[str, Function]] = lambda _: {}
    ) -> None:
        self.memory = memory
        self.thread = threading.local()
        self.load = load
        self.ran: list[LaunchConfig] = []
        self.allowed: dict[int, dict[str, int]] = {}  # by kernel
        self.capability, self.multiprocessors, self.shared_bytes = (9, 0), 4, 227 << 10
        self.driver = Driver(self)
        self.blocks: dict[int, tuple[np.ndarray, int]] = {}
        self.closed: set[int] = set()  # freed once the stream has come so far
        self.queue: list[Callable[[], None]] = []
        self.streams = self.graphs = self.waits = self.launches = 0
        self.failing: dict[str, str] = {}
        self.recording: list[Callable[[], None]] | None = None
        self.invalidated = False
        self.Device = functools.partial(Device, self)
        self.Buffer = type("Buffer", (), {"from_handle": functools.partial(Buffer, self)})
        self.ObjectCode = type("ObjectCode", (), {"from_cubin": functools.partial(ObjectCode, self)})
        self.LegacyPinnedMemoryResource = functools.partial(LegacyPinnedMemoryResource, self)
        self.LaunchConfig = LaunchConfig
        self.launch = functools.partial(launch, self)

    def fresh(self, size: int) -> tuple[int, np.ndarray]:
        """New memory: its address, a multiple of 256, and an array that it lies in."""
        block = np.full(size + 256, 0xFF, np.uint8)
        return -(-block.ctypes.data // 256) * 256, block

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
        if name == "Device.set_current":
            self.thread.ready = True
        if not getattr(self.thread, "ready", False):
            raise CUDAError(NO_CONTEXT)
        if self.recording is not None and not recordable:
            self.invalidated = True
            raise CUDAError(NOT_PERMITTED)


class Device:
    def __init__(self, cuda: FakeCuda, device_id: int | None = None) -> None:
        assert device_id == 0
        self._cuda = cuda

    @property
    def name(self) -> str:
        return "NVIDIA Double"

    @property
    def properties(self) -> Any:
        self._cuda.called("Device.properties", recordable=True)
        major, minor = self._cuda.capability
        return types.SimpleNamespace(
            compute_capability_major=major,
            compute_capability_minor=minor,
            multiprocessor_count=self._cuda.multiprocessors,
            max_shared_memory_per_block_optin=self._cuda.shared_bytes,
            l2_cache_size=1 << 20,
            cooperative_launch=True,
            cluster_launch=major >= 9,
        )

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
        address, block = cuda.fresh(size)
        cuda.blocks[address] = (block, size)
        return Buffer(cuda, address, size)


class Buffer:
    """Memory of the GPU, or of the host, or a piece of either."""

    def __init__(self, cuda: FakeCuda, ptr: int, size: int, mr: None = None, owner: Any = None) -> None:
        self._cuda, self.handle, self.size, self.owner = cuda, ptr, size, owner

    def close(self) -> None:
        cuda, address = self._cuda, self.handle
        cuda.called("Buffer.close", recordable=False)
        if isinstance(self.owner, ctypes.Array):  # pinned
            self.owner = None
            return
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


class LegacyPinnedMemoryResource:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda

    def allocate(self, size: int, *, stream: Stream | None = None) -> Buffer:
        self._cuda.called("LegacyPinnedMemoryResource.allocate", recordable=False)
        block = (ctypes.c_char * size)(*b"\xff" * size)
        return Buffer(self._cuda, ctypes.addressof(block), size, owner=block)


class ObjectCode:
    def __init__(self, cuda: FakeCuda, module: bytes) -> None:
        self._cuda, self._functions = cuda, cuda.load(module)
        cuda.called("ObjectCode.from_cubin", recordable=False)

    def get_kernel(self, name: str) -> Kernel:
        if name not in self._functions:
            raise CUDAError("CUDA_ERROR_NOT_FOUND: This indicates that a named symbol was not found.")
        return Kernel(self._cuda, self._functions[name])


class Kernel:
    """A kernel that runs as a function; a block has all the registers of a multiprocessor."""

    def __init__(self, cuda: FakeCuda, function: Function) -> None:
        self.cuda, self.function = cuda, function
        self.handle = id(self)
        self.attributes = types.SimpleNamespace(num_regs=40, local_size_bytes=0)
        self.occupancy = Occupancy(self)

    def check(self, shmem_size: int) -> None:
        allowed = self.cuda.allowed.get(self.handle, {})
        if shmem_size > max(SHARED_BYTES, allowed.get("CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES", 0)):
            raise CUDAError(INVALID_VALUE)


class Occupancy:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def max_active_blocks_per_multiprocessor(self, block_size: int, dynamic_shared_memory_size: int) -> int:
        self._kernel.cuda.called("Occupancy.max_active_blocks_per_multiprocessor", recordable=False)
        self._kernel.check(dynamic_shared_memory_size)
        return 1

    def max_active_clusters(self, config: LaunchConfig, *, stream: Stream) -> int:
        self._kernel.check(config.shmem_size)
        return self._kernel.cuda.multiprocessors // config.cluster


class LaunchConfig:
    def __init__(
        self,
        grid: int,
        cluster: int = 0,
        block: int = 1,
        shmem_size: int = 0,
        is_cooperative: bool = False,
    ) -> None:
        self.grid, self.cluster, self.block = grid, cluster, block
        self.shmem_size, self.is_cooperative = shmem_size, is_cooperative


def launch(cuda: FakeCuda, stream: Stream, config: LaunchConfig, kernel: Kernel, *kernel_args: Any) -> None:
    cuda.called("launch", recordable=True)
    kernel.check(config.shmem_size)
    if config.is_cooperative and config.grid > cuda.multiprocessors:
        raise CUDAError(TOO_LARGE)
    cuda.ran.append(config)
    cuda.enqueue(lambda: kernel.function(config.grid, config.block, config.shmem_size, kernel_args))


class Driver:
    """The calls of `cuda.bindings.driver` that cuda-core does not have: results come back as numbers."""

    class CUfunction_attribute:  # noqa: N801 - NVIDIA's name
        CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES"
        CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED = (
            "CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED"
        )

    class Result(int):
        @property
        def name(self) -> str:
            return "CUDA_ERROR_INVALID_VALUE" if self else "CUDA_SUCCESS"

    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self.CUkernel = self.CUdevice = int

    def cuKernelSetAttribute(self, attrib: str, val: int, kernel: int, dev: int) -> tuple[Driver.Result]:
        assert dev == 0
        shared = attrib.endswith("SHARED_SIZE_BYTES")
        if "cuKernelSetAttribute" in self._cuda.failing or (shared and val > self._cuda.shared_bytes):
            return (self.Result(1),)
        self._cuda.allowed.setdefault(kernel, {})[attrib] = val
        return (self.Result(0),)
