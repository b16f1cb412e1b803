"""What a machine has from NVIDIA, asked for without ever raising."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from p2.contract.errors import BackendMissing
from p2.contract.plan import TENSORRT, TENSORRT_RTX
from p2.runtime import nvidia


class Driver:
    """The driver's library with two GPUs, as ctypes shows it; `status` is what cuInit answers."""

    def __init__(self, count=2, status=0, version=12080, silent=False):
        self.count, self.status, self.version, self.silent = count, status, version, silent

    def cuDriverGetVersion(self, reference):
        reference._obj.value = self.version
        return 999 if self.silent else 0

    def cuInit(self, flags):
        return self.status

    def cuDeviceGetCount(self, reference):
        reference._obj.value = self.count
        return 0

    def cuDeviceGet(self, reference, index):
        reference._obj.value = index
        return 0

    def cuDeviceGetName(self, buffer, length, device):
        buffer.value = f"GPU {device.value}".encode()
        return 0

    def cuDeviceGetAttribute(self, reference, attribute, device):
        reference._obj.value = {75: 8, 76: 9, 16: 142, 97: 101376}[attribute]
        return 0

    def cuDeviceTotalMem_v2(self, reference, device):
        reference._obj.value = (device.value + 1) << 33
        return 0


def test_gpus_with_their_capability_and_memory(monkeypatch):
    monkeypatch.setattr(nvidia, "driver_library", Driver)
    found = nvidia.gpus()
    assert found.devices == (
        nvidia.Gpu("GPU 0", (8, 9), 1 << 33, 142, 101376),
        nvidia.Gpu("GPU 1", (8, 9), 2 << 33, 142, 101376),
    )
    assert (found.cuda, found.problem) == ((12, 8), "")


@pytest.mark.parametrize(
    ("driver", "problem"),
    [
        (None, "no NVIDIA driver is installed"),
        (Driver(count=0), "the NVIDIA driver finds no GPU"),
        (Driver(status=100), "the NVIDIA driver finds no GPU"),
        (Driver(status=803), "the NVIDIA driver answers with error 803"),
        (Driver(silent=True), "the NVIDIA driver does not answer"),
    ],
)
def test_why_there_is_no_gpu(driver, problem, monkeypatch):
    monkeypatch.setattr(nvidia, "driver_library", lambda: driver)
    found = nvidia.gpus()
    assert (found.devices, found.problem) == ((), problem)


def test_no_driver_library_here_is_an_answer(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(nvidia.ctypes, "CDLL", missing)
    assert nvidia.gpus() == nvidia.Gpus(problem="no NVIDIA driver is installed")


@pytest.mark.parametrize("status", [0, 100])
def test_cuda_starts_while_something_else_is_done(status, monkeypatch):
    begun, order = threading.Event(), []

    class Slow(Driver):
        def cuInit(self, flags):
            assert begun.wait(10)  # the other work goes on meanwhile
            order.append("init")
            return status

        def cuDevicePrimaryCtxRetain(self, reference, device):
            order.append(f"context of {device.value}")
            return 0

    monkeypatch.setattr(nvidia, "driver_library", Slow)
    with pytest.raises(BackendMissing, match="as it was"), nvidia.waking():
        order.append("work")
        begun.set()
        raise BackendMissing("as it was")
    assert order == (["work", "init", "context of 0"] if status == 0 else ["work", "init"])


def test_without_a_driver_nothing_starts(monkeypatch):
    monkeypatch.setattr(nvidia, "driver_library", lambda: None)
    before = threading.active_count()
    with nvidia.waking():
        assert threading.active_count() == before


class Management:
    """NVML with programs (number, bytes) on each of its GPUs, as ctypes shows it."""

    def __init__(self, *gpus):
        self.gpus = gpus

    def nvmlInit_v2(self):
        return 0

    def nvmlDeviceGetCount_v2(self, reference):
        reference._obj.value = len(self.gpus)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, reference):
        reference._obj.value = index + 1
        return 0

    def nvmlDeviceGetComputeRunningProcesses_v3(self, device, reference, found):
        programs = self.gpus[device.value - 1]
        assert len(programs) <= reference._obj.value
        reference._obj.value = len(programs)
        for place, (number, used) in zip(found, programs, strict=False):
            place.pid, place.used = number, used
        return 0


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        ([[(1, 5 << 30), (os.getpid(), 300)], [(os.getpid(), 40)]], 340),
        ([[(1, 5 << 30)], []], None),  # in a container the driver may know it by another number
        ([[(os.getpid(), 2**64 - 1)]], None),
        ([], None),
    ],
)
def test_memory_on_gpus_is_that_of_this_process(gpus, expected, monkeypatch):
    monkeypatch.setattr(nvidia, "_management_library", lambda: Management(*gpus))
    assert nvidia.process_memory() == expected


def test_programs_are_told_by_their_numbers(monkeypatch):
    management = Management([(1, 5 << 30), (7, 300)], [(7, 40), (8, 2**64 - 1)])
    monkeypatch.setattr(nvidia, "_management_library", lambda: management)
    assert nvidia.programs() == {1: 5 << 30, 7: 340, 8: 0}


def test_no_management_library_is_an_answer(monkeypatch):
    monkeypatch.setattr(nvidia.ctypes, "CDLL", lambda name: object())
    nvidia._management_library.cache_clear()
    assert (nvidia.process_memory(), nvidia.programs()) == (None, None)
    nvidia._management_library.cache_clear()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Put a module in front of every installed one: ``module("tensorrt", "source")``."""

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)
        nvidia.library.cache_clear()

    yield write
    nvidia.library.cache_clear()


def test_a_library_that_is_not_installed_names_its_extra(monkeypatch):
    nvidia.library.cache_clear()
    monkeypatch.setattr(nvidia.importlib.util, "find_spec", lambda name: None)
    for flavour, extra in ((TENSORRT, "gpu"), (TENSORRT_RTX, "rtx")):
        assert not nvidia.installed(flavour)
        with pytest.raises(
            BackendMissing, match=rf"{flavour.title} is not installed: pip install .*\[{extra}\]"
        ):
            nvidia.library(flavour)


@pytest.mark.parametrize(
    "source", ["raise OSError('libcudart.so.13: not found')", "import no_such_module", "x = 1"]
)
def test_a_library_that_does_not_load_says_why(source, module):
    module("tensorrt", source)
    with pytest.raises(BackendMissing, match=r"TensorRT is installed but does not load \(.+\): pip install"):
        nvidia.library(TENSORRT)


def test_a_folder_of_that_name_is_no_library(tmp_path, monkeypatch):
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    assert not nvidia.installed(TENSORRT)


def test_which_cuda_a_library_is_built_for(monkeypatch):
    def version(name):
        if name != "tensorrt-cu12":
            raise nvidia.importlib.metadata.PackageNotFoundError(name)
        return "10.0"

    monkeypatch.setattr(nvidia.importlib.metadata, "version", version)
    assert (nvidia.cuda_of(TENSORRT), nvidia.cuda_of(TENSORRT_RTX)) == (12, None)


@pytest.mark.rtx
def test_the_library_here_says_which_cuda_it_is_built_for():
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    assert nvidia.cuda_of(TENSORRT_RTX) in (12, 13)


SPEAKING = """
__version__ = "10.13.3.9"
class ILogger:
    ERROR = 1
"""


def test_what_a_library_says_is_kept_for_the_error_message(module):
    module("tensorrt", SPEAKING)
    library = nvidia.library(TENSORRT)
    assert nvidia.library(TENSORRT) is library
    assert str(library) == "TensorRT 10.13.3.9"
    heard = []
    with library.listening(heard.append):
        library.logger.log(3, "hello")
        assert library.reason() == "it gives no reason"
        library.logger.log(1, "Error Code 1:\n   too  bad")
        library.logger.log(0, "much worse")
        assert library.reason() == "Error Code 1: too bad"
    assert heard == ["hello", "Error Code 1:\n   too  bad", "much worse"]
    with library.listening():
        library.logger.log(1, "x" * 1000)
        assert len(library.reason()) < 500
    assert len(heard) == 3


def test_an_exception_in_a_callback_arrives_where_it_can_be_caught(module):
    module("tensorrt", SPEAKING)
    library = nvidia.library(TENSORRT)

    def interrupt(message):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), library.listening(interrupt):
        library.logger.log(3, "hello")
        assert library.guard(int) is False  # the build is told to stop
    with library.listening():
        assert library.guard(int) is True
