"""Kernels become cubins without a GPU; what was compiled is kept, and taken again only as it was."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest

from p2.contract.card import PRECISIONS, Card, block_for
from p2.contract.cells import FORMS
from p2.contract.errors import BackendMissing, P2Error
from p2.runtime import nvidia
from p2.runtime.cuda import compiler, geometry
from p2.runtime.cuda.compiler import DECODER, NOISE, Usage, compiled, missing

SOURCE = """#include "more.cuh"
extern "C" __global__ void p2_add(float *a) { a[threadIdx.x] += more(A); }
"""


@pytest.fixture
def nvrtc():
    """NVRTC, or the reason why this machine has none."""
    reason = missing()
    if "needs" in reason:
        pytest.skip(reason)


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder of sources, none of p2's."""
    folder = tmp_path / "kernels"
    folder.mkdir()
    (folder / "add.cu").write_text(SOURCE)
    (folder / "more.cuh").write_text("__device__ float more(float a) { return a + 1; }\n")
    monkeypatch.setattr(compiler, "SOURCES", folder)
    return folder


@pytest.fixture
def counted(monkeypatch):
    """How often NVRTC was asked."""
    calls = []
    compile_ = compiler._compile
    monkeypatch.setattr(compiler, "_compile", lambda *given: calls.append(given) or compile_(*given))
    return calls


@pytest.mark.usefixtures("nvrtc", "sources")
def test_a_cubin_is_for_its_gpu_and_says_what_it_takes():
    for capability, machine in (((7, 5), 75), ((9, 0), 90), ((12, 1), 121), ((12, 9), 121)):
        cubin = compiled("add.cu", {"A": 3}, capability)
        assert cubin.code[:4] == b"\x7fELF"
        assert cubin.code[18:20] == (190).to_bytes(2, "little")  # EM_CUDA
        assert f"sm_{machine}".encode() in cubin.code
        [(name, usage)] = cubin.usage.items()
        assert name == "p2_add"
        assert 4 <= usage.registers <= 32
        assert (usage.shared, usage.spilled) == (0, 0)


def test_what_the_assembler_says_is_read_for_every_kernel():
    log = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'i2048' for 'sm_90'
ptxas info    : Function properties for i2048
ptxas         .     128 bytes stack frame, 96 bytes spill stores, 100 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 128 bytes cumulative stack size, 4096 bytes smem
ptxas info    : Compiling entry function 'noise' for 'sm_90'
ptxas info    : Function properties for noise
ptxas         .     32 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 30 registers, used 0 barriers, 32 bytes cumulative stack size
"""
    assert compiler._usage(log) == {"i2048": Usage(64, 4096, 96), "noise": Usage(30, 0, 0)}


@pytest.mark.usefixtures("nvrtc")
def test_it_is_compiled_once_for_all_that_it_is_made_from(sources, counted, cache_folder, monkeypatch):
    first = compiled("add.cu", {"A": 3}, (9, 0))
    assert compiled("add.cu", {"A": 3}, (9, 0)) == first
    assert len(counted) == 1
    assert len([*(cache_folder / "cuda").iterdir()]) == 1
    assert compiled("add.cu", {"A": 4}, (9, 0)) != first
    compiled("add.cu", {"A": 3}, (8, 9))
    header = sources / "more.cuh"
    header.write_text(header.read_text() + "\n")
    compiled("add.cu", {"A": 3}, (9, 0))
    monkeypatch.setattr(compiler, "_version", lambda: "another")
    compiled("add.cu", {"A": 3}, (9, 0))
    assert len(counted) == 5


@pytest.mark.usefixtures("nvrtc", "sources")
def test_a_damaged_cache_is_compiled_anew(counted, cache_folder):
    first = compiled("add.cu", {"A": 3}, (9, 0))
    [path] = (cache_folder / "cuda").iterdir()
    whole = path.read_bytes()
    line = whole.index(b"\n")
    damages = [
        b"",
        whole[: len(whole) // 2],
        whole[:-1] + bytes([whole[-1] ^ 1]),
        whole[line:],
        whole[line + 1 :],
        whole.replace(b'"registers": ', b'"registers": "x'),
        b"[]" + whole[line:],
        b"\xff" * 100,
    ]
    for number, damaged in enumerate(damages):
        path.write_bytes(damaged)
        assert compiled("add.cu", {"A": 3}, (9, 0)) == first
        assert len(counted) == 2 + number
        assert path.read_bytes() == whole


@pytest.mark.usefixtures("nvrtc", "sources")
def test_a_cache_that_cannot_be_written_is_no_error(counted, cache_folder):
    cache_folder.parent.mkdir()
    cache_folder.write_text("a file where the folder would be")
    assert compiled("add.cu", {"A": 3}, (9, 0)) == compiled("add.cu", {"A": 3}, (9, 0))
    assert len(counted) == 2


@pytest.mark.usefixtures("nvrtc")
def test_a_product_and_a_sum_are_two_operations(sources):
    """Else compilations for one text and for many might fuse different ones, and write different texts."""
    codes = []
    for body in ("x * x + A", "__fadd_rn(__fmul_rn(x, x), A)", "__fmaf_rn(x, x, A)"):
        kernel = f"(float *a) {{ const float x = a[0]; a[0] = {body}; }}"
        (sources / "add.cu").write_text(f'extern "C" __global__ void p2_add{kernel}\n')
        codes.append(compiled("add.cu", {"A": 3}, (9, 0)).code)
    assert codes[0] == codes[1] != codes[2]


@pytest.mark.usefixtures("nvrtc")
def test_what_does_not_compile_is_one_sentence(sources):
    with pytest.raises(P2Error) as caught:
        compiled("add.cu", {}, (9, 0))
    said = str(caught.value)
    assert said.startswith(
        f"NVRTC {compiler._version()} does not compile add.cu for sm_90 (add.cu(2): error: "
    )
    assert 'identifier "A" is undefined' in said
    assert said.endswith("please report it, with this line")
    assert "\n" not in said


@pytest.mark.usefixtures("nvrtc", "sources")
@pytest.mark.parametrize("capability", [(6, 1), (13, 1)])
def test_a_gpu_that_nvrtc_does_not_know(capability):
    with pytest.raises(BackendMissing, match=r"compute capability 7\.5 to 12\.1, not for .*pip install"):
        compiled("add.cu", {"A": 3}, capability)


@pytest.mark.usefixtures("nvrtc", "sources")
def test_files_of_the_working_folder_are_not_included(tmp_path, monkeypatch):
    (compiler.SOURCES / "more.cuh").unlink()
    (tmp_path / "more.cuh").write_text("__device__ float more(float a) { return a; }\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(P2Error, match=r"cannot open source file \"more.cuh\""):
        compiled("add.cu", {"A": 3}, (9, 0))


def test_without_nvrtc(monkeypatch, sources):
    version = importlib.metadata.version
    there = {"cuda-core": "1.2.2", "cuda-bindings": "13.5.0"}

    def found(name):
        if name.startswith(("cuda-", "nvidia-")) and name not in there:
            raise importlib.metadata.PackageNotFoundError(name)
        return there.get(name) or version(name)

    monkeypatch.setattr(importlib.metadata, "version", found)
    monkeypatch.setattr(compiler.ctypes.util, "find_library", lambda _: None)
    for name in compiler._TOOLKITS:
        monkeypatch.delenv(name, raising=False)
    needs = "compiling the decoder needs NVRTC, which is not installed here: pip install nvidia-cuda-nvrtc"
    assert missing() == needs
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)
    with pytest.raises(BackendMissing, match=r"NVRTC does not load \(.*\): pip install nvidia-cuda-nvrtc$"):
        compiled("add.cu", {"A": 3}, (9, 0))
    there["cuda-bindings"] = "12.9.4"
    assert missing() == f"{needs}-cu12"
    there["nvidia-cuda-nvrtc-cu12"] = "12.9.86"
    assert missing() == ""
    monkeypatch.setattr(nvidia, "gpus", lambda: nvidia.Gpus((), "470.1", (11, 4)))
    assert missing().startswith("cuda-bindings 12.9.4 needs a driver for CUDA 12")
    del there["cuda-core"]
    assert missing().startswith("running on the GPU needs cuda-core")


# Multiprocessors and shared memory of a block, by compute capability.
GPUS = {
    (7, 5): (40, 64 << 10),
    (8, 0): (108, 163 << 10),
    (8, 6): (84, 99 << 10),
    (8, 9): (128, 99 << 10),
    (9, 0): (132, 227 << 10),
    (10, 0): (148, 227 << 10),
    (12, 0): (170, 99 << 10),
}

# Every GPU, weights of every precision by few and by many texts, every cell, one layer and several, logits by
# all blocks and by some, a grid and a cluster: capability, precision, cell, layers, hidden, vocab, texts.
MODELS = [
    ((7, 5), "float32", "lstm", 2, 1024, 96, 1),
    ((7, 5), "int8", "rnn", 1, 512, 96, 64),
    ((8, 0), "float16", "lstm", 2, 1024, 96, 64),
    ((8, 0), "int4", "gru", 2, 1024, 96, 1),
    ((8, 6), "float8", "gru-before", 2, 512, 96, 1),
    ((8, 6), "float32", "gru", 3, 512, 96, 16),
    ((8, 9), "bfloat16", "lstm", 2, 1024, 96, 1),
    ((8, 9), "int8", "gru-before", 2, 512, 96, 64),
    ((9, 0), "int8", "lstm", 2, 1024, 96, 1),
    ((9, 0), "float32", "lstm", 2, 128, 96, 2),
    ((9, 0), "float16", "gru", 1, 1000, 5000, 8),
    ((10, 0), "float8", "lstm", 2, 2048, 96, 64),
    ((10, 0), "int4", "rnn", 2, 128, 96, 16),
    ((12, 0), "float32", "rnn", 4, 512, 5000, 8),
    ((12, 0), "bfloat16", "gru", 2, 1024, 96, 64),
]
MOST_SPILLED = 128  # bytes of a thread: float32 has a little too much to hold


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize(
    ("capability", "precision", "cell", "layers", "hidden", "vocab", "texts"),
    MODELS,
    ids=lambda value: "".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_the_decoder_compiles_and_fits(capability, precision, cell, layers, hidden, vocab, texts):
    blocks, shared_bytes = GPUS[capability]
    limits = geometry.Limits(blocks, shared_bytes, 10 * capability[0] + capability[1])
    form = {"gru_reset": "before"} if cell == "gru-before" else {}
    vocabulary = "".join(map(chr, range(0x100, 0x100 + vocab)))
    card = Card(cell.removesuffix("-before"), layers, 8, hidden, vocabulary, precision=precision, **form)
    kind = geometry.kind_of(card, limits)
    block = block_for(hidden, 4) % hidden if precision == "int4" else 0
    option = geometry.choices(card, limits, kind)[-1]  # of a small model a cluster, where the GPU has them
    found = geometry.largest(card, limits, texts, option, kind, block)
    assert found.streams == texts
    cubin = compiled(DECODER, found.defines(), capability)
    assert set(cubin.usage) == {"p2_write", "p2_read", "p2_logits"}
    for name, usage in cubin.usage.items():
        threads = 256 if name == "p2_logits" else found.threads
        assert -(-usage.registers // 8) * 8 * threads <= 65536, name
        assert usage.spilled <= (MOST_SPILLED if precision == "float32" else 0), name
        assert usage.shared == 0


def test_together_they_are_all_that_there_is():
    capabilities, _, cells, *_ = map(set, zip(*MODELS, strict=True))
    assert capabilities == set(GPUS)
    assert cells == {form.name for form in FORMS}
    assert {(precision, texts > 8) for _, precision, *_, texts in MODELS} >= {
        (precision, many) for precision in PRECISIONS for many in (False, True)
    }


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize("capability", GPUS, ids=lambda value: "".join(map(str, value)))
def test_the_noise_compiles(capability):
    [usage] = compiled(NOISE, {}, capability).usage.values()
    assert usage.registers <= 64
    assert usage.spilled == 0
