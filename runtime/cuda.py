"""The CUDA calls that the plan runtime makes, and no others: memory, copies, one stream, graphs.

Every call of the CUDA runtime answers with an error code; here each becomes one sentence.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from ..spec.errors import BackendMissing, P2Error

ALIGNMENT = 256  # bytes; TensorRT asks it of every tensor's address, cudaMalloc gives it

_MIB = 1 << 20


def aligned(nbytes: int) -> int:
    """`nbytes` rounded up to the alignment that tensors need."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


class Device:
    """The first visible GPU with one stream of work; copies and kernels run in the order given.

    Addresses are plain integers. What is uploaded is kept alive until the next `synchronize`.

    Raises (every method):
        P2Error: a CUDA call failed, e.g. the GPU is out of memory.
    """

    def __init__(self, runtime: Any = None) -> None:
        """Open the device.

        Args:
            runtime: the CUDA runtime's functions; `cuda.bindings.runtime` unless given.

        Raises:
            BackendMissing: cuda-bindings is not installed, or CUDA does not run here.
        """
        self._cuda = runtime if runtime is not None else _bindings()
        self._live: dict[int, int] = {}
        self._uploading: list[npt.NDArray[Any]] = []
        self._graphs: dict[int, Any] = {}
        self._stream: Any = None
        error, *values = self._cuda.cudaGetDeviceCount()
        if int(error) != 0 or not values[0]:
            reason = self._explain(error) if int(error) != 0 else "no device"
            old = int(error) == int(self._cuda.cudaError_t.cudaErrorInsufficientDriver)
            remedy = "update the NVIDIA driver" if old else "`p2 doctor` says what is installed"
            raise BackendMissing(f"CUDA cannot use a GPU here: {reason} ({remedy})")
        self._call("open the GPU", self._cuda.cudaSetDevice(0))
        # Not the default stream: nothing can be captured into a graph from that one.
        self._stream = self._call(
            "create a stream", self._cuda.cudaStreamCreateWithFlags(self._cuda.cudaStreamNonBlocking)
        )

    @property
    def stream(self) -> int:
        """The stream's handle, as TensorRT takes it."""
        return int(self._stream)

    @property
    def allocated(self) -> int:
        """Bytes that are allocated now."""
        return sum(self._live.values())

    def allocate(self, nbytes: int) -> int:
        """Reserve memory and return its address, a multiple of `ALIGNMENT`."""
        error, address = self._cuda.cudaMalloc(nbytes)
        if int(error) == int(self._cuda.cudaError_t.cudaErrorMemoryAllocation):
            raise self._out_of_memory(nbytes)
        address = int(self._call("allocate memory", (error, address)))
        self._live[address] = nbytes
        return address

    def require(self, nbytes: int) -> None:
        """Make sure that so much memory is free before a library asks for it, which may end the process."""
        free, _ = self._call("ask for free memory", self._cuda.cudaMemGetInfo())
        if free < nbytes:
            raise self._out_of_memory(nbytes)

    def free(self, address: int) -> None:
        """Give memory back; does nothing after `close`."""
        if self._live.pop(address, None) is not None:
            self._call("free memory", self._cuda.cudaFree(address))

    def upload(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy a C-contiguous array to the device, in the order of the stream."""
        self._uploading.append(array)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        copy = self._cuda.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, self._stream)
        self._call("copy to the GPU", copy)

    def download(self, array: npt.NDArray[Any], address: int) -> None:
        """Fill a C-contiguous array from the device; returns when it is there."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        copy = self._cuda.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, self._stream)
        self._call("copy from the GPU", copy)
        self.synchronize()

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy on the device, in the order of the stream."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        copy = self._cuda.cudaMemcpyAsync(target, source, nbytes, kind, self._stream)
        self._call("copy on the GPU", copy)

    def zero(self, address: int, nbytes: int) -> None:
        """Set memory to zero bytes, in the order of the stream."""
        self._call("clear memory", self._cuda.cudaMemsetAsync(address, 0, nbytes, self._stream))

    def synchronize(self) -> None:
        """Wait until the stream has done everything."""
        self._call("finish its work", self._cuda.cudaStreamSynchronize(self._stream))
        self._uploading.clear()

    def capture(self, enqueue: Callable[[], object]) -> int:
        """Record what `enqueue` puts into the stream, without running it; a number for `launch`.

        All addresses are frozen. Nothing may be allocated, uploaded, downloaded or waited for inside.
        """
        # Thread-local: TensorRT-RTX compiles kernels on threads of its own, which may go on.
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("begin to record a graph", self._cuda.cudaStreamBeginCapture(self._stream, mode))
        try:
            enqueue()
        except BaseException:
            error, graph = self._cuda.cudaStreamEndCapture(self._stream)  # the stream works again
            if int(error) == 0 and graph is not None:
                self._cuda.cudaGraphDestroy(graph)
            raise
        graph = self._call("record a graph", self._cuda.cudaStreamEndCapture(self._stream))
        try:
            executable = self._call("prepare a graph", self._cuda.cudaGraphInstantiate(graph, 0))
        finally:
            self._call("forget a recording", self._cuda.cudaGraphDestroy(graph))
        self._graphs[int(executable)] = executable
        return int(executable)

    def launch(self, graph: int) -> None:
        """Run a recorded graph once, in the order of the stream."""
        self._call("launch a graph", self._cuda.cudaGraphLaunch(self._graphs[graph], self._stream))

    def forget(self, graph: int) -> None:
        """Give a recorded graph back, once the stream has done it; does nothing after `close`."""
        executable = self._graphs.pop(graph, None)
        if executable is not None:
            self.synchronize()
            self._call("forget a graph", self._cuda.cudaGraphExecDestroy(executable))

    def close(self) -> None:
        """Free everything that is still there, and the stream. May be called again."""
        if self._stream is None:
            return
        self.synchronize()
        for graph in list(self._graphs):
            self.forget(graph)
        for address in list(self._live):
            self.free(address)
        self._call("destroy the stream", self._cuda.cudaStreamDestroy(self._stream))
        self._stream = None

    def _out_of_memory(self, nbytes: int) -> P2Error:
        free, total = self._call("ask for free memory", self._cuda.cudaMemGetInfo())
        return P2Error(
            f"the GPU is out of memory: {nbytes / _MIB:.1f} MiB more were needed and {free / _MIB:.1f} of"
            f" {total / _MIB:.0f} MiB are free; use fewer streams, or export a smaller precision"
        )

    def _call(self, task: str, answer: tuple[Any, ...]) -> Any:
        error, *values = answer
        if int(error) != 0:
            raise P2Error(f"the GPU could not {task}: {self._explain(error)}")
        return values[0] if len(values) == 1 else values

    def _explain(self, error: Any) -> str:
        texts = (self._cuda.cudaGetErrorString(error)[1], self._cuda.cudaGetErrorName(error)[1])
        text, name = (text.decode() if isinstance(text, bytes) else str(text) for text in texts)
        return f"{text} ({name})"


class Scratch:
    """Memory by purpose, kept from call to call; it grows and does not pile up."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._blocks: dict[str, tuple[int, int]] = {}

    def reserve(self, purpose: str, nbytes: int) -> int:
        """The address of at least `nbytes`; what was there for that purpose may be lost."""
        address, size = self._blocks.get(purpose, (0, 0))
        if size < nbytes:
            self._device.free(address)
            self._blocks.pop(purpose, None)
            address = self._device.allocate(nbytes)
            self._blocks[purpose] = (address, nbytes)
        return address

    def close(self) -> None:
        """Give all of it back."""
        for address, _ in self._blocks.values():
            self._device.free(address)
        self._blocks.clear()


def _bindings() -> Any:
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendMissing(
            "running a plan needs the CUDA bindings, which do not load here: pip install cuda-bindings"
        ) from error
