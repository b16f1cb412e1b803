"""What this machine has from NVIDIA: driver, GPUs, TensorRT libraries. Nothing is loaded until asked for.

The GPUs are asked for through the driver's own library, which needs no Python package and answers
with an error code where there is no GPU. That comes first, always: some TensorRT libraries end the
whole process when they are asked to load an engine without a GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contract.errors import BackendMissing
from ..contract.plan import Flavour
from ..contract.shell import install

Sink = Callable[[str], None]

ALIGNMENT = 256  # bytes; TensorRT asks it of every tensor's address, CUDA's allocators give it

# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR, _MULTIPROCESSOR_COUNT, and the last one
# _MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
_ATTRIBUTES = 75, 76, 16, 97
_KERNEL_MODULE = Path("/sys/module/nvidia/version")
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_PROGRAMS = 256  # on one GPU that are listened to
_UNKNOWN = 2**64 - 1  # NVML_VALUE_NOT_AVAILABLE
_LONGEST = 400  # characters of TensorRT's own reason that still read as part of one sentence


def aligned(nbytes: int) -> int:
    """`nbytes` rounded up to the alignment that tensors need."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: its name.
        capability: its compute capability (major, minor).
        memory: in bytes.
        multiprocessors: how many it has.
        shared_bytes: shared memory that one block of threads can have at most.
    """

    name: str
    capability: tuple[int, int]
    memory: int
    multiprocessors: int = 0
    shared_bytes: int = 0


@dataclass(frozen=True)
class Gpus:
    """What the driver says.

    Attributes:
        devices: the GPUs that programs may use (CUDA_VISIBLE_DEVICES counts).
        driver: the driver's own version such as ``570.86.15``, where the system tells it.
        cuda: the newest CUDA version that the driver speaks, or None without a driver.
        problem: why there are no devices, as a clause.
    """

    devices: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda: tuple[int, int] | None = None
    problem: str = ""


def gpus() -> Gpus:
    """Ask the NVIDIA driver for its GPUs. Never raises."""
    library = driver_library()
    if library is None:
        return Gpus(problem="no NVIDIA driver is installed")
    number = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(number)) != 0:
        return Gpus(driver=_kernel_module(), problem="the NVIDIA driver does not answer")
    # The driver writes 12.8 as 12080.
    cuda = (number.value // 1000, number.value % 1000 // 10)
    status = library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(number))
    if status == 0 and number.value > 0:
        devices = tuple(_describe(library, index) for index in range(number.value))
        return Gpus(devices, _kernel_module(), cuda)
    none = status in (0, _NO_DEVICE)
    problem = "the NVIDIA driver finds no GPU" if none else f"the NVIDIA driver answers with error {status}"
    return Gpus(driver=_kernel_module(), cuda=cuda, problem=problem)


@contextlib.contextmanager
def waking() -> Iterator[None]:
    """Start CUDA on the first GPU meanwhile: some tenths of a second in which Python can read and import.

    It is ready when this ends, as whoever uses the GPU next would have made it; where it cannot be, nothing
    happens, and who asks for the GPU is told why.
    """
    library = driver_library()
    thread = threading.Thread(target=_wake, args=(library,)) if library else None
    if thread:
        thread.start()
    try:
        yield
    finally:
        if thread:
            thread.join()


def _wake(library: Any) -> None:
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if library.cuInit(0) == 0 and library.cuDeviceGet(ctypes.byref(device), 0) == 0:
        library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)  # until the process ends


def memory() -> tuple[int, int] | None:
    """Free and total bytes on the GPU that this thread works with, or None where it works with none."""
    library = driver_library()
    if library is None:
        return None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    # Answers with an error code where no library has made a context yet.
    if library.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) != 0:
        return None
    return free.value, total.value


class _Process(ctypes.Structure):
    """A program on a GPU, as NVML's calls of version 2 and 3 describe it."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


def programs() -> dict[int, int] | None:
    """The programs that work on the GPUs, by process number: bytes that each holds on all of them together.

    0 bytes where the driver does not tell them (WDDM); None where it tells nothing at all. In a container it
    may know a process by another number, or not at all.
    """
    library = _management_library()
    count = ctypes.c_uint()
    if library is None or library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return None
    found: dict[int, int] = {}
    for index in range(count.value):
        device, there = ctypes.c_void_p(), (_Process * _PROGRAMS)()
        number = ctypes.c_uint(_PROGRAMS)
        if (
            library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == 0
            and library.nvmlDeviceGetComputeRunningProcesses_v3(device, ctypes.byref(number), there) == 0
        ):
            for one in there[: number.value]:
                found[one.pid] = found.get(one.pid, 0) + (0 if one.used == _UNKNOWN else one.used)
    return found


def process_memory() -> int | None:
    """Bytes that this process holds on all GPUs together, or None where the driver does not tell."""
    return (programs() or {}).get(os.getpid()) or None


@functools.cache
def _management_library() -> Any:
    """NVML, ready to be asked; None where it is not, or is older than its calls that are needed."""
    try:
        library = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        return (
            library
            if library.nvmlInit_v2() == 0 and library.nvmlDeviceGetComputeRunningProcesses_v3
            else None
        )
    except (OSError, AttributeError):
        return None


def driver_library() -> Any:
    """The driver's library, or None."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def _describe(library: Any, index: int) -> Gpu:
    device, numbers = ctypes.c_int(), [ctypes.c_int() for _ in _ATTRIBUTES]
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    library.cuDeviceGet(ctypes.byref(device), index)
    library.cuDeviceGetName(name, len(name), device)
    for number, attribute in zip(numbers, _ATTRIBUTES, strict=True):
        library.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
    library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    major, minor, multiprocessors, shared_bytes = (number.value for number in numbers)
    title = name.value.decode(errors="replace")
    return Gpu(title, (major, minor), memory.value, multiprocessors, shared_bytes)


def _kernel_module() -> str | None:
    try:
        return _KERNEL_MODULE.read_text().strip()
    except OSError:
        return None


def installed(flavour: Flavour) -> bool:
    """Whether the Python module of a TensorRT library is here, without importing it."""
    try:
        spec = importlib.util.find_spec(flavour.module)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None  # a mere folder of that name has no origin


def cuda_of(flavour: Flavour) -> int | None:
    """The major version of CUDA that the installed library is built for, where its package tells."""
    for major in (13, 12, 11):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(f"{flavour.name}-cu{major}")
            return major
    return None


class Library:
    """One TensorRT library, and everything it says.

    TensorRT keeps the first logger that a process shows it and ignores all later ones, so there
    is one for each library, and it lives as long as the process.

    Attributes:
        flavour: which of the two.
        trt: the module.
        version: its version.
        logger: the logger to hand to every TensorRT object.
    """

    def __init__(self, flavour: Flavour, module: Any) -> None:
        self.flavour = flavour
        self.trt = module
        self.version = str(module.__version__)
        self._errors: list[str] = []
        self._sink: Sink | None = None
        self._interruption: BaseException | None = None
        error_level = int(module.ILogger.ERROR)  # lower is worse
        hear = self._hear

        class Logger(module.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                module.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                hear(int(severity) <= error_level, message)

        self.logger = Logger()

    def __str__(self) -> str:
        return f"{self.flavour.title} {self.version}"

    def _hear(self, error: bool, message: str) -> None:
        if error:
            self._errors.append(message)
        if self._sink:
            self.guard(self._sink, message)

    def guard(self, function: Callable[..., object], *arguments: object) -> bool:
        """Call a function from inside a TensorRT callback, through which no exception can pass.

        The first exception (Ctrl-C arrives as one) is kept, and raised when `listening` ends.

        Returns:
            Whether TensorRT should go on.
        """
        try:
            function(*arguments)
        except BaseException as error:
            self._interruption = self._interruption or error
        return self._interruption is None

    @contextlib.contextmanager
    def listening(self, sink: Sink | None = None) -> Iterator[None]:
        """Forget earlier errors; until the end, hand every message to `sink`."""
        self._errors.clear()
        self._sink, self._interruption = sink, None
        try:
            yield
        finally:
            self._sink = None
            if self._interruption is not None:
                raise self._interruption

    def reason(self) -> str:
        """The first error since `listening` began, on one line, or a remark that there was none."""
        if not self._errors:
            return "it gives no reason"
        line = " ".join(self._errors[0].split())
        return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


@functools.cache
def library(flavour: Flavour) -> Library:
    """Load a TensorRT library, once per process.

    Raises:
        BackendMissing: it is not installed, or does not load; the message names the extra.
    """
    if not installed(flavour):
        raise BackendMissing(f"{flavour.title} is not installed: {install(flavour.extra)}")
    try:
        return Library(flavour, importlib.import_module(flavour.module))
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise BackendMissing(
            f"{flavour.title} is installed but does not load ({reason}):"
            f" pip install --force-reinstall {flavour.name}"
        ) from error
