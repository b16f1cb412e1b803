"""What p2 asks of CUDA, and no more: memory, copies, one stream, graphs and kernels; through cuda-core.

Every call there raises when it fails; here each failure becomes one sentence.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.errors import P2Error
from . import cuda_core, nvidia

_MIB = 1 << 20


@dataclass(frozen=True)
class Properties:
    """What a GPU has.

    Attributes:
        name: its name.
        capability: its compute capability.
        multiprocessors: how many there are.
        shared_bytes: shared memory that one block of threads can have at most.
        l2_bytes: size of the cache before the memory.
        cooperative: whether all blocks of a launch can wait for one another.
        clusters: whether blocks can be launched in clusters.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    shared_bytes: int
    l2_bytes: int
    cooperative: bool
    clusters: bool


@dataclass(frozen=True)
class Kernel:
    """A kernel on the device.

    Attributes:
        name: in the source.
        registers: of each thread.
        local_bytes: of each thread, for what did not fit into registers or is indexed.
        handle: cuda-core's object.
    """

    name: str
    registers: int
    local_bytes: int
    handle: Any


class Device:
    """The first visible GPU with one stream of work; copies and kernels run in the order given.

    Addresses are plain integers. What is uploaded is kept alive until the next `synchronize`.

    Attributes:
        stream: the stream's handle, as TensorRT takes it.

    Raises (every method):
        P2Error: a CUDA call failed, e.g. the GPU is out of memory.
    """

    def __init__(
        self,
        core: Any = None,
        memory: Callable[[], tuple[int, int] | None] = nvidia.memory,
        driver: Any = None,
    ) -> None:
        """Open the device.

        Args:
            core: the module `cuda.core`, loaded unless given.
            memory: free and total bytes on the GPU, or None: cuda-core does not tell.
            driver: the module `cuda.bindings.driver`, loaded when it is needed unless given.

        Raises:
            BackendMissing: there is no GPU, or cuda-core is not installed or too new for the driver.
        """
        self._core = core if core is not None else cuda_core.load()
        self._memory = memory
        self._driver = driver
        self._live: dict[int, Any] = {}
        self._pinned: dict[int, Any] = {}
        self._uploading: list[Any] = []
        self._graphs: dict[int, Any] = {}
        self._numbers = 0  # of graphs so far
        self._stream: Any = None
        self._recording = False
        self._late: list[Any] = []  # to be given back when the recording is over
        self._thread = threading.local()  # whether the GPU is current in it
        with self._doing("open the GPU"):
            self._device = self._core.Device(0)
        with self._doing("create a stream"):
            # Not the default stream: nothing can be captured into a graph from that one.
            self._stream = self._device.create_stream()
        self.stream = int(self._stream.handle)

    @property
    def allocated(self) -> int:
        """Bytes that are allocated now."""
        return sum(buffer.size for buffer in self._live.values())

    def allocate(self, nbytes: int) -> int:
        """Reserve memory and return its address, a multiple of `nvidia.ALIGNMENT`."""
        if self._recording:
            raise P2Error("the GPU could not allocate memory: a graph is being recorded")
        with self._doing("allocate memory", nbytes):
            buffer = self._device.allocate(nbytes, stream=self._stream)
        self._live[int(buffer.handle)] = buffer
        return int(buffer.handle)

    @property
    def properties(self) -> Properties:
        """What the GPU has."""
        with self._doing("tell what it has"):
            found = self._device.properties
            return Properties(
                str(self._device.name),
                (found.compute_capability_major, found.compute_capability_minor),
                found.multiprocessor_count,
                found.max_shared_memory_per_block_optin,
                found.l2_cache_size,
                bool(found.cooperative_launch),
                bool(found.cluster_launch),
            )

    def require(self, nbytes: int) -> None:
        """Make sure that so much memory is free before a library asks for it, which may end the process."""
        memory = self._memory()
        if memory is not None and memory[0] < nbytes:
            raise self._out_of_memory(nbytes)

    def free(self, address: int) -> None:
        """Give memory back, in the order of the stream; does nothing after `close`."""
        buffer = self._live.pop(address, None)
        if buffer is None:
            return
        if self._recording:  # the garbage collector may come at any time, and a graph would free it again
            self._late.append(buffer)
            return
        with self._doing("free memory"):
            buffer.close()

    def upload(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy a C-contiguous array to the device, in the order of the stream."""
        source = self._core.Buffer.from_handle(array.ctypes.data, array.nbytes, owner=array)
        self._uploading.append(source)
        with self._doing("copy to the GPU"):
            self._view(address, array.nbytes).copy_from(source, stream=self._stream)

    def download(self, array: npt.NDArray[Any], address: int) -> None:
        """Fill a C-contiguous array from the device; returns when it is there."""
        target = self._core.Buffer.from_handle(array.ctypes.data, array.nbytes, owner=array)
        with self._doing("copy from the GPU"):
            target.copy_from(self._view(address, array.nbytes), stream=self._stream)
        self.synchronize()

    def pin(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A new array in memory of the host that the GPU reads by itself: uploads from it wait for nothing.

        Its contents are undefined. What is uploaded from it must be there (`synchronize`) before it changes.
        """
        kind, count = np.dtype(dtype), math.prod(shape)
        nbytes = max(1, count * kind.itemsize)
        with self._doing("pin memory of the host"):
            buffer = self._core.LegacyPinnedMemoryResource().allocate(nbytes)
        address = int(buffer.handle)
        self._pinned[address] = buffer
        raw = memoryview((ctypes.c_char * nbytes).from_address(address))
        array: npt.NDArray[Any] = np.frombuffer(raw, kind, count).reshape(shape)
        return array

    def unpin(self, array: npt.NDArray[Any]) -> None:
        """Give an array of `pin` back, once the stream has done everything; does nothing after `close`."""
        buffer = self._pinned.pop(array.ctypes.data, None)
        if buffer is not None:
            self.synchronize()
            with self._doing("free memory of the host"):
                buffer.close()

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy on the device, in the order of the stream."""
        with self._doing("copy on the GPU"):
            self._view(target, nbytes).copy_from(self._view(source, nbytes), stream=self._stream)

    def zero(self, address: int, nbytes: int) -> None:
        """Set memory to zero bytes, in the order of the stream."""
        with self._doing("clear memory"):
            self._view(address, nbytes).fill(0, stream=self._stream)

    def synchronize(self) -> None:
        """Wait until the stream has done everything."""
        with self._doing("finish its work"):
            self._stream.sync()
        self._uploading.clear()

    def capture(self, enqueue: Callable[[], object]) -> int:
        """Record what `enqueue` puts into the stream, without running it; a number for `launch`.

        All addresses are frozen. Nothing may be allocated, uploaded, downloaded or waited for inside.
        """
        with self._doing("begin to record a graph"):
            builder = self._stream.create_graph_builder()
            # Thread-local: TensorRT-RTX compiles kernels on threads of its own, which may go on.
            builder.begin_building(mode="thread_local")
        self._recording = True
        try:
            enqueue()
            with self._doing("record a graph"):
                builder.end_building()
            with self._doing("prepare a graph"):
                graph = builder.complete()
        finally:
            self._recording = False
            # After a failure this ends the recording, so that the stream works again, and says once
            # more that it failed.
            with contextlib.suppress(Exception):
                builder.close()
            late, self._late = self._late, []
            for buffer in late:
                buffer.close()
        self._numbers += 1
        self._graphs[self._numbers] = graph
        return self._numbers

    def launch(self, graph: int) -> None:
        """Run a recorded graph once, in the order of the stream."""
        with self._doing("launch a graph"):
            self._graphs[graph].launch(self._stream)

    def forget(self, graph: int) -> None:
        """Give a recorded graph back, once the stream has done it; does nothing after `close`."""
        recorded = self._graphs.pop(graph, None)
        if recorded is not None:
            self.synchronize()
            with self._doing("forget a graph"):
                recorded.close()

    def load(self, cubin: bytes, *names: str) -> list[Kernel]:
        """Load compiled kernels. What they hold goes back with the last of them."""
        with self._doing("load a kernel"):
            code = self._core.ObjectCode.from_cubin(cubin)
            handles = [code.get_kernel(name) for name in names]
            return [
                Kernel(name, one.attributes.num_regs, one.attributes.local_size_bytes, one)
                for name, one in zip(names, handles, strict=True)
            ]

    def allow(self, kernel: Kernel, shared_bytes: int, *, large_clusters: bool = False) -> None:
        """Let a kernel have more shared memory than 48 KiB, or clusters of more than 8 blocks."""
        if self._driver is None:
            self._driver = importlib.import_module("cuda.bindings.driver")
        names = self._driver.CUfunction_attribute
        wanted = {names.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: shared_bytes}
        if large_clusters:
            wanted[names.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED] = 1
        with self._doing("prepare a kernel"):
            handle, device = self._driver.CUkernel(int(kernel.handle.handle)), self._driver.CUdevice(0)
            for attribute, value in wanted.items():
                (result,) = self._driver.cuKernelSetAttribute(attribute, value, handle, device)
                if int(result):
                    raise RuntimeError(result.name)

    def blocks_at_once(self, kernel: Kernel, threads: int, shared_bytes: int, cluster: int = 0) -> int:
        """How many blocks of a kernel the GPU can run at the same time; with clusters, those of whole ones.

        Args:
            kernel: prepared by `allow`.
            threads: of each block.
            shared_bytes: that each block asks for at its launch.
            cluster: blocks of each cluster; 0 without.
        """
        with self._doing("tell how much of a kernel fits"):
            if cluster:
                config = self._core.LaunchConfig(
                    grid=1, cluster=cluster, block=threads, shmem_size=shared_bytes
                )
                found = kernel.handle.occupancy.max_active_clusters(config, stream=self._stream)
                return int(found) * cluster
            occupancy = kernel.handle.occupancy
            each = occupancy.max_active_blocks_per_multiprocessor(threads, shared_bytes)
            return int(each) * int(self._device.properties.multiprocessor_count)

    def run(
        self,
        kernel: Kernel,
        grid: int,
        threads: int,
        *arguments: Any,
        shared_bytes: int = 0,
        cooperative: bool = False,
    ) -> None:
        """Launch a kernel, in the order of the stream.

        Args:
            kernel: one that is loaded here.
            grid: blocks.
            threads: of each block.
            arguments: addresses as integers, all else as numpy's scalars of the kernel's types.
            shared_bytes: shared memory that each block asks for.
            cooperative: all blocks run at the same time, or the launch fails.
        """
        config = self._core.LaunchConfig(
            grid=grid, block=threads, shmem_size=shared_bytes, is_cooperative=cooperative
        )
        with self._doing(f"run the kernel {kernel.name}"):
            self._core.launch(self._stream, config, kernel.handle, *arguments)

    def close(self) -> None:
        """Free everything that is still there, and the stream. May be called again."""
        if self._stream is None:
            return
        self.synchronize()
        for graph in list(self._graphs):
            self.forget(graph)
        for address in list(self._live):
            self.free(address)
        self.synchronize()  # what was freed goes back to the system
        with self._doing("free memory of the host"):
            for buffer in self._pinned.values():
                buffer.close()
        self._pinned.clear()
        with self._doing("destroy the stream"):
            self._stream.close()
        self._stream = None

    def _view(self, address: int, nbytes: int) -> Any:
        """Memory that is allocated already, or a piece of it, as cuda-core's copies take it."""
        return self._core.Buffer.from_handle(address, nbytes)

    @contextlib.contextmanager
    def _doing(self, task: str, nbytes: int = 0) -> Iterator[None]:
        """Make one sentence of what cuda-core raises; its class of errors is not part of its interface.

        CUDA works with what is current in the calling thread, and an engine may be used by several in turn.
        """
        try:
            if not getattr(self._thread, "ready", False):
                self._core.Device(0).set_current()
                self._thread.ready = True
            yield
        except Exception as error:
            if nbytes and "OUT_OF_MEMORY" in str(error):
                raise self._out_of_memory(nbytes) from error
            raise P2Error(f"the GPU could not {task}: {cuda_core.explain(error)}") from error

    def _out_of_memory(self, nbytes: int) -> P2Error:
        memory = self._memory()
        there = f" and {memory[0] / _MIB:.1f} of {memory[1] / _MIB:.0f} MiB are free" if memory else ""
        return P2Error(
            f"the GPU is out of memory: {nbytes / _MIB:.1f} MiB more were needed{there};"
            " use fewer streams, or export a smaller precision"
        )
