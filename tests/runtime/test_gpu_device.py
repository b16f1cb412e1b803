"""The CUDA calls: each failure is one sentence, and nothing is left allocated."""

from __future__ import annotations

import ctypes
import gc
import importlib
import inspect
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.errors import P2Error
from p2.runtime import nvidia
from p2.runtime.gpu_device import Device
from p2.runtime.gpu_memory import Scratch, Staging
from p2.runtime.nvidia import ALIGNMENT, aligned

from . import cuda_double
from .cuda_double import ILLEGAL_ADDRESS, FakeCuda


def open_device(fake):
    return Device(fake, fake.memory_info, fake.driver)


def add(grid, threads, shared_bytes, arguments):
    address, value = arguments
    array = np.ctypeslib.as_array((ctypes.c_int32 * (grid * threads)).from_address(address))
    array += value


@pytest.fixture
def fake_cuda():
    """A GPU whose only kernel adds a number to an array."""
    return FakeCuda(load=lambda _: {"add": add})


def add_one(device):
    return device.load(b"", "add")[0]


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
        ("Device.properties", "tell what it has", lambda device, _: device.properties),
        (
            "LegacyPinnedMemoryResource.allocate",
            "pin memory of the host",
            lambda device, _: device.pin((3,), np.int32),
        ),
        ("Buffer.close", "free memory of the host", lambda device, _: device.unpin(device.pin((3,), float))),
        ("ObjectCode.from_cubin", "load a kernel", lambda device, _: device.load(b"")),
        (
            "Occupancy.max_active_blocks_per_multiprocessor",
            "tell how much of a kernel fits",
            lambda device, _: device.blocks_at_once(add_one(device), 32, 0),
        ),
        ("launch", "run the kernel add", lambda device, at: device.run(add_one(device), 1, 32, at)),
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


def test_a_kernel_runs_in_the_order_of_the_stream(fake_cuda):
    device = open_device(fake_cuda)
    kernel = add_one(device)
    assert (kernel.name, kernel.registers, kernel.local_bytes) == ("add", 40, 0)
    array = np.arange(64, dtype=np.int32)
    address = device.allocate(array.nbytes)
    device.upload(address, array)
    device.run(kernel, 2, 32, address, np.int32(5), cooperative=True)
    back = np.empty_like(array)
    device.download(back, address)
    np.testing.assert_array_equal(back, array + 5)
    [ran] = fake_cuda.ran
    assert (ran.grid, ran.block, ran.shmem_size, ran.is_cooperative) == (2, 32, 0, True)


def test_a_kernel_has_more_shared_memory_where_it_was_allowed(fake_cuda):
    device = open_device(fake_cuda)
    kernel, much = add_one(device), device.properties.shared_bytes
    address = device.allocate(128)
    with pytest.raises(P2Error, match=r"the GPU could not run the kernel add: .*CUDA_ERROR_INVALID_VALUE"):
        device.run(kernel, 1, 32, address, 1, shared_bytes=much)
    device.allow(kernel, much, large_clusters=True)
    device.run(kernel, 1, 32, address, 1, shared_bytes=much)
    assert set(fake_cuda.allowed[kernel.handle.handle].values()) == {much, 1}
    with pytest.raises(P2Error, match="the GPU could not prepare a kernel: CUDA_ERROR_INVALID_VALUE"):
        device.allow(kernel, much + 1)


def test_another_thread_may_go_on(fake_cuda):
    device = open_device(fake_cuda)
    kernel, array = add_one(device), np.zeros(32, np.int32)
    address = device.allocate(array.nbytes)

    def use():
        device.upload(address, array)
        device.run(kernel, 1, 32, address, 3)
        device.download(array, address)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(use).result()
    use()
    np.testing.assert_array_equal(array, np.full(32, 6))


def test_how_many_blocks_run_at_once(fake_cuda):
    device = open_device(fake_cuda)
    kernel = add_one(device)
    assert device.blocks_at_once(kernel, 1024, 1000) == fake_cuda.multiprocessors == 4
    assert device.blocks_at_once(kernel, 1024, 1000, cluster=3) == 3
    with pytest.raises(P2Error, match=r"run the kernel add: .*\(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE\)"):
        device.run(kernel, 5, 32, 0, 1, cooperative=True)


def test_pinned_memory_goes_up_and_is_given_back(fake_cuda):
    device = open_device(fake_cuda)
    staging = Staging(device)
    first = staging.array("a", (2, 3), np.int32)
    assert staging.array("a", (6,), np.float32).ctypes.data == first.ctypes.data
    first[...] = [[1, 2, 3], [4, 5, 6]]
    address = device.allocate(first.nbytes)
    device.upload(address, first)
    back = np.empty_like(first)
    device.download(back, address)
    np.testing.assert_array_equal(back, [[1, 2, 3], [4, 5, 6]])
    larger = staging.array("a", (100,), np.int64)
    assert larger.shape == (100,)
    staging.array("b", (0, 5), np.int64)
    staging.close()
    device.pin((7,), np.int8)
    device.close()
    device.unpin(larger)


DOUBLES = [
    cuda_double.Device,
    cuda_double.Buffer,
    cuda_double.Stream,
    cuda_double.GraphBuilder,
    cuda_double.Graph,
    cuda_double.LegacyPinnedMemoryResource,
    cuda_double.Kernel,
    cuda_double.Occupancy,
]


@pytest.mark.parametrize("double", DOUBLES, ids=lambda double: double.__name__)
def test_the_double_has_the_calls_of_cuda_core(double):
    core = pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    graph = importlib.import_module("cuda.core.graph")
    real = getattr(core, double.__name__, None) or getattr(graph, double.__name__, None)
    real = real or importlib.import_module("cuda.core._module").KernelOccupancy
    for name, method in vars(double).items():
        if name.startswith("_") or name == "check":
            continue
        if isinstance(method, property):
            assert hasattr(real, name)
            continue
        takes = inspect.signature(getattr(real, name)).parameters
        for parameter in inspect.signature(method).parameters.values():
            assert parameter.name in takes, f"{double.__name__}.{name} has no {parameter.name}"
            assert parameter.kind == takes[parameter.name].kind
        needed = {p.name for p in takes.values() if p.default is p.empty}
        assert needed <= set(inspect.signature(method).parameters), f"{double.__name__}.{name} wants more"
    made = {"Buffer": ("handle", "size"), "Stream": ("handle",), "Kernel": ("handle", "attributes")}.get(
        double.__name__, ()
    )
    assert all(hasattr(real, name) for name in made)
    if double is cuda_double.Buffer:  # made by `from_handle`, from the second on
        ours = list(inspect.signature(double).parameters)[1:]
        assert ours == list(inspect.signature(real.from_handle).parameters)[: len(ours)]


def test_the_double_has_what_kernels_need_of_cuda_core(fake_cuda):
    core = pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    driver = importlib.import_module("cuda.bindings.driver")
    module = importlib.import_module("cuda.core._module")
    ours = inspect.signature(cuda_double.LaunchConfig).parameters
    assert all(hasattr(core.LaunchConfig, name) for name in ours)
    assert next(iter(inspect.signature(core.ObjectCode.from_cubin).parameters)) == "module"
    kernel = cuda_double.Kernel(fake_cuda, add)
    assert all(hasattr(module.KernelAttributes, name) for name in vars(kernel.attributes))
    properties = importlib.import_module("cuda.core._device").DeviceProperties
    ours = fake_cuda.Device(0)
    ours.set_current()
    assert all(hasattr(properties, name) for name in vars(ours.properties))
    assert list(inspect.signature(core.launch).parameters)[:3] == ["stream", "config", "kernel"]
    names = [name for name in vars(cuda_double.Driver.CUfunction_attribute) if name.startswith("CU_")]
    assert all(hasattr(driver.CUfunction_attribute, name) for name in names)
    assert driver.CUresult.CUDA_SUCCESS == 0
    assert "cuKernelSetAttribute(attrib: CUfunction_attribute, int val, kernel, dev)" in str(
        driver.cuKernelSetAttribute.__doc__
    )


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
