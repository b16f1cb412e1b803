"""The CUDA calls: each failure is one sentence, and nothing is left allocated."""

from __future__ import annotations

import gc
import importlib.metadata
import inspect
import subprocess
import sys
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.errors import BackendMissing, P2Error
from p2.runtime import nvidia
from p2.runtime.nvidia import ALIGNMENT, aligned
from p2.runtime.tensorrt.driver import Device, Scratch, missing

from .. import cuda_double
from ..cuda_double import ILLEGAL_ADDRESS


def open_device(fake):
    return Device(fake, fake.memory_info)


@given(st.integers(0, 10**9))
def test_aligned_is_the_next_multiple(nbytes):
    assert aligned(nbytes) % ALIGNMENT == 0
    assert nbytes <= aligned(nbytes) < nbytes + ALIGNMENT


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float16])
def test_what_goes_up_comes_down(dtype, fake_cuda):
    device = open_device(fake_cuda)
    array = np.random.default_rng(0).integers(0, 100, (3, 5)).astype(dtype)
    address = device.allocate(array.nbytes)
    device.upload(address, array)
    back = np.empty_like(array)
    device.download(back, address)
    np.testing.assert_array_equal(back, array)
    device.zero(address, array.nbytes // 3)
    device.download(back, address)
    np.testing.assert_array_equal(back, np.concatenate([np.zeros_like(array[:1]), array[1:]]))


def test_an_array_is_kept_until_its_copy_is_done(fake_cuda):
    device = open_device(fake_cuda)
    array = np.arange(4.0)
    alive = weakref.ref(array)
    device.upload(device.allocate(array.nbytes), array)
    del array
    gc.collect()
    assert alive() is not None
    device.synchronize()
    gc.collect()
    assert alive() is None


def test_close_frees_everything_and_may_be_repeated(fake_cuda):
    device = open_device(fake_cuda)
    first, _ = device.allocate(1000), device.allocate(5)
    assert device.allocated == 1005
    device.free(first)
    assert device.allocated == fake_cuda.used() == 5
    device.close()
    device.close()
    device.free(first)
    assert (device.allocated, fake_cuda.used(), fake_cuda.streams) == (0, 0, 0)


def test_out_of_memory_says_how_much_was_needed_and_is_free(fake_cuda):
    device = open_device(fake_cuda)
    device.allocate(200 << 20)
    with pytest.raises(
        P2Error, match=r"out of memory: 100\.0 MiB more were needed and 56\.0 of 256 MiB are free"
    ):
        device.allocate(100 << 20)
    assert device.allocated == 200 << 20


@pytest.mark.parametrize(
    ("call", "task", "use"),
    [
        ("Device.set_current", "open the GPU", None),
        ("Device.create_stream", "create a stream", None),
        ("Device.allocate", "allocate memory", lambda device, _: device.allocate(8)),
        ("Buffer.close", "free memory", lambda device, address: device.free(address)),
        ("Buffer.copy_from", "copy to the GPU", lambda device, address: device.upload(address, np.zeros(1))),
        (
            "Buffer.copy_from",
            "copy from the GPU",
            lambda device, address: device.download(np.zeros(1), address),
        ),
        ("Buffer.copy_from", "copy on the GPU", lambda device, address: device.copy(address, address, 4)),
        ("Buffer.fill", "clear memory", lambda device, address: device.zero(address, 8)),
        ("Stream.sync", "finish its work", lambda device, _: device.synchronize()),
        ("Stream.create_graph_builder", "begin to record a graph", lambda device, _: device.capture(id)),
        ("GraphBuilder.begin_building", "begin to record a graph", lambda device, _: device.capture(id)),
        ("GraphBuilder.end_building", "record a graph", lambda device, _: device.capture(lambda: 0)),
        ("GraphBuilder.complete", "prepare a graph", lambda device, _: device.capture(lambda: 0)),
        ("Graph.launch", "launch a graph", lambda device, _: device.launch(device.capture(lambda: 0))),
        ("Graph.close", "forget a graph", lambda device, _: device.forget(device.capture(lambda: 0))),
        ("Stream.close", "destroy the stream", lambda device, _: device.close()),
    ],
)
def test_every_error_becomes_a_sentence(call, task, use, fake_cuda):
    device = address = None
    if use:
        device = open_device(fake_cuda)
        address = device.allocate(8)
    fake_cuda.failing[call] = ILLEGAL_ADDRESS
    with pytest.raises(P2Error) as caught:
        use(device, address) if use else open_device(fake_cuda)
    assert str(caught.value) == (
        f"the GPU could not {task}: While executing a kernel, the device encountered a load or store"
        " instruction on an invalid memory address (CUDA_ERROR_ILLEGAL_ADDRESS)"
    )


def test_what_is_captured_runs_when_it_is_launched(fake_cuda):
    device = open_device(fake_cuda)
    address = device.allocate(512)
    back = np.empty(2, np.int64)
    device.zero(address, 512)
    device.upload(address, np.array([7]))
    graph = device.capture(lambda: device.copy(address + 256, address, 8))
    device.download(back[1:], address + 256)
    assert back[1] == 0
    device.launch(graph)
    device.download(back[1:], address + 256)
    assert back[1] == 7
    device.upload(address, np.array([8]))
    device.launch(graph)  # the address is frozen, not what was there
    device.download(back[1:], address + 256)
    assert back[1] == 8
    device.forget(graph)
    device.forget(graph)
    device.close()
    assert fake_cuda.graphs == 0


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda device, address: device.allocate(8),
        lambda device, address: device.synchronize(),
        lambda device, address: device.upload(address, np.zeros(1)),
        lambda device, address: device.download(np.zeros(1), address),
    ],
)
def test_what_cannot_be_captured_is_one_sentence_and_the_stream_goes_on(forbidden, fake_cuda):
    device = open_device(fake_cuda)
    address = device.allocate(8)
    with pytest.raises(P2Error, match="the GPU could not"):
        device.capture(lambda: forbidden(device, address))
    device.upload(address, np.array([5]))
    back = np.empty(1, np.int64)
    device.download(back, address)
    assert back[0] == 5


def test_what_is_freed_while_a_graph_is_recorded_is_freed_once_and_later(fake_cuda):
    device = open_device(fake_cuda)
    kept, forgotten = device.allocate(8), device.allocate(8)

    def record():
        device.zero(kept, 8)
        device.free(forgotten)  # as the garbage collector may

    graph = device.capture(record)
    assert device.allocated == fake_cuda.used() == 8
    for _ in range(2):
        device.launch(graph)
    device.synchronize()
    device.close()
    assert fake_cuda.used() == 0


def test_memory_is_asked_for_before_a_library_takes_it(fake_cuda):
    device = open_device(fake_cuda)
    device.require(fake_cuda.memory)
    with pytest.raises(P2Error, match=r"the GPU is out of memory: 256\.0 MiB more were needed and 256\.0 of"):
        device.require(fake_cuda.memory + 1)


def test_scratch_grows_and_gives_everything_back(fake_cuda):
    device = open_device(fake_cuda)
    scratch = Scratch(device)
    small = scratch.reserve("a", 100)
    assert scratch.reserve("a", 50) == small
    scratch.reserve("b", 10)
    scratch.reserve("a", 1000)
    assert device.allocated == 1010
    scratch.close()
    assert device.allocated == 0


GPU = nvidia.Gpus((nvidia.Gpu("NVIDIA Test", (8, 9), 1 << 30),), "550.1", (12, 4))


@pytest.fixture
def installed(monkeypatch):
    """A machine with a GPU whose driver speaks CUDA 12.4: ``installed({"cuda-core": "1.2.0"})``."""
    monkeypatch.setattr(nvidia, "gpus", lambda: GPU)

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    versions: dict[str, str] = {}
    monkeypatch.setattr(importlib.metadata, "version", version)
    return versions.update


@pytest.mark.parametrize(
    ("versions", "reason"),
    [
        ({}, "running a plan needs cuda-core, which is not installed here: pip install 'cuda-core>=1.0'"),
        (
            {"cuda-core": "1.2.0"},
            "running a plan needs cuda-bindings, which is not installed here: pip install",
        ),
        (
            {"cuda-core": "0.7.0", "cuda-bindings": "12.9.4"},
            "running a plan needs cuda-core 1.0 or newer, and 0.7.0 is installed here: pip install",
        ),
        (
            {"cuda-core": "1.2.0", "cuda-bindings": "13.0.1"},
            "cuda-bindings 13.0.1 needs a driver for CUDA 13, and this one speaks CUDA 12.4: update the"
            " NVIDIA driver, or pip install 'cuda-bindings<13'",
        ),
        ({"cuda-core": "1.2.0", "cuda-bindings": "12.9.4"}, ""),
    ],
)
def test_what_is_missing_is_said_with_its_cure_before_anything_is_loaded(
    versions, reason, installed, monkeypatch
):
    installed(versions)
    assert missing().startswith(reason)
    assert bool(missing()) == bool(reason)
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(BackendMissing) as caught:
        Device()
    assert str(caught.value).startswith(reason or "cuda-core is installed but does not load (")


def test_without_a_gpu_that_comes_first(monkeypatch):
    monkeypatch.setattr(nvidia, "gpus", lambda: nvidia.Gpus(problem="no NVIDIA driver is installed"))
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(BackendMissing, match="CUDA cannot use a GPU here: no NVIDIA driver is installed"):
        Device()


DOUBLES = [
    cuda_double.Device,
    cuda_double.Buffer,
    cuda_double.Stream,
    cuda_double.GraphBuilder,
    cuda_double.Graph,
]


@pytest.mark.parametrize("double", DOUBLES, ids=lambda double: double.__name__)
def test_the_double_has_the_calls_of_cuda_core(double):
    core = pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    graph = importlib.import_module("cuda.core.graph")
    real = getattr(core, double.__name__, None) or getattr(graph, double.__name__)
    for name, method in vars(double).items():
        if name.startswith("_"):
            continue
        takes = inspect.signature(getattr(real, name)).parameters
        for parameter in inspect.signature(method).parameters.values():
            assert parameter.name in takes, f"{double.__name__}.{name} has no {parameter.name}"
            assert parameter.kind == takes[parameter.name].kind
        needed = {p.name for p in takes.values() if p.default is p.empty}
        assert needed <= set(inspect.signature(method).parameters), f"{double.__name__}.{name} wants more"
    made = {"Buffer": ("handle", "size"), "Stream": ("handle",)}.get(double.__name__, ())
    assert all(hasattr(real, name) for name in made)
    if double is cuda_double.Buffer:  # made by `from_handle`, from the second on
        ours = list(inspect.signature(double).parameters)[1:]
        assert ours == list(inspect.signature(real.from_handle).parameters)[: len(ours)]


def test_the_real_cuda_core_answers_without_a_gpu():
    pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    if nvidia.gpus().devices:
        pytest.skip("this machine has an NVIDIA GPU")
    # As on a machine whose GPU goes away in between: cuda-core is loaded, and has to say so itself.
    code = (
        "import cuda.core; from p2.runtime.tensorrt.driver import Device\n"
        "for core in (None, cuda.core):\n"
        "    try: Device(core)\n"
        "    except Exception as e: print(type(e).__name__, e)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    first, second = run.stdout.splitlines()
    assert first.startswith("BackendMissing CUDA cannot use a GPU here: ")
    assert second.startswith("P2Error the GPU could not open the GPU: ")


@pytest.mark.gpu
def test_the_real_gpu_copies():
    if not nvidia.gpus().devices:
        pytest.skip("no NVIDIA GPU")
    device = Device()
    array = np.random.default_rng(0).standard_normal(1000)
    address, other = device.allocate(array.nbytes), device.allocate(array.nbytes)
    assert address % ALIGNMENT == other % ALIGNMENT == 0
    device.zero(other, array.nbytes)
    graph = device.capture(lambda: device.copy(other, address, array.nbytes))
    device.upload(address, array)
    back = np.empty_like(array)
    device.download(back, other)
    assert not back.any()
    device.launch(graph)
    device.download(back, other)
    device.close()
    np.testing.assert_array_equal(back, array)
