"""Where a run computes, and in which number format."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from ..contract.errors import BackendMissing
from .ranks import ALONE, Ranks


def choose_device(name: str, ranks: Ranks = ALONE) -> torch.device:
    """The device that ``auto``, ``cpu`` or ``cuda`` means on this machine.

    Args:
        name: of the option.
        ranks: the processes that train together: each of a machine's gets a GPU of its own.

    Raises:
        BackendMissing: ``cuda`` was asked for and there is no GPU, or the processes are more than the GPUs.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    elif name == "cuda" and not torch.cuda.is_available():
        raise BackendMissing("--device cuda needs an NVIDIA GPU and a PyTorch built for it: use --device cpu")
    if name == "cpu" or ranks.size == 1:
        return torch.device(name)
    index, here = ranks.local
    gpus = torch.cuda.device_count()
    if here > gpus:
        raise BackendMissing(
            f"torchrun has started {here} processes on a machine with {gpus} GPUs:"
            f" --nproc-per-node {gpus}, or --device cpu"
        )
    return torch.device(name, index)


def choose_precision(name: str, device: torch.device, cell: str) -> str:
    """The precision that ``auto`` means: bfloat16 where it is native and quicker, else float32.

    On a CPU that is the LSTM alone: PyTorch has a bfloat16 kernel for it, while its GRU converts back
    and forth at every step and gets slower, and the vanilla cell gains next to nothing.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = cell == "lstm" and _cpu_computes_bfloat16()
    return "bfloat16" if native else "float32"


def mixed(device: torch.device, precision: str, *, cache: bool = True) -> torch.autocast:
    """Inside it products are of bfloat16 numbers if the precision says so; the weights stay float32.

    Args:
        device: where.
        precision: a settled one.
        cache: whether weights are shortened once for all of their products.
    """
    short = dtype_of(precision) != torch.float32
    return torch.autocast(device.type, torch.bfloat16, enabled=short, cache_enabled=cache)


def dtype_of(precision: str) -> torch.dtype:
    """What numbers the products of a settled precision take."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _cpu_computes_bfloat16() -> bool:
    """Whether the CPU has bfloat16 instructions (AVX-512 BF16 or AMX); False if PyTorch cannot tell."""
    probe: Callable[[], Mapping[str, object]] = getattr(torch.cpu, "get_capabilities", dict)
    capabilities = probe()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))
