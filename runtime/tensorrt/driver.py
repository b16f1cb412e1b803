"""What the plan runtime asks of CUDA, and no more: memory, copies, one stream, graphs; through cuda-core.

Every call there raises when it fails; here each failure becomes one sentence.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
from collections.abc import Callable, Iterator
from typing import Any

import numpy.typing as npt

from ...contract.errors import BackendMissing, P2Error
from ...contract.plan import FLAVOURS
from ...contract.shell import install
from .. import nvidia

_MIB = 1 << 20
_INSTALL = "pip install 'cuda-core>=1.0' cuda-bindings"


class Device:
    """The first visible GPU with one stream of work; copies and kernels run in the order given.

    Addresses are plain integers. What is uploaded is kept alive until the next `synchronize`.

    Attributes:
        stream: the stream's handle, as TensorRT takes it.

    Raises (every method):
        P2Error: a CUDA call failed, e.g. the GPU is out of memory.
    """

    def __init__(
        self, core: Any = None, memory: Callable[[], tuple[int, int] | None] = nvidia.memory
    ) -> None:
        """Open the device.

        Args:
            core: the module `cuda.core`, loaded unless given.
            memory: free and total bytes on the GPU, or None: cuda-core does not tell.

        Raises:
            BackendMissing: there is no GPU, or cuda-core is not installed or too new for the driver.
        """
        self._core = core if core is not None else _load()
        self._memory = memory
        self._live: dict[int, Any] = {}
        self._uploading: list[Any] = []
        self._graphs: dict[int, Any] = {}
        self._numbers = 0  # of graphs so far
        self._stream: Any = None
        self._recording = False
        self._late: list[Any] = []  # to be given back when the recording is over
        with self._doing("open the GPU"):
            self._device = self._core.Device(0)
            self._device.set_current()
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
        with self._doing("destroy the stream"):
            self._stream.close()
        self._stream = None

    def _view(self, address: int, nbytes: int) -> Any:
        """Memory that is allocated already, or a piece of it, as cuda-core's copies take it."""
        return self._core.Buffer.from_handle(address, nbytes)

    @contextlib.contextmanager
    def _doing(self, task: str, nbytes: int = 0) -> Iterator[None]:
        """Make one sentence of what cuda-core raises; its class of errors is not part of its interface."""
        try:
            yield
        except Exception as error:
            if nbytes and "OUT_OF_MEMORY" in str(error):
                raise self._out_of_memory(nbytes) from error
            raise P2Error(f"the GPU could not {task}: {_explain(error)}") from error

    def _out_of_memory(self, nbytes: int) -> P2Error:
        memory = self._memory()
        there = f" and {memory[0] / _MIB:.1f} of {memory[1] / _MIB:.0f} MiB are free" if memory else ""
        return P2Error(
            f"the GPU is out of memory: {nbytes / _MIB:.1f} MiB more were needed{there};"
            " use fewer streams, or export a smaller precision"
        )


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


def driver_too_old(bindings: str | None, gpus: nvidia.Gpus) -> tuple[str, str] | None:
    """What is wrong where cuda-bindings is newer than the driver, and what helps; None if it fits.

    Args:
        bindings: version of cuda-bindings, if it is installed.
        gpus: what the driver says.
    """
    release = (bindings or "").partition(".")[0]
    if gpus.cuda is None or not release.isdecimal() or int(release) <= gpus.cuda[0]:
        return None
    return (
        f"cuda-bindings {bindings} needs a driver for CUDA {release}, and this one speaks CUDA"
        f" {gpus.cuda[0]}.{gpus.cuda[1]}",
        f"update the NVIDIA driver, or pip install 'cuda-bindings<{gpus.cuda[0] + 1}'",
    )


def missing() -> str:
    """Why `cuda.core` cannot be used, as a sentence with its remedy; empty if it can. Imports nothing."""
    try:
        core, bindings = map(importlib.metadata.version, ("cuda-core", "cuda-bindings"))
    except importlib.metadata.PackageNotFoundError as error:
        return f"running a plan needs {error.name}, which is not installed here: {_INSTALL}"
    if core.partition(".")[0] == "0":
        return f"running a plan needs cuda-core 1.0 or newer, and {core} is installed here: {_INSTALL}"
    return ": ".join(driver_too_old(bindings, nvidia.gpus()) or ())


def why_not(flavour: str) -> str:
    """Why plans of one of `contract.plan.FLAVOURS` cannot run here; empty if they can. Imports nothing."""
    about = FLAVOURS[flavour]
    if not nvidia.installed(about):
        return f"{about.title} is not installed: {install(about.extra)}"
    return missing()


def _load() -> Any:
    gpus = nvidia.gpus()
    if not gpus.devices:
        raise BackendMissing(
            f"CUDA cannot use a GPU here: {gpus.problem} (`p2 doctor` says what is installed)"
        )
    if reason := missing():
        raise BackendMissing(reason)
    try:
        return importlib.import_module("cuda.core")
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendMissing(
            f"cuda-core is installed but does not load ({_explain(error)}): {_INSTALL} --force-reinstall"
        ) from error


def _explain(error: Exception) -> str:
    """The first sentence of what cuda-core says, and after it the name of CUDA's error."""
    text = " ".join(str(error).split())
    name, separator, explanation = text.partition(": ")
    if not separator or not name.startswith("CUDA_ERROR"):
        return text.partition(". ")[0].removesuffix(".")
    return f"{explanation.partition('. ')[0].removesuffix('.')} ({name})"
