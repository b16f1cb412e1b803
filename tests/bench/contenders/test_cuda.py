"""The contenders for a GPU: on one where there is one, and on the processor as far as that goes."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from p2.bench.contenders import cuda, cuda_compile, torch_cell
from p2.bench.contenders.registry import by_key
from p2.contract.errors import UsageError
from p2.contract.shell import install
from p2.runtime import nvidia

from .reference import drawn, followed

A_GPU = nvidia.Gpus((nvidia.Gpu("NVIDIA Test", (9, 0), 1 << 30),))


@pytest.mark.gpu
@pytest.mark.parametrize("key", ["cuda-eager", "cuda-graph", "cuda-compile", "ort-cuda"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_gpu_writes_the_reference_text(key, cell, load, card_of, numpy_model):
    card = card_of(cell)
    first, noise = drawn(card, 40)
    running = load(key, card)
    assert running.follow(first, noise).tolist() == followed(numpy_model(card), first, noise).tolist()
    running.start(3, 1)
    assert running.write(40).shape == (3, 40)
    running.read(first[None])


def test_tensorrt_needs_its_library_and_a_plan(model_of, card_of, monkeypatch):
    contender = by_key("p2-tensorrt-float32")
    monkeypatch.setattr(nvidia, "gpus", lambda: A_GPU)
    monkeypatch.setattr(nvidia, "installed", lambda flavour: False)
    reason = f"neither TensorRT nor TensorRT-RTX is installed: {install('gpu')}"
    assert contender.missing(card_of()) == reason
    monkeypatch.setattr(nvidia, "installed", lambda flavour: flavour.name == "tensorrt")
    assert contender.missing(card_of()) is None
    with pytest.raises(UsageError, match="lstm has no plan in float32 beside its step"):
        contender.load(model_of(card_of()), None)


@pytest.fixture
def processor(monkeypatch):
    """The contenders of captured graphs take the processor for the GPU."""
    running = cuda.GraphRunning

    def on_the_processor(card, threads, advance, device, capture):
        assert (device, capture) == ("cuda", cuda.captured)
        return running(card, threads, advance, "cpu", lambda body: body)

    for module in (cuda, cuda_compile):
        monkeypatch.setattr(module, "prepare_cuda", lambda: None)
        monkeypatch.setattr(module, "folded_cell", lambda model, device: torch_cell.folded_cell(model))
        monkeypatch.setattr(module, "GraphRunning", on_the_processor)


@pytest.mark.parametrize(("cell", "reset"), [("lstm", "after"), ("gru", "before")])
def test_the_compiled_step_writes_the_reference_text(
    cell, reset, processor, model_of, card_of, numpy_model, monkeypatch
):
    import torch
    import torch._dynamo

    # What the compiler is given, without the minute that it takes to make kernels of it.
    compiled_for = set()

    def keep(module, inputs):
        (token,) = (tensor for tensor in inputs if tensor.dtype == torch.int64)
        compiled_for.add(len(token))
        return module.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=keep))
    torch._dynamo.reset()
    card = card_of(cell, reset)
    running = by_key("cuda-compile").load(model_of(card), 1)
    try:
        # The contender's limit, not PyTorch's own, which ends at eight.
        assert torch._dynamo.config.recompile_limit == torch_cell.COMPILED_BATCHES
        for batch in (1, 3, 2):  # each is compiled for: none may fall back to the plain function
            first, noise = drawn(card, 40, batch)
            expected = followed(numpy_model(card), first, noise)
            assert running.follow(first, noise).tolist() == expected.tolist()
            tokens = np.random.default_rng(1).integers(card.vocab, size=(batch, 5))
            np.testing.assert_allclose(
                running.logits(tokens), numpy_model(card).run(tokens), rtol=0, atol=1e-4
            )
            assert batch in compiled_for
    finally:
        running.close()
        torch._dynamo.reset()
