"""The CUDA calls: each failure is one sentence, and nothing is left allocated."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.runtime.cuda import ALIGNMENT, Device, Scratch, aligned
from p2.spec import nvidia
from p2.spec.errors import BackendMissing, P2Error


@given(st.integers(0, 10**9))
def test_aligned_is_the_next_multiple(nbytes):
    assert aligned(nbytes) % ALIGNMENT == 0
    assert nbytes <= aligned(nbytes) < nbytes + ALIGNMENT


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float16])
def test_what_goes_up_comes_down(dtype, fake_cuda):
    device = Device(fake_cuda)
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
    device = Device(fake_cuda)
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
    device = Device(fake_cuda)
    first, _ = device.allocate(1000), device.allocate(5)
    assert device.allocated == 1005
    device.free(first)
    assert device.allocated == fake_cuda.used() == 5
    device.close()
    device.close()
    device.free(first)
    assert (device.allocated, fake_cuda.used(), fake_cuda.streams) == (0, 0, 0)


def test_out_of_memory_says_how_much_was_needed_and_is_free(fake_cuda):
    device = Device(fake_cuda)
    device.allocate(200 << 20)
    with pytest.raises(
        P2Error, match=r"out of memory: 100\.0 MiB more were needed and 56\.0 of 256 MiB are free"
    ):
        device.allocate(100 << 20)
    assert device.allocated == 200 << 20


@pytest.mark.parametrize(
    ("call", "task", "use"),
    [
        ("cudaSetDevice", "open the GPU", None),
        ("cudaStreamCreateWithFlags", "create a stream", None),
        ("cudaMalloc", "allocate memory", lambda device, _: device.allocate(8)),
        ("cudaFree", "free memory", lambda device, address: device.free(address)),
        ("cudaMemcpyAsync", "copy to the GPU", lambda device, address: device.upload(address, np.zeros(1))),
        (
            "cudaMemcpyAsync",
            "copy from the GPU",
            lambda device, address: device.download(np.zeros(1), address),
        ),
        ("cudaMemsetAsync", "clear memory", lambda device, address: device.zero(address, 8)),
        ("cudaStreamSynchronize", "finish its work", lambda device, _: device.synchronize()),
        ("cudaStreamDestroy", "destroy the stream", lambda device, _: device.close()),
    ],
)
def test_every_error_code_becomes_a_sentence(call, task, use, fake_cuda):
    device = address = None
    if use:
        device = Device(fake_cuda)
        address = device.allocate(8)
    fake_cuda.failing[call] = 700
    with pytest.raises(P2Error) as caught:
        use(device, address) if use else Device(fake_cuda)
    assert str(caught.value) == (
        f"the GPU could not {task}: an illegal memory access was encountered (cudaErrorIllegalAddress)"
    )


def test_no_device_and_an_old_driver_are_backends_that_are_missing(fake_cuda):
    fake_cuda.devices = 0
    with pytest.raises(BackendMissing, match="CUDA cannot use a GPU here: no device"):
        Device(fake_cuda)
    fake_cuda.failing["cudaGetDeviceCount"] = 35
    with pytest.raises(
        BackendMissing, match=r"driver version is insufficient .*\(cudaErrorInsufficientDriver\)"
    ):
        Device(fake_cuda)


def test_an_old_driver_is_to_be_updated(fake_cuda):
    fake_cuda.failing["cudaGetDeviceCount"] = 35
    with pytest.raises(BackendMissing, match=r"\(update the NVIDIA driver\)$"):
        Device(fake_cuda)


def test_what_is_captured_runs_when_it_is_launched(fake_cuda):
    device = Device(fake_cuda)
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
    assert not any(fake_cuda.recordings.values())


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
    device = Device(fake_cuda)
    address = device.allocate(8)
    with pytest.raises(P2Error, match="the GPU could not"):
        device.capture(lambda: forbidden(device, address))
    device.upload(address, np.array([5]))
    back = np.empty(1, np.int64)
    device.download(back, address)
    assert back[0] == 5


def test_memory_is_asked_for_before_a_library_takes_it(fake_cuda):
    device = Device(fake_cuda)
    device.require(fake_cuda.memory)
    with pytest.raises(P2Error, match=r"the GPU is out of memory: 256\.0 MiB more were needed and 256\.0 of"):
        device.require(fake_cuda.memory + 1)


def test_scratch_grows_and_gives_everything_back(fake_cuda):
    device = Device(fake_cuda)
    scratch = Scratch(device)
    small = scratch.reserve("a", 100)
    assert scratch.reserve("a", 50) == small
    scratch.reserve("b", 10)
    scratch.reserve("a", 1000)
    assert device.allocated == 1010
    scratch.close()
    assert device.allocated == 0


def test_missing_bindings_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(BackendMissing, match="pip install cuda-bindings"):
        Device()


def test_the_real_bindings_answer_without_a_gpu():
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    if nvidia.gpus().devices:
        pytest.skip("this machine has an NVIDIA GPU")
    code = (
        "from p2.runtime.cuda import Device\ntry: Device()\nexcept Exception as e: print(type(e).__name__, e)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("BackendMissing CUDA cannot use a GPU here: ")


@pytest.mark.gpu
def test_the_real_gpu_copies():
    if not nvidia.gpus().devices:
        pytest.skip("no NVIDIA GPU")
    device = Device()
    array = np.random.default_rng(0).standard_normal(1000)
    address = device.allocate(array.nbytes)
    device.upload(address, array)
    back = np.empty_like(array)
    device.download(back, address)
    device.close()
    np.testing.assert_array_equal(back, array)
